"""What is predicted on: pictures, arrays and georeferenced rasters, read window by window.

Plain images go through `rrsis_bench.data.pixels.images`, the code that evaluation uses, and need no extra. Everything
else is opened by rasterio, from the extra ``[geo]``, in `rrsis_bench.predict.sources.raster`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rrsis_bench.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_WORLD_FILES = {".png": (".pgw", ".wld"), ".jpg": (".jgw", ".wld"), ".jpeg": (".jgw", ".wld"), ".bmp": (".bpw",)}


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: left column, top row, width, height."""

    x: int
    y: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def inside(self, height: int, width: int, name: str) -> Window:
        """Itself; UserError where it has no pixels or leaves an image of height x width."""
        fits = self.x >= 0 and self.y >= 0 and self.x + self.width <= width and self.y + self.height <= height
        if self.width < 1 or self.height < 1 or not fits:
            raise UserError(
                f"The window x {self.x}, y {self.y}, {self.width} x {self.height} pixels does not lie inside {name}, "
                f"which has {width} x {height} pixels."
            )
        return self


@dataclass(frozen=True, slots=True)
class Georef:
    """Where the pixels lie on the ground.

    Attributes:
        crs: rasterio's CRS, passed on as it is (it may have no EPSG code); None where unknown.
        transform: affine.Affine from (column, row) to ground coordinates, or None.
        gcps: ground control points with their CRS, where the raster has no transform; else None.
        rpcs: rational polynomial coefficients as GDAL's tags; empty where there are none.
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[Sequence[Any], Any] | None = None
    rpcs: dict[str, str] = field(default_factory=dict)

    def windowed(self, window: Window) -> Georef:
        """The georeference of a part of the image; control points and RPCs do not move and are left out."""
        if (window.x, window.y) == (0, 0):
            return self
        t = self.transform
        if t is None:
            return Georef(self.crs)
        x, y = window.x, window.y
        return Georef(self.crs, type(t)(t.a, t.b, t.a * x + t.b * y + t.c, t.d, t.e, t.d * x + t.e * y + t.f))


class Source(ABC):
    """An image of any size.

    Attributes:
        name: for messages: the file's name, or ``array``.
        path: the file, or None.
        height, width: pixels.
        dtype: numpy's name of the pixels' type.
        georef: None where the image has none.
        notes: what a user has to know of how it is read.
        decoded: how often the whole image was decoded.
    """

    name: str
    path: Path | None = None
    height: int
    width: int
    dtype: str
    georef: Georef | None = None
    notes: list[str]
    decoded: int = 0

    @abstractmethod
    def read(self, window: Window) -> np.ndarray:
        """The pixels of a window in the image's own type, (h, w, 3); a single band three times."""

    @abstractmethod
    def valid(self, window: Window) -> np.ndarray:
        """Which pixels of a window hold data, bool (h, w)."""

    @abstractmethod
    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The image at `side` pixels or fewer along its longer side: pixels (h, w, 3) and bool (h, w)."""

    def close(self) -> None:
        """Let go of the file."""
        return

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def whole(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.width, self.height)


class ArraySource(Source):
    """Pixels in memory.

    Args:
        pixels_HWC: (H, W, 3), or (H, W) for a single band.
        valid_HW: bool; all True where None.
        name: for messages.
        georef: None where it has none.
    """

    def __init__(
        self,
        pixels_HWC: np.ndarray,
        valid_HW: np.ndarray | None = None,
        *,
        name: str = "array",
        georef: Georef | None = None,
    ):
        if pixels_HWC.ndim == 2:
            pixels_HWC = np.repeat(pixels_HWC[..., None], 3, axis=2)
        if pixels_HWC.ndim != 3 or pixels_HWC.shape[2] != 3 or not pixels_HWC.size:
            raise UserError(f"An image must be an array (height, width, 3) or (height, width), not {pixels_HWC.shape}.")
        if pixels_HWC.dtype.kind not in "uif":
            raise UserError(f"The pixels of {name} are {pixels_HWC.dtype}; whole or real numbers are needed.")
        self._pixels_HWC, self.name, self.georef = pixels_HWC, name, georef
        self.height, self.width = pixels_HWC.shape[:2]
        self.dtype = str(pixels_HWC.dtype)
        self._valid_HW = np.ones(pixels_HWC.shape[:2], dtype=bool) if valid_HW is None else valid_HW
        if pixels_HWC.dtype.kind == "f":
            self._valid_HW = self._valid_HW & np.isfinite(pixels_HWC).all(2)
        self.notes = []

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        return self._pixels_HWC[window.slices]

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`."""
        return self._valid_HW[window.slices]

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Every n-th pixel."""
        step = max(1, -(-max(self.height, self.width) // side))
        return self._pixels_HWC[::step, ::step], self._valid_HW[::step, ::step]


class PictureSource(ArraySource):
    """A plain picture, decoded once as evaluation decodes it; pixels of opacity 0 are invalid."""

    def __init__(self, path: Path, georef: Georef | None = None):
        from rrsis_bench.data.pixels.images import read_rgb

        super().__init__(read_rgb(path), _opaque(path), name=path.name, georef=georef)
        self.path, self.decoded = path, 1


class Cropped(Source):
    """A window of another source, as an image of its own; closes the other one."""

    def __init__(self, source: Source, window: Window):
        window.inside(source.height, source.width, source.name)
        self._source, self._window = source, window
        self.name, self.path, self.dtype, self.notes = source.name, source.path, source.dtype, list(source.notes)
        self.height, self.width = window.height, window.width
        self.georef = None if source.georef is None else source.georef.windowed(window)
        if source.georef is not None and (window.x, window.y) != (0, 0) and (source.georef.gcps or source.georef.rpcs):
            self.notes.append(
                f"Control points and RPCs of {self.name} are those of the whole image: masks of a part go without them."
            )

    def _placed(self, window: Window) -> Window:
        return Window(window.x + self._window.x, window.y + self._window.y, window.width, window.height)

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        if window == self.whole:
            self.decoded += 1
        return self._source.read(self._placed(window))

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`."""
        return self._source.valid(self._placed(window))

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """That of the whole image: its brightness must not depend on the window that is looked at."""
        return self._source.overview(side)

    def close(self) -> None:
        """Close the other source."""
        self._source.close()


