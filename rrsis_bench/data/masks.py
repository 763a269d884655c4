"""Masks: compressed run-length encoding (COCO's), and the resize that the training target takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

Rle = dict[str, Any]  # {"size": [H, W], "counts": bytes}


def normalise_rle(segmentation: object) -> Rle:
    """Bring an annotation's segmentation to one RLE dict with bytes.

    Args:
        segmentation: a compressed RLE dict (``counts`` str or bytes), or a list that holds exactly one.

    Raises:
        ValueError: it is anything else, with the reason.
    """
    if isinstance(segmentation, list):
        if len(segmentation) != 1:
            raise ValueError(f"segmentation lists {len(segmentation)} masks, expected one")
        segmentation = segmentation[0]
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= set(segmentation):
        raise ValueError("segmentation is not a run-length encoding with 'size' and 'counts'")
    counts, size = segmentation["counts"], segmentation["size"]
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError("run-length counts hold characters that are not ASCII") from None
    if not isinstance(counts, bytes):
        raise ValueError(f"run-length counts are {type(counts).__name__}, expected a compressed string")
    if not (
        isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise ValueError(f"mask size {size!r} is not [height, width]")
    return {"size": [int(size[0]), int(size[1])], "counts": counts}


def run_lengths(counts: bytes) -> list[int]:
    """Unpack compressed counts to run lengths, background first, in column-major order.

    Each number is written in 5-bit groups, least significant first, as ``chr(48 + group)`` with 32 added where more
    follow; from the fourth number on it is the difference to the number two places before.

    Raises:
        ValueError: a character outside the alphabet, a number cut off at the end, or a negative run.
    """
    runs: list[int] = []
    value = shift = 0
    for char in counts:
        group = char - 48
        if not 0 <= group < 64:
            raise ValueError(f"run-length counts hold the byte {char}")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            raise ValueError("run-length counts hold a negative run")
        runs.append(value)
        value = shift = 0
    if shift:
        raise ValueError("run-length counts end within a number")
    return runs


def check_rle(rle: Rle) -> list[int]:
    """Return the run lengths; raises ValueError unless they cover the mask's H x W pixels exactly."""
    height, width = rle["size"]
    runs = run_lengths(rle["counts"])
    if sum(runs) != height * width:
        raise ValueError(f"run lengths cover {sum(runs)} pixels of a {height} x {width} mask")
    return runs


def decode(rle: Rle) -> np.ndarray:
    """Decode to bool (H, W).

    Not left to pycocotools, which returns uninitialised pixels where the counts end before the mask does.

    Raises:
        ValueError: the counts do not describe a mask of that size.
    """
    height, width = rle["size"]
    runs = check_rle(rle)
    foreground = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(foreground, runs).reshape(width, height).T)


def area(rle: Rle) -> int:
    """Number of foreground pixels, without decoding."""
    return int(coco.area(rle))


def encode(mask_HW: np.ndarray) -> Rle:
    """Encode a bool (H, W) mask; ``counts`` is bytes (``.decode("ascii")`` for JSON)."""
    rle = coco.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": bytes(rle["counts"])}


def resize_nearest(mask_HW: np.ndarray, side: int) -> np.ndarray:
    """Resize a bool (H, W) mask to uint8 0/1 (side, side) with Pillow's NEAREST.

    This is the rule of the LAVT family (torchvision's ``F.resize`` on a PIL image): output pixel i takes the input
    pixel under its centre, ``floor((i + 0.5) * H / side)``. `torch.nn.functional.interpolate(mode="nearest")` takes
    ``floor(i * H / side)`` and lies up to half an output pixel beside it. A centre on the border of two pixels falls as
    Pillow rounds.
    """
    image = Image.fromarray(np.ascontiguousarray(mask_HW, dtype=np.uint8))
    return np.asarray(image.resize((side, side), Image.Resampling.NEAREST))
