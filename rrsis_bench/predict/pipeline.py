"""From an image and expressions to rows of masks, handed to whoever keeps them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from rrsis_bench.data.pixels.images import MAX_PIXELS
from rrsis_bench.errors import UserError
from rrsis_bench.predict.engine import Engine
from rrsis_bench.predict.sources.scaling import Scaling
from rrsis_bench.predict.sources.source import Source, Window
from rrsis_bench.predict.tiles import BLENDS, Tiling, blend_tiles

VIEWS = ("frame", "tile")
LARGE = 4  # a frame this many times larger than the pictures that a model was trained on hides small objects
ROWS = 2048  # of a frame that are thresholded and written at a time
# Bytes held per pixel and expression while rows of tiles are blended: the sum, its quotient, probability and mask.
_BYTES_PER_LOGIT = 14
_BYTES_PER_TILE_LOGIT = 8  # and for the tiles of a forward pass: as they come, and stacked


@dataclass(frozen=True, slots=True)
class Options:
    """How to predict.

    Attributes:
        view: ``frame`` shows the model the whole image at once, as in evaluation; ``tile`` shows it tile by tile.
        tile: side of a tile in pixels.
        overlap: share of a tile that its neighbour covers too, below 1.
        blend: how overlapping tiles are averaged: ``hann`` or ``mean``.
        batch: tiles per forward pass.
        presence_min: a tile whose largest probability for an expression is below holds no target of it.
        threshold: probability above which a pixel belongs to the mask.
        max_memory: bytes that blended rows may take; more expressions are predicted in several passes.
    """

    view: str = "frame"
    tile: int = 0
    overlap: float = 0.25
    blend: str = "hann"
    batch: int = 4
    presence_min: float = 0.0
    threshold: float = 0.5
    max_memory: int = 2 * 2**30

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise UserError(f"view={self.view} is not one of: {', '.join(VIEWS)}.")
        if self.blend not in BLENDS:
            raise UserError(f"blend={self.blend} is not one of: {', '.join(BLENDS)}.")
        if self.batch < 1:
            raise UserError(f"batch={self.batch} must be at least 1.")
        if not 0 < self.threshold < 1:
            raise UserError(f"threshold={self.threshold:g} must lie between 0 and 1.")
        if not 0 <= self.presence_min < 1:
            raise UserError(f"presence-min={self.presence_min:g} must be at least 0 and below 1.")
        if self.view == "tile":
            Tiling.cover(1, 1, self.tile, self.overlap)


@dataclass(frozen=True)
class Rows:
    """Complete rows of one expression.

    Attributes:
        expression: its number.
        row: the first row.
        mask_HW: bool, False where the image holds no data.
        logits_HW: float32.
        valid_HW: bool, where the image holds data.
    """

    expression: int
    row: int
    mask_HW: np.ndarray
    logits_HW: np.ndarray
    valid_HW: np.ndarray

    @cached_property
    def prob_HW(self) -> np.ndarray:
        """Probabilities, float32; computed where somebody asks for all of them."""
        return probability(self.logits_HW)


def probability(logits: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits))


class Sink(Protocol):
    """Keeps rows; each expression's come in order, from top to bottom."""

    def add(self, rows: Rows) -> None:
        """Take in rows."""


