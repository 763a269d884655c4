"""Sinks of predicted rows: raster files, polygons, an overlay, statistics, arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rrsis_bench.predict.outputs.overlay import Overlay
from rrsis_bench.predict.outputs.polygons import Polygoniser
from rrsis_bench.predict.outputs.rasters import RasterWriter, quantise, with_nodata
from rrsis_bench.predict.pipeline import Rows, probability
from rrsis_bench.predict.sources.scaling import Scaling
from rrsis_bench.predict.sources.source import Source, Window


@dataclass(frozen=True, slots=True)
class RasterSink:
    """Write masks (0, 1 or `NODATA`), or probabilities in 254 steps, to a raster."""

    writer: RasterWriter
    probabilities: bool

    def add(self, rows: Rows) -> None:
        """Write the rows."""
        values_HW = quantise(rows.prob_HW, rows.valid_HW) if self.probabilities else _mask_values(rows)
        self.writer.write(rows.expression, rows.row, values_HW)


@dataclass(frozen=True, slots=True)
class PolygonSink:
    """Trace the objects of each expression."""

    each: list[Polygoniser]

    def add(self, rows: Rows) -> None:
        """Trace the rows."""
        self.each[rows.expression].add(rows.row, rows.mask_HW, rows.prob_HW)


@dataclass(frozen=True, slots=True)
class OverlaySink:
    """Draw the image under its masks."""

    overlay: Overlay
    source: Source
    scaling: Scaling

    def add(self, rows: Rows) -> None:
        """Draw the rows. The image's own pixels are read with the first expression."""
        self.overlay.add_mask(rows.expression, rows.row, rows.mask_HW)
        if rows.expression == 0:
            window = Window(0, rows.row, self.source.width, len(rows.mask_HW))
            self.overlay.add_pixels(rows.row, self.scaling(self.source.read(window)))


class StatisticsSink:
    """Sum up pixels and probabilities of each expression.

    Attributes:
        area: pixels of the mask.
        largest: largest probability over valid pixels; 0 without any.
    """

    def __init__(self, expressions: int):
        self.area = [0] * expressions
        self.largest = [0.0] * expressions
        self._sum = [0.0] * expressions

    def add(self, rows: Rows) -> None:
        """Count the rows."""
        index = rows.expression
        self.area[index] += int(np.count_nonzero(rows.mask_HW))
        self._sum[index] += float(probability(rows.logits_HW[rows.mask_HW]).sum(dtype=np.float64))
        if rows.valid_HW.any():
            highest = rows.logits_HW.max(where=rows.valid_HW, initial=-np.inf)
            self.largest[index] = max(self.largest[index], float(probability(highest)))

    def score(self, index: int) -> float | None:
        """Return the mean probability over the mask of one expression; None if it is empty."""
        return self._sum[index] / self.area[index] if self.area[index] else None


class ArraySink:
    """Keep everything in memory, for the Python interface: uint8 masks with `NODATA`, float32 probabilities."""

    def __init__(self, expressions: int, height: int, width: int):
        self.values = np.zeros((expressions, height, width), dtype=np.uint8)
        self.probabilities = np.zeros((expressions, height, width), dtype=np.float32)

    def add(self, rows: Rows) -> None:
        """Keep the rows."""
        place = rows.expression, slice(rows.row, rows.row + len(rows.mask_HW))
        self.values[place], self.probabilities[place] = _mask_values(rows), rows.prob_HW


def _mask_values(rows: Rows) -> np.ndarray:
    return with_nodata(rows.mask_HW, rows.valid_HW)