def open_source(what: Any, *, bands: Sequence[int] | None = None, nodata: float | None = None) -> Source:
    """Open an image.

    Args:
        what: a path, an array (H, W, 3) or (H, W), a PIL image, or an xarray.DataArray with rioxarray's ``.rio``.
        bands: three bands (or one), counted from 1, to be shown as red, green and blue; None: by the file's colour
            interpretation.
        nodata: the value of pixels without data, where the file does not say it.

    Raises:
        UserError: a missing, unreadable or unsuitable image; the extra ``[geo]`` is needed and not installed.
    """
    if isinstance(what, (str, Path)):
        return _open_path(Path(what).expanduser(), bands, nodata)
    if hasattr(what, "rio"):
        from rrsis_bench.predict.sources.raster import DataArraySource

        return DataArraySource(what, bands, nodata)
    if bands is not None or nodata is not None:
        raise UserError("Bands and nodata are read from files; choose the bands of an array before handing it over.")
    if isinstance(what, np.ndarray):
        return ArraySource(what)
    if hasattr(what, "convert") and hasattr(what, "getbands"):
        return _from_pil(what)
    raise UserError(f"An image is a path, an array, a PIL image or an xarray.DataArray, not {type(what).__name__}.")


def _from_pil(image: Image) -> ArraySource:
    from rrsis_bench.data.pixels.images import check_mode

    check_mode(image)
    valid_HW = np.asarray(image.getchannel("A")) > 0 if "A" in image.getbands() else None
    return ArraySource(np.array(image.convert("RGB")), valid_HW, name="picture")


def _open_path(path: Path, bands: Sequence[int] | None, nodata: float | None) -> Source:
    if not path.exists():
        raise UserError(f"There is no image {path}.")
    if path.is_dir():
        raise UserError(f"{path} is a folder. Give one image; `for f in {path}/*.tif` predicts on all of them.")
    if path.suffix.lower() in PICTURES and bands is None and nodata is None:
        beside = [path.with_suffix(suffix) for suffix in _WORLD_FILES.get(path.suffix.lower(), ())]
        located = any(file.exists() for file in (*beside, path.with_name(path.name + ".aux.xml")))
        if not located:
            return PictureSource(path)
        from rrsis_bench.predict.sources.raster import georeference, installed

        if installed():
            return PictureSource(path, georeference(path))
        source = PictureSource(path)
        source.notes.append(f"{path.name} is georeferenced, which is lost without pip install 'rrsis-bench[geo]'.")
        return source
    from rrsis_bench.predict.sources.raster import RasterSource, require

    require(f"{path.name} is read")
    return RasterSource(path, bands, nodata)


def _opaque(path: Path) -> np.ndarray | None:
    """Where a picture's alpha channel is not 0; None without one."""
    from PIL import Image

    with Image.open(path) as image:
        if "A" in image.getbands():
            return np.asarray(image.getchannel("A")) > 0
        if "transparency" in image.info:
            return np.asarray(image.convert("RGBA").getchannel("A")) > 0
    return None
