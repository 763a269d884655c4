"""The common part of writing synthetic scenes as RefSegRS and RISBench: images, masks and list files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from rrsis_bench.data.formats.file_list import FileListFormat, list_path
from rrsis_bench.data.formats.index import SPLITS
from rrsis_bench.data.formats.scenes import SceneSample


class FileListWriter:
    """A context manager that writes images and masks as they come, and the list files at the end."""

    def __init__(self, form: FileListFormat, root: Path, encode: Callable[[np.ndarray], bytes]):
        self._form, self._root, self._encode = form, root, encode
        self._lines: dict[str, list[str]] = {split: [] for split in SPLITS}

    def __enter__(self) -> Self:
        (self._root / self._form.images).mkdir(parents=True)
        (self._root / self._form.masks).mkdir()
        return self

    def add(self, sample: SceneSample, name: str, *, new: bool) -> None:
        """Add a sample's line and, for a new name, its image and its mask of 0 and 255."""
        self._lines[sample.split].append(f"{name} {sample.text}\n")
        if new:
            self._form.image(self._root, name).write_bytes(sample.image)
            level_HW = sample.decode(sample.rle).astype(np.uint8) * np.uint8(255)
            self._form.mask(self._root, name).write_bytes(self._encode(level_HW))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for split, lines in self._lines.items():
                list_path(self._root, split).write_text("".join(lines), encoding="utf-8", newline="\n")
