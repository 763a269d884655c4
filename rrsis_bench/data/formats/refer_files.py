"""RRSIS-D's files on disk, in the layout of the REFER API: paths, messages, and reading without judgement.

`rrsisd.py` reads them strictly for a run; `verify.py` reads them tolerantly and lists every defect.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rrsis_bench.data.formats.directory_tree import require_present
from rrsis_bench.data.formats.index_cache import collector_paused
from rrsis_bench.data.formats.unpickle import load_plain_pickle
from rrsis_bench.errors import UserError

CATEGORIES = (
    "Expressway-Service-area", "Expressway-toll-station", "airplane", "airport", "baseballfield", "basketballcourt",
    "bridge", "chimney", "dam", "golffield", "groundtrackfield", "harbor", "overpass", "ship", "stadium", "storagetank",
    "tenniscourt", "trainstation", "vehicle", "windmill",
)  # fmt: skip
"""RRSIS-D's twenty category names as its instances.json spells them, in the order of their ids."""

LAYOUT = """\
<root>/
├── rrsisd/
│   ├── refs(unc).p          one pickled list of references
│   └── instances.json       images, annotations, categories
└── images/
    └── rrsisd/
        └── JPEGImages/
            └── 00000.jpg ...   one per reference
"""


def refs_path(root: Path) -> Path:
    """The pickle that lists the references."""
    return root / "rrsisd" / "refs(unc).p"


def instances_path(root: Path) -> Path:
    """The JSON with images, annotations and categories."""
    return root / "rrsisd" / "instances.json"


def images_dir(root: Path) -> Path:
    """The folder of pictures."""
    return root / "images" / "rrsisd" / "JPEGImages"


def require_layout(root: Path) -> None:
    """UserError where files are missing; see `require_present`."""
    wanted = (refs_path(root), instances_path(root), images_dir(root))
    source = (
        "Hugging Face dataset 'VoyageWang/rrsis-d' (JPEGImages.zip, instances.json, refs(unc).p), or the links in the "
        "README of github.com/Lsan2401/RMSIN"
    )
    require_present("RRSIS-D", root, wanted, source, LAYOUT)


def read_refs(root: Path) -> list[dict[str, Any]]:
    """Read the list of references; raises UserError for an unsafe, damaged or differently shaped file."""
    return read_refs_file(refs_path(root), "RRSIS-D's refs(unc).p")


def read_refs_file(path: Path, what: str) -> list[dict[str, Any]]:
    """Read a list of references from any dataset's pickle; `what` names the file that it should be.

    Raises:
        UserError: the file is missing, unsafe, damaged or differently shaped.
    """
    with collector_paused():
        refs = load_plain_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise UserError(f"{path} does not hold a list of references (dicts). Is it {what}?")
    return refs


def read_instances(root: Path) -> dict[str, Any]:
    """Read images, annotations and categories; raises UserError for a damaged or differently shaped file."""
    return read_instances_file(instances_path(root), "RRSIS-D's instances.json")


def read_instances_file(path: Path, what: str) -> dict[str, Any]:
    """Read images, annotations and categories from any dataset's JSON; `what` names the file that it should be.

    Raises:
        UserError: the file is missing, damaged or differently shaped.
    """
    try:
        with open(path, encoding="utf-8") as file, collector_paused():
            instances = json.load(file)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise UserError(f"{path} is truncated or not JSON ({error}). Fetch the file again.") from None
    if not isinstance(instances, dict):
        raise UserError(f"{path} does not hold 'images', 'annotations' and 'categories'.")
    for key in ("images", "annotations", "categories"):
        if not isinstance(instances.get(key), list) or not all(isinstance(row, dict) for row in instances[key]):
            raise UserError(f"{path} has no list of records under '{key}'. Is it {what}?")
    return instances


def sample_id_of(ref_id: int) -> str:
    """The suite's id of a reference, stable and sortable."""
    return f"{ref_id:05d}"


def language_of(expression: str) -> str:
    """``"zh"`` for a text with Chinese characters, else ``"en"``."""
    if expression.isascii():
        return "en"
    return "zh" if _CHINESE.search(expression) else "en"


def words_of(expression: str) -> list[str]:
    """What stands between spaces; of Chinese, each character."""
    return _WORD.findall(expression)


_CHINESE = re.compile("[\u4e00-\u9fff]")
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+")


def annotation_category(annotation: dict[str, Any]) -> Any:
    """The category id of an annotation: RRSIS-D spells the key ``categories_id`` (sic)."""
    return annotation.get("categories_id", annotation.get("category_id"))


def category_names_of(instances: dict[str, Any]) -> dict[int, str]:
    """Category id -> name, in the order of the ids."""
    return {int(row["id"]): str(row["name"]) for row in sorted(instances["categories"], key=lambda row: int(row["id"]))}
