"""Georeferenced rasters through rasterio, from the extra ``[geo]``."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError, reason
from rrsis_bench.predict.sources.drivers import ENVIRONMENT, open_local
from rrsis_bench.predict.sources.source import Georef, Source, Window, check_dtype

EXTRA = "pip install 'rrsis-bench[geo]'"
PACKAGES = ("rasterio", "geopandas", "pyogrio", "shapely")
_CACHE_MB = 128


def missing() -> list[str]:
    """Return the packages of the extra ``[geo]`` that are not installed; imports none of them."""
    return [name for name in PACKAGES if not importlib.util.find_spec(name)]


def installed() -> bool:
    """Return whether the extra ``[geo]`` is installed."""
    return not missing()


def require(action: str) -> None:
    """Raise UserError if the extra ``[geo]`` is not installed; `action` starts the message, as "Reading a.tif"."""
    if not installed():
        raise UserError(f"{action} needs packages that are not installed ({', '.join(missing())}): {EXTRA}")


class RasterSource(Source):
    """A raster file that GDAL reads. Pixels are read window by window.

    Args:
        path: the file.
        bands: as in `rrsis_bench.predict.sources.opening.open_source`.
        nodata: as there; replaces the value that the file records, not its alpha or mask band.
    """

    def __init__(self, path: Path, bands: Sequence[int] | None, nodata: float | None):
        import rasterio
        from rasterio.enums import ColorInterp, MaskFlags

        self.path, self.name, self.notes, self._nodata = path, path.name, [], nodata
        self._colours: np.ndarray | None = None
        with ExitStack() as opened:
            # Without a limit GDAL keeps 5% of the machine's memory in decoded blocks.
            opened.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, **ENVIRONMENT))
            with self._named_errors("opened as a raster"):
                self._file = opened.enter_context(_open(path))
            with self._named_errors("read as a raster"):  # GDAL reads some of these when they are asked for
                self._bands = self._choose(bands)
                self.height, self.width = self._file.height, self._file.width
                shown = "uint8" if self._colours is not None else self._file.dtypes[self._bands[0] - 1]
                self.dtype = check_dtype(np.dtype(shown), self.name)
                self.georef = _georef(self._file)
                flags = self._file.mask_flag_enums
                # GDAL takes the last of two or four bands for opacity. Others are found by their meaning.
                self._alpha = [
                    band for band, meaning in enumerate(self._file.colorinterp, 1) if meaning == ColorInterp.alpha
                ]
                self._complete = not self._alpha and all(MaskFlags.all_valid in each for each in flags)
                self._masked = bool(self._alpha) or any(
                    MaskFlags.per_dataset in each for each in flags
                )  # or a mask band
                self.nodata = tuple(
                    self._file.nodatavals[band - 1] if nodata is None else nodata for band in self._bands
                )
            self._opened = opened.pop_all()
        if self.georef is not None and self.georef.transform is None:
            self.notes.append(
                f"{self.name} is located by control points or RPCs only. They are copied to the masks, and polygons "
                "stay in pixels. To get polygons on the ground, warp the image first (gdalwarp)."
            )

    def _choose(self, bands: Sequence[int] | None) -> tuple[int, int, int]:
        """Return the bands shown as red, green and blue."""
        from rasterio.enums import ColorInterp

        count, meaning = self._file.count, list(self._file.colorinterp)
        if bands is not None:
            return _three(bands, count, self.name)
        wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        if all(colour in meaning for colour in wanted):
            red, green, blue = (meaning.index(colour) + 1 for colour in wanted)
            return red, green, blue
        shown = [band for band in range(1, count + 1) if meaning[band - 1] != ColorInterp.alpha]
        if len(shown) == 1:
            if meaning[shown[0] - 1] == ColorInterp.palette:
                table = self._file.colormap(shown[0])
                self._colours = np.array([table.get(level, (0, 0, 0))[:3] for level in range(256)], dtype=np.uint8)
        elif len(shown) < 3:
            raise UserError(
                f"None of the {count} bands of {self.name} is marked as red, green or blue. Choose them with "
                "--bands R,G,B (or --bands N for a single one)."
            )
        elif count > 3:
            self.notes.append(
                f"None of the {count} bands of {self.name} is marked as red, green or blue. Using bands {shown[0]}, "
                f"{shown[1]}, {shown[2]}. Choose others with --bands."
            )
        return _three(shown[:3] if len(shown) > 1 else shown, count, self.name)

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        return self._pixels(window=_window(window))

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`: alpha, mask bands and the file's nodata as GDAL combines them.

        A given nodata value counts if all shown bands have it, NaN if one band has it.
        """
        if self._looks_at_pixels:
            return self._holds_data(self._pixels(window=_window(window)), window=_window(window))
        return self._mask(window=_window(window))

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return nearest pixels, from the raster's own overviews if it has any."""
        shrink = max(1.0, max(self.height, self.width) / side)
        shape = (max(1, round(self.height / shrink)), max(1, round(self.width / shrink)))
        pixels_HWC = self._pixels(out_shape=(len(set(self._bands)), *shape))
        valid_HW = (
            self._holds_data(pixels_HWC, out_shape=shape) if self._looks_at_pixels else self._mask(out_shape=shape)
        )
        return pixels_HWC, valid_HW

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    @contextmanager
    def _named_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith("rasterio."):  # GDAL's own errors have no public base class
                raise
            # On a failed read, rasterio's own message only points to GDAL's, the first in the chain of causes.
            first: BaseException = error
            while first.__cause__ is not None:
                first = first.__cause__
            raise UserError(f"{self.path} cannot be {action}: {reason(first)}") from error

    @property
    def _looks_at_pixels(self) -> bool:
        return self._nodata is not None or np.dtype(self.dtype).kind == "f"

    def _pixels(self, **where: Any) -> np.ndarray:
        distinct = list(dict.fromkeys(self._bands))
        with self._named_errors("read to its end"):
            pixels_CHW: np.ndarray = self._file.read(distinct, **where)
        if self._colours is not None:
            shown_HWC: np.ndarray = np.take(self._colours, pixels_CHW[0], axis=0)
            return shown_HWC
        return np.moveaxis(pixels_CHW[[distinct.index(band) for band in self._bands]], 0, 2)

    def _mask(self, **where: Any) -> np.ndarray:
        if self._complete:  # GDAL would fill an array to find this out
            window = where.get("window")
            return np.ones(where["out_shape"] if window is None else (window.height, window.width), dtype=bool)
        with self._named_errors("read to its end"):
            valid_HW = np.asarray(self._file.dataset_mask(**where)) > 0
            for band in self._alpha:
                valid_HW &= self._file.read(band, **where) > 0
        return valid_HW

    def _holds_data(self, pixels_HWC: np.ndarray, **where: Any) -> np.ndarray:
        valid_HW = _has_values(pixels_HWC, self._nodata)
        return valid_HW if self._nodata is not None and not self._masked else valid_HW & self._mask(**where)


