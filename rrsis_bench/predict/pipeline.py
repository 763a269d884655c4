"""Predict an image row by row and pass the masks to sinks."""

# K = expressions

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from rrsis_bench.data.pixels.images import MAX_PIXELS
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.predict.engine import Engine
from rrsis_bench.predict.sources.scaling import Scaling
from rrsis_bench.predict.sources.source import Source, Window, no_valid_pixel
from rrsis_bench.predict.tiles import BLENDS, Tiling, blend_tiles

VIEWS = ("frame", "tile")
LARGE = 4  # small objects vanish if a frame is this many times larger than the training images
ROWS = 2048  # rows of a frame that are thresholded and written together
# Bytes per pixel and expression while rows of tiles are blended: sum, quotient, probability and mask.
_BYTES_PER_LOGIT = 14
_BYTES_PER_TILE_LOGIT = 8  # per pixel of a forward pass: logits as they come, and stacked


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a prediction.

    Attributes:
        view: ``frame`` shows the model the whole image at once, as in evaluation; ``tile`` shows it tile by tile.
        tile: side of a tile in pixels; 0 for a frame.
        overlap: share of a tile that its neighbour also covers, below 1.
        blend: how overlapping tiles are averaged: ``hann`` or ``mean``.
        batch: tiles per forward pass.
        presence_min: a tile has no target of an expression if its largest probability is below this.
        threshold: probability above which a pixel belongs to the mask.
        max_memory: bytes that blended rows may take. More expressions are predicted in several passes.

    Raises:
        UserError: a value that is out of range.
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
            raise UserError(f"threshold={self.threshold:g} must be above 0 and below 1.")
        if not 0 <= self.presence_min < 1:
            raise UserError(f"presence-min={self.presence_min:g} must be at least 0 and below 1.")
        if self.view == "tile":
            Tiling.cover(1, 1, self.tile, self.overlap)

    @classmethod
    def parse(cls, values: Mapping[str, Any], tile: int) -> Options:
        """Build options from the fields that a user gave.

        Args:
            values: field -> value; None counts as not given.
            tile: side of a tile if it is not given.

        Raises:
            UserError: an unknown field, a field of tiles for a frame, or a value that is out of range.
        """
        known = sorted(cls.__dataclass_fields__)
        for name in values:
            if name not in known:
                raise unknown("option", name, known)
        given = {name: value for name, value in values.items() if value is not None}
        if given.get("view") == "tile":
            given.setdefault("tile", tile)
        elif only_tiles := sorted(given.keys() - {"view", "threshold"}):
            raise UserError(f"{only_tiles[0].replace('_', '-')} needs view=tile. A frame has no tiles.")
        return cls(**given)

    @property
    def cut(self) -> float:
        """The logit above which a pixel belongs to the mask: 0 at a threshold of 0.5, as in evaluation."""
        return math.log(self.threshold / (1 - self.threshold))


@dataclass(frozen=True)
class Rows:
    """Complete rows of one expression.

    Attributes:
        expression: index of the expression.
        row: index of the first row.
        mask_HW: bool, False where the image holds no data.
        logits_HW: float32.
        valid_HW: bool, True where the image holds data.
    """

    expression: int
    row: int
    mask_HW: np.ndarray
    logits_HW: np.ndarray
    valid_HW: np.ndarray

    @cached_property
    def prob_HW(self) -> np.ndarray:
        """Probabilities, float32; computed on first use."""
        return probability(self.logits_HW)


def probability(logits: np.ndarray) -> np.ndarray:
    """Return the logistic function, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


class Sink(Protocol):
    """Receives rows. Those of each expression come from top to bottom."""

    def add(self, rows: Rows) -> None:
        """Process the rows."""


def predict(
    source: Source,
    engine: Engine,
    expressions: int,
    options: Options,
    scaling: Scaling,
    sinks: Sequence[Sink],
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Predict all expressions that `engine` has read and pass their rows to every sink.

    Args:
        source: the image.
        engine: after `Engine.read`.
        expressions: number of expressions.
        options: frame or tiles, and the threshold.
        scaling: decided for the whole image.
        sinks: receive the rows.
        on_step: called with the number of finished steps, of `steps` in total.

    Raises:
        UserError: an image too large for one frame or without a valid pixel, a tile that failed, or logits that are
            NaN.
    """
    for expression, row, logits_HW, valid_HW in _logits(source, engine, expressions, options, scaling, on_step):
        if np.isnan(logits_HW.max()):
            raise UserError(
                f"The model returns NaN on {source.name}. Check its weights and trainer.precision. Nothing was written."
            )
        rows = Rows(expression, row, (logits_HW > options.cut) & valid_HW, logits_HW, valid_HW)
        for sink in sinks:
            sink.add(rows)


def steps(source: Source, expressions: int, options: Options) -> int:
    """Return the number of steps of `predict`: expressions for a frame, else tiles times passes."""
    if options.view == "frame":
        return expressions
    tiling = Tiling.cover(source.height, source.width, options.tile, options.overlap)
    return len(tiling) * len(passes(source, expressions, options))


def passes(source: Source, expressions: int, options: Options) -> list[range]:
    """Return the ranges of expressions that are predicted together, so that rows fit `Options.max_memory`."""
    size = max(1, options.max_memory // row_bytes(source, options))
    return [range(first, min(first + size, expressions)) for first in range(0, expressions, size)]


def row_bytes(source: Source, options: Options) -> int:
    """Return the bytes that a row of tiles takes per expression."""
    tiling = Tiling.cover(source.height, source.width, options.tile, options.overlap)
    at_once = min(options.batch, len(tiling.xs)) * options.tile**2
    return min(options.tile, source.height) * source.width * _BYTES_PER_LOGIT + at_once * _BYTES_PER_TILE_LOGIT


def _logits(
    source: Source,
    engine: Engine,
    expressions: int,
    options: Options,
    scaling: Scaling,
    on_step: Callable[[int], None] | None,
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield (expression, first row, logits (h, w), valid (h, w))."""
    if options.view == "frame":
        if source.height * source.width > MAX_PIXELS:
            raise UserError(
                f"{source.name} has {source.width:,} x {source.height:,} pixels, too many for one frame (at most "
                f"{MAX_PIXELS:,}). Choose a part with --window or --aoi, or use --view tile."
            )
        valid_HW = source.valid(source.whole)
        if not valid_HW.any():
            raise no_valid_pixel(source)
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
    # Rounding may raise an average of equal logits. Stay below the cut, unless it is 0, which is exact.
    absent_logit = min(0.0, 1.001 * options.cut)
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
        raise no_valid_pixel(source)
