"""Predict overlapping tiles, each as a frame, and blend their logits in bounded memory.

Logits are averaged, not probabilities, so that a confident tile outweighs an uncertain one. The weights are separable:
their sum over all tiles that cover a pixel is the product of two vectors. Rows are yielded as soon as no later tile
covers them, so at most one row of tiles is in memory.
"""

# T = side of a tile in pixels, K = expressions, X and Y = pixels along a row and a column, P = pixels along either

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rrsis_bench.errors import UserError, reason, unknown
from rrsis_bench.predict.sources.source import Window

BLENDS = ("hann", "mean")
FLOOR = 1e-3
"""Smallest weight. At the border of the image, the edge of a single tile may cover a pixel, and Hann is 0 there."""

# Errors of reading and of models. Interrupts and programming errors of the suite keep their traceback.
_CAUSES = (UserError, ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


class TileError(UserError):
    """A tile could not be predicted."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """Positions of the tiles.

    Attributes:
        height, width: of the image, pixels.
        tile: side of a tile, pixels.
        ys, xs: top rows and left columns of the tiles. The last one of each is moved inwards to end at the border.
    """

    height: int
    width: int
    tile: int
    ys: tuple[int, ...]
    xs: tuple[int, ...]

    @classmethod
    def cover(cls, height: int, width: int, tile: int, overlap: float) -> Tiling:
        """Cover an image.

        Args:
            height: pixels.
            width: pixels.
            tile: side of a tile in pixels.
            overlap: share of a tile's side that the next tile also covers, at least 0 and below 1.

        Raises:
            UserError: a tile without pixels, or an overlap outside its range.
        """
        if tile < 1:
            raise UserError(f"tile={tile} must be at least 1 pixel.")
        if not 0 <= overlap < 1:
            raise UserError(f"overlap={overlap:g} must be at least 0 and below 1.")
        return cls(height, width, tile, starts(height, tile, overlap), starts(width, tile, overlap))

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.ys) * len(self.xs)


def starts(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Return the first pixels of the tiles along one side; one tile if the image is not longer."""
    if length <= tile:
        return (0,)
    step = max(1, round(tile * (1 - overlap)))
    return (*range(0, length - tile, step), length - tile)


def weights(tile: int, blend: str) -> np.ndarray:
    """Return weights along one side of a tile, float32 (tile,): ``hann`` falls to `FLOOR`, ``mean`` is 1."""
    if blend == "mean":
        return np.ones(tile, dtype=np.float32)
    if blend != "hann":
        raise unknown("blend", blend, BLENDS)
    return np.maximum(np.hanning(tile + 2)[1:-1], FLOOR).astype(np.float32)


def cover_sum(places: Sequence[int], length: int, tile: int, weights_T: np.ndarray) -> np.ndarray:
    """Return the summed weights of all tiles over each pixel of one side, float32 (length,)."""
    sum_P = np.zeros(length, dtype=np.float32)
    for place in places:
        end = min(place + tile, length)
        sum_P[place:end] += weights_T[: end - place]
    return sum_P


def blend_tiles(
    tiling: Tiling,
    read: Callable[[Window], tuple[np.ndarray, np.ndarray]],
    logits_of: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    expressions: int,
    *,
    blend: str = "hann",
    batch: int = 4,
    presence_min: float = 0.0,
    absent_logit: float = 0.0,
    on_tiles: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Predict tile by tile and yield complete rows of the blended logits, from top to bottom.

    Args:
        tiling: the tiles.
        read: from a window to its pixels, uint8 (h, w, 3), and which are valid, bool (h, w).
        logits_of: from frames, uint8 (tile, tile, 3), to float32 (K, tile, tile) each.
        expressions: K.
        blend: one of `BLENDS`.
        batch: frames per call of `logits_of`.
        presence_min: a tile has no target if its largest probability over valid pixels is below this.
        absent_logit: the largest logit that such a tile keeps, at or below the cut between background and target.
        on_tiles: called with the number of finished tiles.

    Yields:
        (first row, float32 (K, rows, width)). Pixels that no valid tile covers are 0; all of them are invalid.

    Raises:
        TileError: a tile could not be read or predicted. The message names it.
    """
    height, width, tile = tiling.height, tiling.width, tiling.tile
    weights_T = weights(tile, blend)
    sum_X = cover_sum(tiling.xs, width, tile, weights_T)
    sum_Y = cover_sum(tiling.ys, height, tile, weights_T)
    weights_TT = weights_T[:, None] * weights_T
    held_KHW = np.zeros((expressions, min(tile, height), width), dtype=np.float32)
    for row, y in enumerate(tiling.ys):
        waiting: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        for column, x in enumerate(tiling.xs):
            number = row * len(tiling.xs) + column
            window = Window(x, y, min(tile, width - x), min(tile, height - y))
            with _named_errors(number, len(tiling), window):
                frame_HWC, valid_HW = read(window)
            if valid_HW.any():  # else no logit of the tile is used
                waiting.append((number, x, _padded(frame_HWC, tile), valid_HW))
            elif on_tiles:
                on_tiles(1)
            if len(waiting) == batch or (waiting and column + 1 == len(tiling.xs)):
                _add(held_KHW, waiting, y, tiling, logits_of, weights_TT, presence_min, absent_logit)
                if on_tiles:
                    on_tiles(len(waiting))
                waiting = []
        last = row + 1 == len(tiling.ys)
        done = height - y if last else tiling.ys[row + 1] - y
        yield y, held_KHW[:, :done] / (sum_Y[y : y + done, None] * sum_X)
        if not last:
            held_KHW[:, :-done] = held_KHW[:, done:].copy() if done < held_KHW.shape[1] else 0
            held_KHW[:, -done:] = 0


def _add(
    held_KHW: np.ndarray,
    waiting: Sequence[tuple[int, int, np.ndarray, np.ndarray]],
    y: int,
    tiling: Tiling,
    logits_of: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    weights_TT: np.ndarray,
    presence_min: float,
    absent_logit: float,
) -> None:
    """Add the weighted logits of some tiles of one row."""
    number, x, _, valid_HW = waiting[0]
    window = Window(x, y, valid_HW.shape[1], valid_HW.shape[0])
    frames = [frame_HWC for _, _, frame_HWC, _ in waiting]
    with _named_errors(number, len(tiling), window, len(waiting)):
        found = logits_of(frames)
    for (_, x, _, valid_HW), logits_KTT in zip(waiting, found, strict=True):
        h, w = valid_HW.shape
        logits_KHW = logits_KTT[:, :h, :w]
        if presence_min > 0:
            largest_K = logits_KHW.max((1, 2), where=valid_HW, initial=-np.inf)
            absent_K = largest_K < math.log(presence_min / (1 - presence_min))
            logits_KHW = np.where(absent_K[:, None, None], np.minimum(logits_KHW, absent_logit), logits_KHW)
        held_KHW[:, :h, x : x + w] += logits_KHW * weights_TT[:h, :w]


@contextmanager
def _named_errors(number: int, tiles: int, window: Window, count: int = 1) -> Iterator[None]:
    """Add the number and position of a tile, or the first of several, to an error."""
    try:
        yield
    except _CAUSES as error:
        which = f"{number + 1}" if count == 1 else f"{number + 1} to {number + count}"
        raise TileError(
            f"Tile {which} of {tiles} (x {window.x}, y {window.y}, {window.width} x {window.height} pixels) failed: "
            f"{reason(error)} Nothing was written."
        ) from error


def _padded(frame_HWC: np.ndarray, tile: int) -> np.ndarray:
    """Return the frame at the tile's size. A smaller image is continued by reflection."""
    height, width = frame_HWC.shape[:2]
    return np.pad(frame_HWC, ((0, tile - height), (0, tile - width), (0, 0)), mode="symmetric")
