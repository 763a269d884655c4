"""The one message for a dataset's folder that lacks files."""

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
        source: where to get the dataset.
        tree: the expected files, with ``<root>`` for the folder.

    Raises:
        UserError: what is missing, where to get it, where to put it and how to name another folder.
    """
    missing = [path for path in wanted if not path.exists()]
    if not missing:
        return
    listed = "\n".join(f"  {path}" for path in missing)
    raise UserError(
        f"{title} was not found in {root}. Missing:\n{listed}\n\n"
        f"Where to get it: {source}.\nWhere to put it (<root> is {root}):\n\n{tree}\n"
        "If it is in another folder, set data.root=/path/to/it (or --data-root for the data verbs)."
    )