class DataArraySource(Source):
    """An xarray.DataArray with rioxarray's ``.rio``: (band, y, x) or (y, x), also a lazy one."""

    def __init__(self, array: Any, bands: Sequence[int] | None, nodata: float | None):
        if array.ndim not in (2, 3) or array.dims[-2:] != (array.rio.y_dim, array.rio.x_dim):
            raise UserError(f"The DataArray has the dimensions {array.dims}. Transpose it to (band, y, x) or (y, x).")
        count = 1 if array.ndim == 2 else array.shape[0]
        self.name, self.notes = str(array.name or "DataArray"), []
        if bands is None:
            if count == 2:
                raise UserError(f"{self.name} has 2 bands. Choose with bands=(red, green, blue), counted from 1.")
            bands = (1,) if count == 1 else (1, 2, 3)
        self._bands = _three(bands, count, self.name)
        self._array = array if array.ndim == 3 else array.expand_dims("band")
        self._nodata = array.rio.nodata if nodata is None else nodata
        self.nodata = (self._nodata,) * 3
        self.height, self.width = int(array.shape[-2]), int(array.shape[-1])
        self.dtype = str(array.dtype)
        transform, crs = array.rio.transform(), array.rio.crs
        self.georef = None if crs is None and transform.is_identity else Georef(crs, transform)
        if count > 3 and tuple(bands) == (1, 2, 3):
            self.notes.append(f"{self.name} has {count} bands. Using bands 1, 2, 3. Choose others with bands=.")

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        return self._pixels(*window.slices)

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`."""
        return self._holds_data(self._pixels(*window.slices))

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return every n-th pixel."""
        step = slice(None, None, max(1, -(-max(self.height, self.width) // side)))
        pixels_HWC = self._pixels(step, step)
        return pixels_HWC, self._holds_data(pixels_HWC)

    def _pixels(self, rows: slice, columns: slice) -> np.ndarray:
        bands = [band - 1 for band in self._bands]
        return np.moveaxis(np.asarray(self._array[:, rows, columns][bands]), 0, 2)

    def _holds_data(self, pixels_HWC: np.ndarray) -> np.ndarray:
        # Among integers, NaN as the nodata value marks no pixel.
        return _has_values(pixels_HWC, None if self._nodata is None or np.isnan(self._nodata) else self._nodata)


def georeference(path: Path) -> Georef | None:
    """Return only the georeference of a file, also from a world file or ``.aux.xml``."""
    with _open(path) as file:
        return _georef(file)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    import rasterio

    with rasterio.Env(**ENVIRONMENT):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            file = open_local(path)
        with file:
            yield file


def _three(bands: Sequence[int], count: int, name: str) -> tuple[int, int, int]:
    """Check chosen bands, counted from 1, and return three: a single one is repeated."""
    if len(bands) not in (1, 3):
        raise UserError(f"bands: give three bands (or one) to show as red, green and blue, not {len(bands)}.")
    for band in bands:
        if not 1 <= band <= count:
            raise UserError(f"{name} has no band {band}: its {count} bands are counted from 1.")
    return bands[0], bands[len(bands) // 2], bands[-1]


def _has_values(pixels_HWC: np.ndarray, nodata: float | None) -> np.ndarray:
    """Return where all bands are finite and not all equal `nodata`, bool (h, w)."""
    valid_HW: np.ndarray = np.isfinite(pixels_HWC).all(2)
    return valid_HW if nodata is None else valid_HW & (pixels_HWC != nodata).any(2)


def _georef(file: Any) -> Georef | None:
    points, points_crs = file.gcps
    rpcs = file.tags(ns="RPC")
    if not file.transform.is_identity or (file.crs is not None and not points):
        return Georef(file.crs, file.transform, None, rpcs)
    if points or rpcs:
        return Georef(points_crs, None, (points, points_crs) if points else None, rpcs)
    return None


def _window(window: Window) -> Any:
    from rasterio.windows import Window as RasterioWindow

    return RasterioWindow(window.x, window.y, window.width, window.height)
