"""What becomes of predicted rows: files, polygons, a picture, numbers, or arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rrsis_bench.predict.outputs.overlay import Overlay
from rrsis_bench.predict.outputs.polygons import Polygoniser
from rrsis_bench.predict.outputs.rasters import NODATA, RasterWriter, quantise
from rrsis_bench.predict.pipeline import Rows, probability
from rrsis_bench.predict.sources.scaling import Scaling
from rrsis_bench.predict.sources.source import Source, Window


@dataclass(frozen=True, slots=True)
class MaskFile:
    """Masks to a raster: 0, 1, or `NODATA`."""

    writer: RasterWriter

    def add(self, rows: Rows) -> None:
        """Write the rows."""
        values_HW = np.where(rows.valid_HW, rows.mask_HW.astype(np.uint8), np.uint8(NODATA))
        self.writer.write(rows.expression, rows.row, values_HW)


@dataclass(frozen=True, slots=True)
class ProbabilityFile:
    """Probabilities to a raster, in 254 steps; `NODATA` where the image holds no data."""

    writer: RasterWriter

    def add(self, rows: Rows) -> None:
        """Write the rows."""
        values_HW = np.where(rows.valid_HW, quantise(rows.prob_HW), np.uint8(NODATA))
        self.writer.write(rows.expression, rows.row, values_HW)


@dataclass(frozen=True, slots=True)
class Polygons:
    """Objects of each expression."""

    each: list[Polygoniser]

    def add(self, rows: Rows) -> None:
        """Trace the rows."""
        self.each[rows.expression].add(rows.row, rows.mask_HW, rows.prob_HW)


@dataclass(frozen=True, slots=True)
class Picture:
    """The image under its masks."""

    overlay: Overlay
    source: Source
    scaling: Scaling

    def add(self, rows: Rows) -> None:
        """Draw the rows; the image's own pixels come with the first expression."""
        self.overlay.add_mask(rows.expression, rows.row, rows.mask_HW)
        if rows.expression == 0:
            window = Window(0, rows.row, self.source.width, len(rows.mask_HW))
            self.overlay.add_pixels(rows.row, self.scaling(self.source.read(window)))


class Numbers:
    """Pixels and probabilities of each expression.

    Attributes:
        area: pixels of the mask.
        largest: largest probability over valid pixels; 0 where there is none.
        score: mean probability over the mask; None where it is empty.
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
        """Mean probability over the mask of one expression."""
        return self._sum[index] / self.area[index] if self.area[index] else None


class Arrays:
    """Everything in memory, for the Python interface: uint8 masks with `NODATA`, float32 probabilities."""

    def __init__(self, expressions: int, height: int, width: int):
        self.values = np.zeros((expressions, height, width), dtype=np.uint8)
        self.probabilities = np.zeros((expressions, height, width), dtype=np.float32)

    def add(self, rows: Rows) -> None:
        """Keep the rows."""
        where = slice(rows.row, rows.row + len(rows.mask_HW))
        self.values[rows.expression, where] = np.where(rows.valid_HW, rows.mask_HW.astype(np.uint8), np.uint8(NODATA))
        self.probabilities[rows.expression, where] = rows.prob_HW