def predict(
    source: Source,
    engine: Engine,
    expressions: int,
    options: Options,
    scaling: Scaling,
    sinks: Sequence[Sink],
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Predict all expressions that `engine` has read and hand their rows to every sink.

    Args:
        source: the image.
        engine: after `Engine.read`.
        expressions: how many.
        options: frame or tiles, and the threshold.
        scaling: decided for the whole image.
        sinks: what keeps the rows.
        on_step: called with steps done, of `steps` in all.

    Raises:
        UserError: an image too large for one frame, without a valid pixel, a tile that failed, or a model that gives
            no numbers.
    """
    cut = _cut(options)
    for expression, row, logits_HW, valid_HW in _logits(source, engine, expressions, options, scaling, on_step):
        if np.isnan(logits_HW.max()):
            raise UserError(
                f"The model gives values that are no numbers (NaN) on {source.name}: its weights or its precision are "
                "at fault. Nothing was written."
            )
        rows = Rows(expression, row, (logits_HW > cut) & valid_HW, logits_HW, valid_HW)
        for sink in sinks:
            sink.add(rows)


def steps(source: Source, expressions: int, options: Options) -> int:
    """Steps that `predict` reports: expressions in frame mode, tiles (once per pass) in tile mode."""
    if options.view == "frame":
        return expressions
    tiling = Tiling.cover(source.height, source.width, options.tile, options.overlap)
    return len(tiling) * len(passes(source, expressions, options))


def passes(source: Source, expressions: int, options: Options) -> list[range]:
    """Expressions by number that tile mode predicts together, so that their rows fit into `Options.max_memory`."""
    size = max(1, options.max_memory // row_bytes(source, options))
    return [range(first, min(first + size, expressions)) for first in range(0, expressions, size)]


def row_bytes(source: Source, options: Options) -> int:
    """Bytes that a row of tiles takes per expression."""
    tiling = Tiling.cover(source.height, source.width, options.tile, options.overlap)
    at_once = min(options.batch, len(tiling.xs)) * options.tile**2
    return min(options.tile, source.height) * source.width * _BYTES_PER_LOGIT + at_once * _BYTES_PER_TILE_LOGIT


def _cut(options: Options) -> float:
    """The logit above which a pixel belongs to the mask: 0 at a threshold of 0.5, as in evaluation."""
    return math.log(options.threshold / (1 - options.threshold))


def _logits(
    source: Source,
    engine: Engine,
    expressions: int,
    options: Options,
    scaling: Scaling,
    on_step: Callable[[int], None] | None,
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """(expression, first row, logits (h, w), valid (h, w))."""
    if options.view == "frame":
        if source.height * source.width > MAX_PIXELS:
            raise UserError(
                f"{source.name} has {source.width:,} x {source.height:,} pixels, too many for one frame (at most "
                f"{MAX_PIXELS:,}). Cut an area out with --window or --aoi, or use --view tile."
            )
        valid_HW = source.valid(source.whole)
        if not valid_HW.any():
            raise _nothing(source)
        frames = engine.encode([scaling(source.read(source.whole))])
        for expression in range(expressions):
            logits_HW = engine.logits(frames, expression)[0]
            for row in range(0, source.height, ROWS):
                yield expression, row, logits_HW[row : row + ROWS], valid_HW[row : row + ROWS]
            if on_step:
                on_step(1)
        return

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        return scaling(source.read(window)), source.valid(window)

    tiling = Tiling.cover(source.height, source.width, options.tile, options.overlap)
    # An average of equal logits may come out a rounding higher: below the cut, unless that is 0, which stays exact.
    absent_logit = min(0.0, 1.001 * _cut(options))
    seen = False
    for group in passes(source, expressions, options):

        def logits_of(frames: Sequence[np.ndarray], group: range = group) -> list[np.ndarray]:
            encoded = engine.encode(frames)
            each = [engine.logits(encoded, expression) for expression in group]
            return [np.stack([logits[place] for logits in each]) for place in range(len(frames))]

        for row, logits_KHW in blend_tiles(
            tiling,
            read,
            logits_of,
            len(group),
            blend=options.blend,
            batch=options.batch,
            presence_min=options.presence_min,
            absent_logit=absent_logit,
            on_tiles=on_step,
        ):
            valid_HW = source.valid(Window(0, row, source.width, logits_KHW.shape[1]))
            seen = seen or bool(valid_HW.any())
            for expression, logits_HW in zip(group, logits_KHW, strict=True):
                yield expression, row, logits_HW, valid_HW
    if not seen:
        raise _nothing(source)


def _nothing(source: Source) -> UserError:
    return UserError(f"{source.name} has no valid pixel (all nodata): there is nothing to predict on.")
