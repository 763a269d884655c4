"""The files of an own dataset: what is needed, and what lies below its folder; `custom.py` describes the format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rrsis_bench.data.formats import SPLITS
from rrsis_bench.errors import UserError

LAYOUT = """\
<root>/
├── train.jsonl          one sample per line; see rrsis_bench/data/formats/custom/dataset.py
├── val.jsonl
├── test.jsonl
├── images/              any folder: the lines name the files
│   └── 0001.png ...
└── masks/               only where a line's mask is a PNG
    └── 0001.png ...
"""


_OUTSIDE = "lies outside the dataset's folder (by a symbolic link): put the file itself there"


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, from 1.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None


def split_path(root: Path, split: str) -> Path:
    """The JSON Lines file of a split."""
    return root / f"{split}.jsonl"


def require_files(root: Path) -> None:
    """Raise one UserError that says what is missing and what the folder should look like."""
    missing = [str(split_path(root, split)) for split in SPLITS if not split_path(root, split).is_file()]
    if missing:
        raise UserError(
            f"No own dataset was found in {root}. Missing: {', '.join(missing)}.\n\n"
            f"The layout is:\n\n{LAYOUT}\n"
            "It lies elsewhere? Name that folder: data.root=/path/to/it (the data verbs take --root). A known dataset\n"
            "is brought into this form by: rrsis-bench data convert FORMAT --root R --to custom --out DIR"
        )


class Folders:
    """Which files lie below a root; each folder is listed once."""

    def __init__(self, root: Path):
        self.root = root
        self._real_root = root.resolve()
        self._names: dict[str, dict[str, bool] | None] = {}

    def problem(self, name: str) -> str:
        """What is wrong with a path relative to the root: an empty text where it is a file inside it."""
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
        """File name -> whether it is a symbolic link; None for a folder outside the root."""
        path = (self.root / folder).resolve()
        if not path.is_relative_to(self._real_root):
            return None
        try:
            with os.scandir(path) as entries:
                return {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
        except OSError:
            return {}
