"""Reading pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rrsis_bench.errors import UserError


def read_rgb(path: str | Path) -> np.ndarray:
    """Decode a picture completely to uint8 (H, W, 3), RGB.

    Raises:
        UserError: the file is missing, empty, truncated or no picture, with its name.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"The picture {path} is missing.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The picture {path} cannot be decoded ({error}). Fetch the file again.") from None


def resize_bilinear(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) to uint8 (3, side, side): Pillow's bilinear, antialiased, aspect ratio not kept.

    The rule of the LAVT family: torchvision's ``F.resize`` on a PIL image calls the same function.
    """
    image = Image.fromarray(image_HWC)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
