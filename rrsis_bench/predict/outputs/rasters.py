"""Masks and probabilities as raster files, written from top to bottom in bounded memory.

GeoTIFF: one band per referring expression, described by it; masks are 0 and 1, probabilities ``round(254 p)``, and 255
says that the image holds no data there. Its profile is made anew: one copied from the image would bring compressions
and colours along that a mask cannot have. PNG: one file per expression, masks with the levels 0 and 255;
probabilities as in a GeoTIFF, 255 being no data there too.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.outputs.files import OutputSet
from rrsis_bench.predict.sources.source import Georef

NODATA = 255
PROBABILITY_LEVELS = 254
BLOCK = 512


def quantise(prob_KHW: np.ndarray) -> np.ndarray:
    """Probabilities as uint8: ``round(254 p)``, so that 255 is free for nodata."""
    return np.rint(prob_KHW * PROBABILITY_LEVELS).astype(np.uint8)


class RasterWriter(ABC):
    """A raster with one band per expression. `write` takes each band's rows in order, `close` completes the files."""

    @abstractmethod
    def write(self, band: int, row: int, values_HW: np.ndarray) -> None:
        """Add rows: uint8 (h, width), from `row` on, to `band` (counted from 0)."""

    @abstractmethod
    def close(self) -> None:
        """Complete the files; UserError where they could not be written."""


class TiffWriter(RasterWriter):
    """A GeoTIFF.

    Args:
        path: the file.
        height, width: pixels.
        expressions: one per band, kept as its description.
        georef: kept as it is; None where there is none.
        tags: what made the file.
        probabilities: the bands are scaled probabilities.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        expressions: Sequence[str],
        georef: Georef | None,
        tags: Mapping[str, str],
        *,
        probabilities: bool = False,
    ):
        import rasterio
        from rasterio.errors import RasterioError

        self.path, self._height, self._width = path, height, width
        placed: dict[str, Any] = {}
        if georef is not None and georef.transform is not None:
            placed = {"crs": georef.crs, "transform": georef.transform}
        self._held: list[list[np.ndarray]] = [[] for _ in expressions]
        self._written = [0] * len(expressions)
        self._sums: list[list[tuple[int, int, int]]] = [[] for _ in expressions]
        try:
            self._file = rasterio.open(
                path, "w", driver="GTiff", width=width, height=height, count=len(expressions), dtype="uint8",
                nodata=NODATA, compress="DEFLATE", tiled=True, blockxsize=BLOCK, blockysize=BLOCK,
                interleave="band", bigtiff="IF_SAFER", **placed,
            )  # fmt: skip
            if georef is not None and georef.gcps is not None:
                self._file.gcps = georef.gcps
            if georef is not None and georef.rpcs:
                self._file.update_tags(ns="RPC", **georef.rpcs)
            self._file.update_tags(**tags)
            for band, expression in enumerate(expressions, start=1):
                self._file.set_band_description(band, expression)
            if probabilities:
                self._file.scales = (1 / PROBABILITY_LEVELS,) * len(expressions)
        except (RasterioError, OSError) as error:
            raise _unwritten(path, error) from error

    def write(self, band: int, row: int, values_HW: np.ndarray) -> None:
        """As `RasterWriter.write`; whole rows of blocks go to the file, so that none is compressed twice."""
        held = self._held[band]
        expected = self._written[band] + sum(len(part) for part in held)
        if row != expected:
            raise ValueError(f"row {row} of band {band} does not follow row {expected}")
        held.append(values_HW)
        end = row + len(values_HW)
        whole = end if end == self._height else end // BLOCK * BLOCK
        if whole > self._written[band]:
            rows_HW = np.concatenate(held)
            count = whole - self._written[band]
            self._store(band, self._written[band], rows_HW[:count])
            self._held[band] = [rows_HW[count:].copy()] if count < len(rows_HW) else []
            self._written[band] = whole

    def _store(self, band: int, row: int, rows_HW: np.ndarray) -> None:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            self._file.write(rows_HW, band + 1, window=Window(0, row, self._width, len(rows_HW)))
        except (RasterioError, OSError) as error:
            raise _unwritten(self.path, error) from error
        self._sums[band].append((row, len(rows_HW), zlib.crc32(rows_HW.tobytes())))

    def close(self) -> None:
        """Complete the file and read it back: GDAL does not report every block that a full disk refused."""
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            self._file.close()
            with rasterio.open(self.path) as file:
                for band, sums in enumerate(self._sums, start=1):
                    for row, rows, wanted in sums:
                        found_HW = file.read(band, window=Window(0, row, self._width, rows))
                        if zlib.crc32(found_HW.tobytes()) != wanted:
                            raise OSError("what was read back differs from what was written")
        except (RasterioError, OSError) as error:
            raise _unwritten(self.path, error) from error


class PngWriter(RasterWriter):
    """One grey PNG per expression; held in memory until `close`.

    Args:
        paths: one file per band.
        height, width: pixels.
        masks: show 1 as 255 and pixels without data as 0, as masks are read everywhere.
    """

    def __init__(self, paths: Sequence[Path], height: int, width: int, *, masks: bool = True):
        self._paths, self._masks = list(paths), masks
        self._levels = [np.zeros((height, width), dtype=np.uint8) for _ in paths]

    def write(self, band: int, row: int, values_HW: np.ndarray) -> None:
        """As `RasterWriter.write`."""
        levels_HW = np.where(values_HW == 1, 255, 0) if self._masks else values_HW
        self._levels[band][row : row + len(values_HW)] = levels_HW

    def close(self) -> None:
        """Write the files."""
        from PIL import Image

        for path, levels_HW in zip(self._paths, self._levels, strict=True):
            try:
                Image.fromarray(levels_HW).save(path, format="PNG")
            except OSError as error:
                raise _unwritten(path, error) from error


def open_writer(
    outputs: OutputSet,
    stem: str,
    kind: str,
    height: int,
    width: int,
    expressions: Sequence[str],
    georef: Georef | None,
    tags: Mapping[str, str],
    *,
    tiff: bool,
) -> RasterWriter:
    """The writer of ``<stem>.<kind>.tif``, or of ``<stem>.<kind>.png`` (``<stem>.<kind>.001.png`` ... for several).

    Args:
        outputs: where temporary names come from.
        stem: the image's name without its ending.
        kind: ``mask`` or ``prob``.
        height: pixels.
        width: pixels.
        expressions: one per band.
        georef: of the image, or None.
        tags: what made the file.
        tiff: a GeoTIFF, which needs the extra ``[geo]``; else PNG.
    """
    probabilities = kind == "prob"
    if tiff:
        path = outputs.path(f"{stem}.{kind}.tif")
        return TiffWriter(path, height, width, expressions, georef, tags, probabilities=probabilities)
    count = len(expressions)
    numbers = [""] if count == 1 else [f".{index + 1:0{max(3, len(str(count)))}d}" for index in range(count)]
    paths = [outputs.path(f"{stem}.{kind}{number}.png") for number in numbers]
    return PngWriter(paths, height, width, masks=not probabilities)


def _unwritten(path: Path, error: BaseException) -> UserError:
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return UserError(f"{path.parent} took no complete {path.suffix} file ({reason.splitlines()[0]}). Is the disk full?")
