"""What a dataset's folder must hold, and the one message where it does not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rrsis_bench.errors import UserError


def require_present(title: str, root: Path, wanted: Iterable[Path], source: str, tree: str) -> None:
    """Refuse a folder that lacks files.

    Args:
        title: the dataset's name for a person.
        root: the folder.
        wanted: files and folders that must be there.
        source: where to get the dataset, to follow "Where to get it: ".
        tree: the expected layout, with ``<root>`` for the folder.

    Raises:
        UserError: what is missing, where to get it, where to put it and how to name another folder.
    """
    missing = [path for path in wanted if not path.exists()]
    if not missing:
        return
    listed = "\n".join(f"  {path}" for path in missing)
    raise UserError(
        f"{title} was not found under {root}. Missing:\n{listed}\n\n"
        f"Where to get it: {source}. Where to put it, <root> being {root}:\n\n{tree}\n"
        "It lies elsewhere? Name that folder: data.root=/path/to/it (rrsis-bench data verify takes --root)."
    )
