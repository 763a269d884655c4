"""Masks stored as image files: grey levels, and the rule that makes foreground of them.

A mask is a PNG or TIFF of one channel with 8 bits or 1 bit, or of colours that are greys (equal channels, a palette of
greys). Refused are other colours, pixels that are not opaque, and every file that `images.py` refuses.

There are two rules. By default a mask has exactly two levels, 0 and 255 or 0 and 1, and foreground is the upper one.
With a threshold, foreground is what lies above it: the loaders of FIANet and its relatives use `ABOVE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_bench.data.pixels.images import read_pixels
from rrsis_bench.errors import UserError

ABOVE = 50
"""Threshold for RefSegRS and RISBench, whose files hold 0 and 255."""

FORMATS = ("TIFF", "PNG")

_LEVELS = ({0, 255}, {0, 1})
_BLOCK = 2**22  # pixels
_ADVICE = "Save it as one channel of 8 bits with the levels 0 and 255."


def read_levels(path: str | Path) -> np.ndarray:
    """Decode a mask file to its grey levels, uint8 (H, W); a file of 1 bit gives 0 and 255.

    Raises:
        UserError: the file is missing, damaged, or not a mask of 8 bits.
    """
    return read_pixels(path, "mask", FORMATS, lambda image: _grey(image, path))


def read_mask(path: str | Path, above: int | None = None) -> np.ndarray:
    """Decode a mask file to bool (H, W).

    Args:
        path: the file.
        above: foreground is every level above this one; None: the file must have exactly two levels.

    Raises:
        UserError: as `read_levels`; levels that do not fit the rule; several levels that are all background, such as 0
            and 1 below a threshold of 50, which would otherwise read as an empty mask.
    """
    level_HW = read_levels(path)
    mask_HW: np.ndarray = level_HW > (above or 0)
    problem = "" if above is not None and mask_HW.any() else level_problem(level_HW, above)
    if problem:
        raise UserError(f"The mask {path} {problem}")
    return mask_HW


def level_problem(level_HW: np.ndarray, above: int | None) -> str:
    """Say which levels a mask has instead of one background and one foreground level; empty if it has these."""
    found = np.zeros(256, dtype=bool)
    for rows_HW in _row_blocks(level_HW):
        found[np.unique(rows_HW)] = True
    levels = np.flatnonzero(found).tolist()
    if above is None:
        fits, wanted = any(set(levels) <= allowed for allowed in _LEVELS), "0 and 255, or 0 and 1"
    else:
        n_above = sum(level > above for level in levels)
        fits, wanted = max(n_above, len(levels) - n_above) <= 1, f"one background level and one above {above}"
    if fits:
        return ""
    shown = ", ".join(map(str, levels[:4])) + (" ..." if len(levels) > 4 else "")
    return f"has the grey levels {shown}; expected {wanted}. {_ADVICE}"


def _grey(image: Image.Image, path: str | Path) -> np.ndarray:
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    grey_HW = np.empty((image.height, image.width), dtype=np.uint8)
    for top, rows_HW in zip(range(0, image.height, _rows(image.width)), _row_blocks(grey_HW), strict=True):
        rgba_HW4 = np.asarray(image.crop((0, top, image.width, top + len(rows_HW))).convert("RGBA"))
        if (rgba_HW4[..., 3] != 255).any():
            raise UserError(f"The mask {path} has pixels that are not opaque. {_ADVICE}")
        if (rgba_HW4[..., :3] != rgba_HW4[..., :1]).any():
            raise UserError(f"The mask {path} has colours ({image.mode}). {_ADVICE}")
        rows_HW[:] = rgba_HW4[..., 0]
    return grey_HW


def _rows(width: int) -> int:
    """Return the rows of a block, which bounds the memory of a large mask."""
    return max(1, _BLOCK // width)


def _row_blocks(level_HW: np.ndarray) -> Iterator[np.ndarray]:
    """Yield views of consecutive rows, each of about `_BLOCK` pixels."""
    rows = _rows(level_HW.shape[1])
    for top in range(0, len(level_HW), rows):
        yield level_HW[top : top + rows]
