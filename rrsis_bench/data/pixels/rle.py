"""Masks: compressed run-length encoding (COCO's), and the resize that the training target takes."""

# R = runs of a mask, M = characters of the compressed counts

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from rrsis_bench.data.pixels.images import MAX_PIXELS

Rle = dict[str, Any]  # {"size": [H, W], "counts": bytes}

# At most 7 groups of 5 bits: 34 bits and a sign, beyond any mask. The sums of such numbers fit int64.
_NUMBERS = re.compile(rb"(?:[P-o]{0,6}[0-O])*")


def parse(value: object, size: tuple[int, int] | None = None) -> Rle:
    """Check a run-length encoding as a file holds it, and return it in compressed form.

    Args:
        value: a dict with ``size`` [H, W] and ``counts``, or a list of exactly one such dict. ``counts`` is COCO's
            compressed string (str or bytes), or the plain list of run lengths, background first, in column-major order.
        size: height and width that the mask must have; None: any.

    Raises:
        ValueError: it is anything else, the run lengths do not cover the mask exactly, or the mask has another size or
            more than `MAX_PIXELS`. With the reason.
    """
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f"segmentation lists {len(value)} masks, expected one")
        value = value[0]
    if not isinstance(value, Mapping) or not {"size", "counts"} <= set(value):
        raise ValueError("segmentation is not a run-length encoding with 'size' and 'counts'")
    height, width = parse_size(value["size"])
    if size is not None and size != (height, width):
        raise ValueError(f"its mask is {height} x {width}, expected {size[0]} x {size[1]} (height x width)")
    counts = value["counts"]
    if isinstance(counts, list):
        counts = _compress(counts, height, width)
    elif isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError("run-length counts hold characters that are not ASCII") from None
    if not isinstance(counts, bytes):
        raise ValueError(f"run-length counts are {type(counts).__name__}, expected a string or a list")
    rle = {"size": [height, width], "counts": counts}
    check_rle(rle)
    return rle


def parse_size(size: object) -> tuple[int, int]:
    """Return height and width of a mask's ``size``; raises ValueError with the reason if it is none."""
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise ValueError(f"has the size {size!r}, expected [height, width] in pixels")
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"has {size[0]} x {size[1]} pixels, more than the {MAX_PIXELS:,} that are read")
    return size[0], size[1]


def _compress(runs: list[object], height: int, width: int) -> bytes:
    """Return plain run lengths as a compressed string."""
    pixels = height * width
    numbers = [run for run in runs if type(run) is int and 0 <= run <= pixels]
    if len(numbers) != len(runs):
        raise ValueError(f"run lengths must be whole numbers from 0 to the mask's {pixels} pixels")
    if sum(numbers) != pixels:  # pycocotools would leave the rest of the mask undefined
        raise ValueError(f"run lengths cover {sum(numbers)} pixels of a {height} x {width} mask")
    return bytes(coco.frPyObjects({"size": [height, width], "counts": numbers}, height, width)["counts"])


def run_lengths(counts: bytes) -> np.ndarray:
    """Unpack compressed counts to run lengths, background first, in column-major order.

    Each number is written in 5-bit groups, least significant first, as ``chr(48 + group)``, with 32 added if more
    follow. From the fourth number on it is the difference to the number two places before.

    Returns:
        int64 (R,).

    Raises:
        ValueError: a character outside the alphabet, a number that ends too early or is too long, or a negative run.
    """
    if not _NUMBERS.fullmatch(counts):
        raise ValueError("run-length counts are not in COCO's compressed form")
    if not counts:
        return np.zeros(0, dtype=np.int64)
    groups_M = np.frombuffer(counts, dtype=np.uint8) - np.uint8(48)
    last_R = (groups_M < 32).nonzero()[0]
    width_R = last_R.copy()
    width_R[1:] -= last_R[:-1]
    width_R[0] += 1
    # The most significant group carries the sign; the ones before it are added from the top down.
    runs_R = (groups_M[last_R].astype(np.int64) ^ 16) - 16
    for place in range(1, int(width_R.max())):
        longer_R = (width_R > place).nonzero()[0]
        runs_R[longer_R] = (runs_R[longer_R] << 5) | (groups_M[last_R[longer_R] - place] & 31)
    runs_R[1::2] = runs_R[1::2].cumsum()
    runs_R[2::2] = runs_R[2::2].cumsum()
    if runs_R.min() < 0:
        raise ValueError("run-length counts hold a negative run")
    return runs_R


def check_rle(rle: Rle) -> np.ndarray:
    """Return the run lengths, int64 (R,); raises ValueError unless they cover the mask's H x W pixels exactly."""
    height, width = rle["size"]
    runs_R = run_lengths(rle["counts"])
    if runs_R.sum() != height * width:
        raise ValueError(f"run lengths cover {runs_R.sum()} pixels of a {height} x {width} mask")
    return runs_R


