"""Tile mode: overlapping tiles, each a frame of its own, blended to one map of logits in bounded memory.

Logits are averaged, not probabilities: a tile that is sure outweighs one that is not. The weights are separable, so
their sum over all tiles that cover a pixel is the product of two vectors. Rows are handed on as soon as no later tile
touches them; at most one row of tiles is held at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.source import Window

BLENDS = ("hann", "mean")
FLOOR = 1e-3
"""Smallest weight: at the border of the image a pixel may be covered by the edge of a single tile, where Hann is 0."""

# What reading and models raise; a keyboard interrupt or a wrong attribute in the suite's own code is none of it.
_CAUSES = (UserError, ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


class TileError(UserError):
    """A tile that could not be predicted; nothing is written."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where the tiles lie.

    Attributes:
        height, width: of the image, pixels.
        tile: side of a tile, pixels.
        ys, xs: top rows and left columns of the tiles; the last one of each is shifted inwards to end at the border.
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
            overlap: share of a tile's side that the next one covers too, at least 0 and below 1.

        Raises:
            UserError: a tile without pixels, or an overlap outside its range.
        """
        if tile < 1:
            raise UserError(f"A tile needs at least one pixel, not {tile}.")
        if not 0 <= overlap < 1:
            raise UserError(f"The overlap of tiles must be at least 0 and below 1, not {overlap:g}.")
        return cls(height, width, tile, starts(height, tile, overlap), starts(width, tile, overlap))

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.ys) * len(self.xs)


def starts(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    """First pixels of the tiles along one side; one tile where the image is not longer than it."""
    if length <= tile:
        return (0,)
    step = max(1, round(tile * (1 - overlap)))
    return (*range(0, length - tile, step), length - tile)


def weights(tile: int, blend: str) -> np.ndarray:
    """Weights along one side of a tile, float32 (tile,): ``hann`` falls to `FLOOR` at the ends, ``mean`` is 1."""
    if blend == "mean":
        return np.ones(tile, dtype=np.float32)
    if blend != "hann":
        raise UserError(f"Tiles are blended by one of {', '.join(BLENDS)}, not '{blend}'.")
    return np.maximum(np.hanning(tile + 2)[1:-1], FLOOR).astype(np.float32)


def cover_sum(places: Sequence[int], length: int, tile: int, weights_T: np.ndarray) -> np.ndarray:
    """Sum of the weights of all tiles over each pixel of one side, float32 (length,)."""
    sum_P = np.zeros(length, dtype=np.float32)
    for place in places:
        end = min(place + tile, length)
        sum_P[place:end] += weights_T[: end - place]
    return sum_P


def blend_tiles(
    tiling: Tiling,
    read: Callable[[Window], tuple[np.ndarray, np.ndarray]],
    logits_of: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    sentences: int,
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
        read: a window inside the image -> uint8 (h, w, 3) and bool (h, w), which pixels are valid.
        logits_of: frames, uint8 (tile, tile, 3) -> float32 (K, tile, tile) each, K sentences.
        sentences: K.
        blend: one of `BLENDS`.
        batch: frames per call of `logits_of`.
        presence_min: tiles whose largest probability for a sentence, over valid pixels, is below hold no target.
        absent_logit: the largest logit that such a tile keeps; at or below the cut between background and target.
        on_tiles: called with the number of tiles done.

    Yields:
        (first row, float32 (K, rows, width)). What no valid tile covers is 0; it lies on invalid pixels.

    Raises:
        TileError: a tile could not be read or predicted; names it.
    """
    height, width, tile = tiling.height, tiling.width, tiling.tile
    weights_T = weights(tile, blend)
    sum_X = cover_sum(tiling.xs, width, tile, weights_T)
    sum_Y = cover_sum(tiling.ys, height, tile, weights_T)
    weights_TT = weights_T[:, None] * weights_T
    held_KHW = np.zeros((sentences, min(tile, height), width), dtype=np.float32)
    for row, y in enumerate(tiling.ys):
        waiting: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        for column, x in enumerate(tiling.xs):
            number = row * len(tiling.xs) + column
            window = Window(x, y, min(tile, width - x), min(tile, height - y))
            frame_HWC, valid_HW = _named(number, len(tiling), window, lambda window=window: read(window))
            if valid_HW.any():  # else every pixel of it is invalid, and no logit of it is ever looked at
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
    found = _named(number, len(tiling), window, lambda: logits_of(frames), len(waiting))
    for (_, x, _, valid_HW), logits_KTT in zip(waiting, found, strict=True):
        h, w = valid_HW.shape
        logits_KHW = logits_KTT[:, :h, :w]
        if presence_min > 0:
            largest_K = logits_KHW.max((1, 2), where=valid_HW, initial=-np.inf)
            absent_K = largest_K < math.log(presence_min / (1 - presence_min))
            logits_KHW = np.where(absent_K[:, None, None], np.minimum(logits_KHW, absent_logit), logits_KHW)
        held_KHW[:, :h, x : x + w] += logits_KHW * weights_TT[:h, :w]


def _named(number: int, tiles: int, window: Window, call: Callable, count: int = 1):
    """Run `call`; an error is raised anew with the tile's number and place."""
    which = f"{number + 1}" if count == 1 else f"{number + 1} to {number + count}"
    try:
        return call()
    except _CAUSES as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TileError(
            f"Tile {which} of {tiles} (x {window.x}, y {window.y}, {window.width} x {window.height} pixels) failed: "
            f"{reason} Nothing was written."
        ) from error


def _padded(frame_HWC: np.ndarray, tile: int) -> np.ndarray:
    """The frame at the tile's size; a smaller image is continued by reflection."""
    height, width = frame_HWC.shape[:2]
    if (height, width) == (tile, tile):
        return frame_HWC
    return np.pad(frame_HWC, ((0, tile - height), (0, tile - width), (0, 0)), mode="symmetric")
