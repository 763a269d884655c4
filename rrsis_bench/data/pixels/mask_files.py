"""Masks stored as pictures whose foreground is what lies above a grey level (RefSegRS, RISBench).

Read are one channel of 8 bits or 1 bit, and colours that are greys: equal channels, or a palette of them. Colours, and
pixels that are not opaque, are refused, and so is what `images.py` refuses for every picture: more than 8 bits per
channel, damaged or too large files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_bench.data.pixels.images import read_pixels
from rrsis_bench.errors import UserError

LEVEL = 50
"""Foreground is what lies above (the loaders of FIANet and its relatives); the files hold 0 and 255."""

FORMATS = ("TIFF", "PNG")


def read_levels(path: str | Path) -> np.ndarray:
    """Decode a mask file completely to its grey levels, uint8 (H, W); a file of 1 bit gives 0 and 255.

    Raises:
        UserError: the file is missing, damaged, or no mask of 8 bits, with its name.
    """
    return read_pixels(path, "mask", FORMATS, lambda image: _grey(image, path))


def read_mask(path: str | Path) -> np.ndarray:
    """Decode a mask file to bool (H, W): foreground lies above `LEVEL`.

    Raises:
        UserError: as `read_levels`; also for a mask of several levels that are all background, such as 0 and 1, which
            would silently be an empty one.
    """
    level_HW = read_levels(path)
    mask_HW = level_HW > LEVEL
    if not mask_HW.any() and level_HW.min() != level_HW.max():
        raise UserError(
            f"The mask {path} has grey levels up to {level_HW.max()}, and foreground lies above {LEVEL}. "
            "Save it as one channel of 0 and 255."
        )
    return mask_HW


def _grey(image: Image.Image, path: str | Path) -> np.ndarray:
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    rgba_HW4 = np.asarray(image.convert("RGBA"))
    if (rgba_HW4[..., 3] != 255).any():
        raise UserError(f"The mask {path} has pixels that are not opaque. Save it as one channel of 0 and 255.")
    if (rgba_HW4[..., :3] != rgba_HW4[..., :1]).any():
        raise UserError(f"The mask {path} has colours ({image.mode}). Save it as one channel of 0 and 255.")
    return np.ascontiguousarray(rgba_HW4[..., 0])
