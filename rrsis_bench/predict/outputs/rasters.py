"""Write masks and probabilities as raster files, from top to bottom in bounded memory.

GeoTIFF: one band per referring expression, which is the band's description. Masks are 0 and 1, probabilities
``round(254 p)``, and 255 is nodata. The profile is not copied from the image, whose compression or colours may not fit
a mask. PNG: one file per expression. Masks have the levels 0 and 255, probabilities are as in a GeoTIFF.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError, reason
from rrsis_bench.predict.sources.source import Georef

NODATA = 255
PROBABILITY_LEVELS = 254
BLOCK = 512


def with_nodata(values_HW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Return uint8 values with `NODATA` where not valid."""
    return np.where(valid_HW, values_HW.astype(np.uint8), np.uint8(NODATA))


def quantise(prob_HW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Return probabilities as uint8, ``round(254 p)``, with `NODATA` where not valid."""
    return with_nodata(np.rint(prob_HW * PROBABILITY_LEVELS), valid_HW)


class RasterWriter(ABC):
    """A raster with one band per expression. `write` takes each band's rows in order, `close` finishes the files."""

    @abstractmethod
    def write(self, band: int, row: int, values_HW: np.ndarray) -> None:
        """Add rows: uint8 (h, width), from `row` on, to `band` (counted from 0)."""

    @abstractmethod
    def close(self) -> None:
        """Finish the files; UserError if they could not be written."""


class TiffWriter(RasterWriter):
    """A GeoTIFF.

    Args:
        path: the file.
        height, width: pixels.
        expressions: one per band, written as its description.
        georef: written unchanged; None without one.
        tags: provenance.
        probabilities: whether the bands are scaled probabilities.
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
            raise unwritten(path, error) from error

    def write(self, band: int, row: int, values_HW: np.ndarray) -> None:
        """As `RasterWriter.write`. Only whole rows of blocks are written, so that no block is compressed twice."""
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
            raise unwritten(self.path, error) from error
        self._sums[band].append((row, len(rows_HW), zlib.crc32(rows_HW.tobytes())))

    def close(self) -> None:
        """Finish the file and read it back: GDAL does not report every block that a full disk refused."""
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
                            raise OSError("the file that was read back differs")
        except (RasterioError, OSError) as error:
            raise unwritten(self.path, error) from error


class PngWriter(RasterWriter):
    """One grey PNG per expression, held in memory until `close`.

    Args:
        paths: one file per band.
        height, width: pixels.
        masks: write 1 as 255 and nodata as 0, as usual for mask files.
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
                raise unwritten(path, error) from error


def open_writer(
    paths: Sequence[Path],
    height: int,
    width: int,
    expressions: Sequence[str],
    georef: Georef | None,
    tags: Mapping[str, str],
    *,
    probabilities: bool,
) -> RasterWriter:
    """Open one GeoTIFF, which needs the extra ``[geo]``, or one PNG per expression, by the suffix of `paths`.

    Args:
        paths: one ``.tif``, or one ``.png`` per expression.
        height: pixels.
        width: pixels.
        expressions: one per band.
        georef: of the image, or None.
        tags: provenance.
        probabilities: else masks.
    """
    if paths[0].suffix == ".tif":
        return TiffWriter(paths[0], height, width, expressions, georef, tags, probabilities=probabilities)
    return PngWriter(paths, height, width, masks=not probabilities)


def unwritten(path: Path, error: BaseException) -> UserError:
    """Return the error for an output file that could not be finished."""
    return UserError(f"{path.name} could not be written completely: {reason(error)}. Check the free disk space.")
