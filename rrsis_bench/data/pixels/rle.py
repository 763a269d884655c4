"""Masks: compressed run-length encoding (COCO's), and the resize that the training target takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

Rle = dict[str, Any]  # {"size": [H, W], "counts": bytes}

_MAX_GROUPS = 7  # of 5 bits: 34 bits and a sign, beyond any mask; the sums of such numbers fit int64


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


def run_lengths(counts: bytes) -> np.ndarray:
    """Unpack compressed counts to run lengths, background first, in column-major order.

    Each number is written in 5-bit groups, least significant first, as ``chr(48 + group)`` with 32 added where more
    follow; from the fourth number on it is the difference to the number two places before.

    Returns:
        int64 (R,).

    Raises:
        ValueError: a character outside the alphabet, a number cut off at the end or too long, or a negative run.
    """
    groups_M = np.frombuffer(counts, dtype=np.uint8) - np.uint8(48)  # what lies below 48 wraps around to above 63
    strange_M = groups_M > 63
    if strange_M.any():
        raise ValueError(f"run-length counts hold the byte {counts[int(strange_M.argmax())]}")
    last_R = np.flatnonzero(groups_M < 32)
    if len(last_R) == 0 or last_R[-1] != len(groups_M) - 1:
        if len(groups_M):
            raise ValueError("run-length counts end within a number")
        return np.zeros(0, dtype=np.int64)
    width_R = np.diff(last_R, prepend=-1)
    if width_R.max() > _MAX_GROUPS:
        raise ValueError(f"run-length counts hold a number of {width_R.max()} groups")
    # The most significant group carries the sign; the ones before it are added from the top down.
    runs_R = (groups_M[last_R].astype(np.int64) ^ 16) - 16
    for place in range(1, int(width_R.max())):
        longer_R = np.flatnonzero(width_R > place)
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
    return np.asarray(line.resize((side, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
