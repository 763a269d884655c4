"""The one message for a dataset's folder that lacks files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rrsis_bench.errors import UserError


class Names:
    """The files of a folder, found by the names that a list gives them.

    An archive may have been unpacked into a folder of its own: then the files are one folder deeper. A list may name
    files with other capitals, with or without the suffix, with the folder before the name, or with backslashes.

    Attributes:
        folder: the folder with the files.
        present: their names.
    """

    def __init__(self, folder: Path):
        self._listed = folder.name
        self.folder = folder
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith((".", "__MACOSX"))]
        if len(entries) == 1 and entries[0].is_dir():
            self.folder = Path(entries[0].path)
        self.present = set(os.listdir(self.folder))
        self._folded: dict[str, str | None] = {}
        for name in self.present:
            key = name.casefold()
            self._folded[key] = None if key in self._folded else name  # None: two files differ in capitals alone

    def find(self, name: str, suffix: str = "") -> str | None:
        """Return the file that a list means by `name`, or None if there is none or there are several."""
        if name + suffix in self.present:
            return name + suffix
        before, _, base = name.replace("\\", "/").rpartition("/")
        if before and before.rpartition("/")[2] not in (self._listed, self.folder.name):
            return None
        for candidate in (base + suffix, base):
            found = candidate if candidate in self.present else self._folded.get(candidate.casefold())
            if found is not None:
                return found
        return None

    def missing(self, name: str) -> str:
        """Say what the list names and what the folder holds."""
        some = sorted(self.present)[:3]
        held = f"{len(self.present):,} files such as {', '.join(some)}" if some else "no file"
        return f"{name} is missing in {self.folder}. The list names '{name}', the folder holds {held}"


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
