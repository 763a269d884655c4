"""Synthetic scenes in the layouts of RefSegRS and RISBench: pictures and masks as lossless files, phrases as text."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rrsis_bench.data.formats.file_list import REFSEGRS, RISBENCH, PhraseLayout, phrases_path
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.synthetic.spec import SPLITS

if TYPE_CHECKING:
    from rrsis_bench.synthetic.writer import Part


def encode_tiff(image_HW3: np.ndarray) -> bytes:
    """Return the TIFF file of a uint8 picture, (H, W, 3) or (H, W), without loss."""
    return _encode(image_HW3, "TIFF", compression="tiff_lzw")


def encode_png(image_HW3: np.ndarray) -> bytes:
    """Return the PNG file of a uint8 picture, (H, W, 3) or (H, W)."""
    return _encode(image_HW3, "PNG")


def write_refsegrs(parts: Iterable[Part], root: Path) -> None:
    """Write RefSegRS's layout below `root`.

    A name stands for one picture and one mask: expressions of a scene that denote the same share it, others have a
    copy of the picture under a name of their own. Names are numbers over all splits.
    """
    writer = _Writer(REFSEGRS, root)
    names: dict[tuple[str, int, str], str] = {}
    for part in parts:
        key = (part.split, part.scene, part.rle)
        new = key not in names
        name = names.setdefault(key, str(len(names) + 1))
        writer.add(part, name, encode_tiff(_mask(part)) if new else None)
    writer.close()


def write_risbench(parts: Iterable[Part], root: Path) -> None:
    """Write RISBench's layout below `root`: ``{split}_{scene}_{number}.png``, the picture once per expression."""
    writer = _Writer(RISBENCH, root)
    numbers: Counter[tuple[str, int]] = Counter()
    for part in parts:
        number = numbers[part.split, part.scene]
        numbers[part.split, part.scene] += 1
        writer.add(part, f"{part.split}_{part.scene}_{number}.png", encode_png(_mask(part)))
    writer.close()


class _Writer:
    """Writes files as parts come, and the phrases at the end: every split has its text file, if an empty one."""

    def __init__(self, layout: PhraseLayout, root: Path):
        self._layout, self._root = layout, root
        self._lines: dict[str, list[str]] = {split: [] for split in SPLITS}
        (root / layout.images).mkdir(parents=True)
        (root / layout.masks).mkdir()

    def add(self, part: Part, name: str, mask: bytes | None) -> None:
        """Add a part's line and, where the mask's file is given, its files."""
        self._lines[part.split].append(f"{name} {part.text}\n")
        if mask is not None:
            self._layout.image(self._root, name).write_bytes(part.picture)
            self._layout.mask(self._root, name).write_bytes(mask)

    def close(self) -> None:
        """Write the text files."""
        for split, lines in self._lines.items():
            phrases_path(self._root, split).write_text("".join(lines), encoding="utf-8", newline="\n")


def _mask(part: Part) -> np.ndarray:
    """The target as grey levels, uint8 0/255 (H, W)."""
    mask_HW = masks.decode({"size": list(part.size), "counts": part.rle.encode("ascii")})
    return mask_HW.astype(np.uint8) * np.uint8(255)


def _encode(pixels: np.ndarray, fmt: str, **options: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt, **options)
    return buffer.getvalue()
