"""Which files are below the folder of a custom dataset."""

from __future__ import annotations

import os
from pathlib import Path

_OUTSIDE = "is outside the dataset's folder (by a symbolic link). Put the file itself there"


class Folders:
    """The files below a root; each folder is listed once."""

    def __init__(self, root: Path):
        self.root = root
        self._real_root = root.resolve()
        self._names: dict[str, dict[str, bool] | None] = {}

    def problem(self, name: str) -> str:
        """Return what is wrong with a path relative to the root; empty for a file inside it."""
        folder, _, base = name.rpartition("/")
        if folder not in self._names:
            self._names[folder] = self._list(folder)
        names = self._names[folder]
        if names is None:
            return _OUTSIDE
        if base not in names:
            return "is missing"
        if names[base] and not (self.root / name).resolve().is_relative_to(self._real_root):
            return _OUTSIDE
        return ""

    def _list(self, folder: str) -> dict[str, bool] | None:
        """Return file name -> whether it is a symbolic link; None for a folder outside the root."""
        path = (self.root / folder).resolve()
        if not path.is_relative_to(self._real_root):
            return None
        try:
            with os.scandir(path) as entries:
                return {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
        except OSError:  # no such folder: its files are reported as missing
            return {}