def decode(rle: Rle) -> np.ndarray:
    """Decode to bool (H, W).

    Not left to pycocotools, which returns uninitialised pixels where the counts end before the mask does.

    Raises:
        ValueError: the counts do not describe a mask of that size.
    """
    height, width = rle["size"]
    runs_R = check_rle(rle)
    foreground_R = np.arange(len(runs_R)) % 2 == 1
    return np.ascontiguousarray(np.repeat(foreground_R, runs_R).reshape(width, height).T)


def area(rle: Rle) -> int:
    """Number of foreground pixels, without decoding."""
    return int(coco.area(rle))


def encode(mask_HW: np.ndarray) -> Rle:
    """Encode a bool (H, W) mask; ``counts`` is bytes (``.decode("ascii")`` for JSON)."""
    rle = coco.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": bytes(rle["counts"])}


@dataclass(frozen=True, slots=True)
class Spans:
    """A mask by its stretches of foreground, in column-major order; two masks are equal where their spans are.

    Attributes:
        start_R: int64 (R,), first pixel of each stretch, ascending.
        stop_R: int64 (R,), one past its last pixel; always below the next start.
    """

    start_R: np.ndarray
    stop_R: np.ndarray

    @property
    def area(self) -> int:
        """Foreground pixels."""
        return int(self.stop_R.sum() - self.start_R.sum())


def spans_of_runs(runs_R: np.ndarray) -> Spans:
    """The spans of run lengths (background first); runs of no pixels vanish, whatever way the mask was written."""
    edge_R = runs_R.cumsum()
    stop_R = edge_R[1::2]
    start_R = edge_R[0::2][: len(stop_R)]
    if (runs_R[1:] == 0).any():
        filled_R = stop_R > start_R
        start_R, stop_R = start_R[filled_R], stop_R[filled_R]
        joined_R = np.flatnonzero(start_R[1:] == stop_R[:-1])
        start_R, stop_R = np.delete(start_R, joined_R + 1), np.delete(stop_R, joined_R)
    return Spans(start_R, stop_R)


def spans_of_mask(mask_HW: np.ndarray) -> Spans:
    """The spans of a bool (H, W) mask."""
    pixel_N = np.ascontiguousarray(mask_HW.T).reshape(-1)
    edge_R = np.flatnonzero(pixel_N[1:] != pixel_N[:-1]) + 1
    edge_R = np.concatenate([[0] * int(pixel_N[0]), edge_R, [len(pixel_N)] * int(pixel_N[-1])]).astype(np.int64)
    return Spans(edge_R[0::2], edge_R[1::2])


def overlap(one: Spans, two: Spans) -> int:
    """Pixels that two masks of the same size share, without decoding them."""
    edge_R = np.stack([one.start_R, one.stop_R])
    # How much of `two` lies below each edge: its spans that have ended, and what has begun of the next one.
    ended_R = np.searchsorted(two.stop_R, edge_R, side="right")
    length_R = np.r_[0, (two.stop_R - two.start_R).cumsum()]
    begun_R = edge_R - np.r_[two.start_R, np.iinfo(np.int64).max][ended_R]
    below_R = length_R[ended_R] + np.maximum(begun_R, 0)
    return int(below_R[1].sum() - below_R[0].sum())


def resize_nearest(mask_HW: np.ndarray, side: int) -> np.ndarray:
    """Resize a bool (H, W) mask to uint8 0/1 (side, side) with Pillow's NEAREST.

    This is the rule of the LAVT family (torchvision's ``F.resize`` on a PIL image): output pixel i takes the input
    pixel under its centre, ``floor((i + 0.5) * H / side)``. `torch.nn.functional.interpolate(mode="nearest")` takes
    ``floor(i * H / side)`` and lies up to half an output pixel beside it. A centre on the border of two pixels falls as
    Pillow rounds.
    """
    image = Image.fromarray(np.ascontiguousarray(mask_HW, dtype=np.uint8))
    return np.asarray(image.resize((side, side), Image.Resampling.NEAREST))


def decode_nearest(rle: Rle, side: int) -> np.ndarray:
    """``resize_nearest(decode(rle), side)`` without the mask in between: uint8 0/1 (side, side).

    Raises:
        ValueError: as `decode`.
    """
    height, width = rle["size"]
    runs_R = check_rle(rle)
    foreground_R = (np.arange(len(runs_R)) % 2).astype(np.uint8)
    mask_WH = np.repeat(foreground_R, runs_R).reshape(width, height)
    return np.ascontiguousarray(mask_WH[_nearest(width, side)].T[_nearest(height, side)])


@lru_cache(maxsize=64)
def _nearest(length: int, side: int) -> np.ndarray:
    """The pixel that Pillow's NEAREST takes for each of `side`, int64 (side,): asked of Pillow itself."""
    line = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    chosen_S: np.ndarray = np.asarray(line.resize((side, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
    return chosen_S
