"""Georeferenced rasters by rasterio, from the extra ``[geo]``."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.source import Georef, Source, Window

EXTRA = "pip install 'rrsis-bench[geo]'"
PACKAGES = ("rasterio", "geopandas", "pyogrio", "shapely")
_CACHE_MB = 128


def installed() -> bool:
    """Whether the packages of the extra ``[geo]`` are there; imports none of them."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


def require(what: str) -> None:
    """UserError naming the extra where it is not installed; `what` continues "... by rasterio"."""
    if not installed():
        missing = ", ".join(name for name in PACKAGES if not importlib.util.find_spec(name))
        raise UserError(f"{what} by rasterio and its companions, which are not installed ({missing}): {EXTRA}.")


class RasterSource(Source):
    """A raster file that GDAL reads; windows are read when asked for.

    Args:
        path: the file.
        bands: as in `open_source`.
        nodata: as in `open_source`; replaces the value that the file says, not its alpha or mask band.
    """

    def __init__(self, path: Path, bands: Sequence[int] | None, nodata: float | None):
        import rasterio
        from rasterio.enums import MaskFlags
        from rasterio.errors import RasterioError, RasterioIOError

        self.path, self.name, self.notes, self._nodata = path, path.name, [], nodata
        # Without a limit GDAL keeps 5% of the machine's memory in decoded blocks.
        self._environment = rasterio.Env(GDAL_CACHEMAX=_CACHE_MB)
        self._environment.__enter__()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                self._file = rasterio.open(path)
        except (RasterioError, RasterioIOError) as error:
            self._environment.__exit__(None, None, None)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{path} cannot be opened as a raster: {reason}") from error
        try:
            self._colours: np.ndarray | None = None
            self._bands = self._choose(bands)
            self.height, self.width = self._file.height, self._file.width
            self.dtype = "uint8" if self._colours is not None else str(self._file.dtypes[self._bands[0] - 1])
            if np.dtype(self.dtype).kind not in "uif":
                raise UserError(f"The pixels of {self.name} are {self.dtype}; whole or real numbers are needed.")
            self.georef = _georef(self._file)
            flags = self._file.mask_flag_enums
            self._complete = all(MaskFlags.all_valid in each for each in flags)
            self._masked = any(MaskFlags.per_dataset in each for each in flags)  # alpha or a mask band
        except UserError:
            self.close()
            raise
        if self.georef is not None and self.georef.transform is None:
            self.notes.append(
                f"{self.name} is located by control points or RPCs alone: they are copied to the masks, and polygons "
                "stay in pixels. Warp the image first (gdalwarp) to get them on the ground."
            )

    def _choose(self, bands: Sequence[int] | None) -> tuple[int, int, int]:
        """The bands shown as red, green and blue."""
        from rasterio.enums import ColorInterp

        count, meaning = self._file.count, list(self._file.colorinterp)
        if bands is not None:
            if len(bands) not in (1, 3):
                raise UserError(f"Three bands (or one) are shown as red, green and blue, not {len(bands)}.")
            for band in bands:
                if not 1 <= band <= count:
                    raise UserError(f"{self.name} has no band {band}: its {count} bands are counted from 1.")
            return (bands[0],) * 3 if len(bands) == 1 else (bands[0], bands[1], bands[2])
        wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        if all(colour in meaning for colour in wanted):
            red, green, blue = (meaning.index(colour) + 1 for colour in wanted)
            return red, green, blue
        shown = [band for band in range(1, count + 1) if meaning[band - 1] != ColorInterp.alpha]
        if len(shown) == 1:
            if meaning[shown[0] - 1] == ColorInterp.palette:
                table = self._file.colormap(shown[0])
                self._colours = np.array([table.get(level, (0, 0, 0))[:3] for level in range(256)], dtype=np.uint8)
            return (shown[0],) * 3
        if len(shown) < 3:
            raise UserError(
                f"{self.name} has {count} bands, of which none is marked as red, green or blue: name them with "
                "--bands R,G,B (or --bands N for a single one)."
            )
        if count > 3:
            self.notes.append(
                f"{self.name} has {count} bands and does not say which are red, green and blue: bands "
                f"{shown[0]}, {shown[1]}, {shown[2]} are taken. Choose others with --bands."
            )
        return shown[0], shown[1], shown[2]

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        if window == self.whole:
            self.decoded += 1
        return self._pixels(window=_window(window))

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`: alpha, mask bands and the file's nodata as GDAL combines them.

        A nodata value that was given counts where all shown bands have it, a NaN where one has it.
        """
        if self._nodata is not None or np.dtype(self.dtype).kind == "f":
            return self._holds_data(self._pixels(window=_window(window)), window=_window(window))
        return self._mask(window=_window(window))

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearest pixels of the raster's own overviews, where it has them."""
        shrink = max(1.0, max(self.height, self.width) / side)
        shape = (max(1, round(self.height / shrink)), max(1, round(self.width / shrink)))
        pixels_HWC = self._pixels(out_shape=(len(set(self._bands)), *shape))
        if self._nodata is not None or np.dtype(self.dtype).kind == "f":
            return pixels_HWC, self._holds_data(pixels_HWC, out_shape=shape)
        return pixels_HWC, self._mask(out_shape=shape)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._environment.__exit__(None, None, None)

    def _pixels(self, **where: Any) -> np.ndarray:
        from rasterio.errors import RasterioError

        distinct = list(dict.fromkeys(self._bands))
        try:
            pixels_CHW = self._file.read(distinct, **where)
        except RasterioError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{self.path} cannot be read to its end: {reason}") from error
        if self._colours is not None:
            return self._colours[pixels_CHW[0]]
        return np.moveaxis(pixels_CHW[[distinct.index(band) for band in self._bands]], 0, 2)

    def _mask(self, **where: Any) -> np.ndarray:
        if self._complete:  # what GDAL would find out by filling an array
            window = where.get("window")
            return np.ones(where["out_shape"] if window is None else (window.height, window.width), dtype=bool)
        from rasterio.errors import RasterioError

        try:
            return self._file.dataset_mask(**where) > 0
        except RasterioError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{self.path} cannot be read to its end: {reason}") from error

    def _holds_data(self, pixels_HWC: np.ndarray, **where: Any) -> np.ndarray:
        valid_HW = np.isfinite(pixels_HWC).all(2)
        if self._nodata is not None:
            valid_HW &= (pixels_HWC != self._nodata).any(2)
            return valid_HW & self._mask(**where) if self._masked else valid_HW
        return valid_HW & self._mask(**where)


class DataArraySource(Source):
    """An xarray.DataArray with rioxarray's ``.rio``: (band, y, x) or (y, x), lazy ones too."""

    def __init__(self, array: Any, bands: Sequence[int] | None, nodata: float | None):
        if array.ndim not in (2, 3):
            raise UserError(f"The DataArray has the dimensions {array.dims}; (band, y, x) or (y, x) is needed.")
        if array.dims[-2:] != (array.rio.y_dim, array.rio.x_dim):
            raise UserError(f"The DataArray has the dimensions {array.dims}; transpose it to (band, y, x) or (y, x).")
        count = 1 if array.ndim == 2 else array.shape[0]
        if bands is None:
            if count == 2:
                raise UserError("The DataArray has 2 bands: choose with bands=(red, green, blue), counted from 1.")
            bands = (1,) if count == 1 else (1, 2, 3)
        for band in bands:
            if not 1 <= band <= count:
                raise UserError(f"The DataArray has no band {band}: its {count} bands are counted from 1.")
        if len(bands) not in (1, 3):
            raise UserError(f"Three bands (or one) are shown as red, green and blue, not {len(bands)}.")
        self._bands = tuple(bands) if len(bands) == 3 else (bands[0],) * 3
        self._array = array if array.ndim == 3 else array.expand_dims("band")
        self._nodata = array.rio.nodata if nodata is None else nodata
        self.name, self.notes = str(array.name or "DataArray"), []
        self.height, self.width = int(array.shape[-2]), int(array.shape[-1])
        self.dtype = str(array.dtype)
        transform = array.rio.transform()
        crs = array.rio.crs
        self.georef = None if crs is None and transform.is_identity else Georef(crs, transform)
        if count > 3 and tuple(bands) == (1, 2, 3):
            self.notes.append(f"{self.name} has {count} bands: 1, 2, 3 are taken. Choose others with bands=.")

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        if window == self.whole:
            self.decoded += 1
        return self._pixels(*window.slices)

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`."""
        return self._holds_data(self._pixels(*window.slices))

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Every n-th pixel."""
        step = max(1, -(-max(self.height, self.width) // side))
        pixels_HWC = self._pixels(slice(None, None, step), slice(None, None, step))
        return pixels_HWC, self._holds_data(pixels_HWC)

    def _pixels(self, rows: slice, columns: slice) -> np.ndarray:
        bands = [band - 1 for band in self._bands]
        return np.moveaxis(np.asarray(self._array[:, rows, columns][bands]), 0, 2)

    def _holds_data(self, pixels_HWC: np.ndarray) -> np.ndarray:
        valid_HW = np.ones(pixels_HWC.shape[:2], dtype=bool)
        if pixels_HWC.dtype.kind == "f":
            valid_HW = np.isfinite(pixels_HWC).all(2)
        if self._nodata is not None and not np.isnan(self._nodata):
            valid_HW &= (pixels_HWC != self._nodata).any(2)
        return valid_HW


def georeference(path: Path) -> Georef | None:
    """The georeference of a file alone, from a world file or ``.aux.xml`` too."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return _georef(file)


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
