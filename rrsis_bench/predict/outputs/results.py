"""Results of `Predictor`: masks and probabilities, and how to write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.outputs import vectors
from rrsis_bench.predict.outputs.polygons import Polygoniser
from rrsis_bench.predict.outputs.rasters import NODATA, PngWriter, TiffWriter, quantise
from rrsis_bench.predict.sources.raster import require
from rrsis_bench.predict.sources.source import Georef


@dataclass(frozen=True, slots=True)
class Prediction:
    """The mask of one referring expression.

    Attributes:
        expression: as given.
        values: uint8 (H, W): 1 target, 0 other, 255 nodata.
        prob: float32 (H, W), probability of the target, 0 to 1.
        georef: of the image or window, or None.
        meta: model, weights, view and the other tags of the files.
    """

    expression: str
    values: np.ndarray
    prob: np.ndarray
    georef: Georef | None
    meta: dict[str, str]

    @property
    def mask(self) -> np.ndarray:
        """Bool (H, W); False where the image holds no data."""
        return np.asarray(self.values == 1)

    def to_geotiff(self, path: str | Path, *, probability: bool = False) -> Path:
        """Write the mask (or the probabilities, in 254 steps) as a GeoTIFF; needs the extra ``[geo]``."""
        return _tiff([self], Path(path), probability)

    def to_png(self, path: str | Path) -> Path:
        """Write the mask as a grey PNG with the levels 0 and 255."""
        path = Path(path)
        writer = PngWriter([path], *self.values.shape)
        writer.write(0, 0, self.values)
        writer.close()
        return path

    def to_geodataframe(self, *, min_area: float = 0, simplify: float = 0.0) -> Any:
        """Return one row per object, with the columns of `vectors.COLUMNS`; needs the extra ``[geo]``.

        Args:
            min_area: smallest object in pixels.
            simplify: largest distance in pixels by which a border may move.
        """
        return _table([self], min_area, simplify)


class Predictions(Sequence[Prediction]):
    """The predictions of one image, one per referring expression, in the given order."""

    def __init__(self, each: Sequence[Prediction]):
        self._each = list(each)

    def __len__(self) -> int:
        """Number of expressions."""
        return len(self._each)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Prediction]: ...

    def __getitem__(self, index: int | slice) -> Prediction | Sequence[Prediction]:
        """Return the prediction of one expression."""
        return self._each[index]

    def to_geotiff(self, path: str | Path, *, probability: bool = False) -> Path:
        """Write all masks as one GeoTIFF, a band per expression; needs the extra ``[geo]``."""
        return _tiff(self._each, Path(path), probability)

    def to_geodataframe(self, *, min_area: float = 0, simplify: float = 0.0) -> Any:
        """Return the objects of all expressions; see `Prediction.to_geodataframe`."""
        return _table(self._each, min_area, simplify)

    def to_file(self, path: str | Path, *, min_area: float = 0, simplify: float = 0.0) -> Path:
        """Write the objects of all expressions as ``.gpkg``, ``.geojson`` or ``.parquet``, by the file's suffix."""
        path = Path(path)
        suffixes = vectors.FORMATS.values()
        if path.suffix.lower() not in suffixes:
            raise UserError(f"{path.name} must end in {', '.join(suffixes)} for polygons. Choose another name.")
        vectors.write(_table(self._each, min_area, simplify), path)
        return path


def _tiff(each: Sequence[Prediction], path: Path, probability: bool) -> Path:
    require(f"Writing {path.name}")
    first = each[0]
    expressions = [one.expression for one in each]
    height, width = first.values.shape
    writer = TiffWriter(path, height, width, expressions, first.georef, first.meta, probabilities=probability)
    for band, one in enumerate(each):
        writer.write(band, 0, quantise(one.prob, one.values != NODATA) if probability else one.values)
    writer.close()
    return path


def _table(each: Sequence[Prediction], min_area: float, simplify: float) -> Any:
    require("Making polygons")
    objects = []
    for one in each:
        polygoniser = Polygoniser(min_area)
        polygoniser.add(0, one.mask, one.prob)
        objects.append(polygoniser.finish())
    first, expressions = each[0], [one.expression for one in each]
    height, width = first.values.shape
    return vectors.to_table(objects, expressions, first.georef, (height, width), first.meta, simplify=simplify)
