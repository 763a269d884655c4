"""Print the lower bounds of pyproject.toml as pip constraints, ``name==version``."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *(entry for extra in extras.values() for entry in extra)]:
    bound = re.fullmatch(r"([\w-]+)>=([\d.]+)(,<[\d.]+)?", requirement)
    if bound:
        print(f"{bound[1]}=={bound[2]}")
    elif not requirement.startswith("rrsis-bench["):
        raise SystemExit(f"pyproject.toml: '{requirement}' has no lower bound of the form name>=version.")
