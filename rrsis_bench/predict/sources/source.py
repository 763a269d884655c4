"""The interface of an image that is predicted on, read window by window.

Plain images are in `rrsis_bench.predict.sources.images`, georeferenced rasters in `rrsis_bench.predict.sources.raster`;
`rrsis_bench.predict.sources.opening` chooses between them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError


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


@dataclass(frozen=True, slots=True)
class Georef:
    """Position of the pixels on the ground.

    Attributes:
        crs: rasterio's CRS, passed on unchanged (it may have no EPSG code); None if unknown.
        transform: affine.Affine from (column, row) to ground coordinates, or None.
        gcps: ground control points with their CRS if the raster has no transform, else None.
        rpcs: rational polynomial coefficients as GDAL's tags; empty without any.
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[Sequence[Any], Any] | None = None
    rpcs: dict[str, str] = field(default_factory=dict)

    @property
    def located(self) -> bool:
        """Whether pixels can be placed on the ground: there is a transform and a CRS."""
        return self.transform is not None and self.crs is not None

    def windowed(self, window: Window) -> Georef:
        """Return the georeference of a part of the image, without control points and RPCs, which do not move."""
        if (window.x, window.y) == (0, 0):
            return self
        if self.transform is None:
            return Georef(self.crs)
        return Georef(self.crs, self.transform * type(self.transform).translation(window.x, window.y))


class Source(ABC):
    """An image of any size.

    Attributes:
        name: for messages: the file's name, or ``array``.
        height, width: pixels.
        dtype: numpy's name of the pixels' type.
        georef: None if the image has none.
        notes: warnings about how the image is read.
        nodata: value of each shown band that stands for missing data; None without one.
    """

    name: str
    height: int
    width: int
    dtype: str
    georef: Georef | None = None
    notes: list[str]
    nodata: tuple[float | None, ...] = (None, None, None)

    @abstractmethod
    def read(self, window: Window) -> np.ndarray:
        """Return the pixels of a window in the image's own type, (h, w, 3); a single band is repeated three times."""

    @abstractmethod
    def valid(self, window: Window) -> np.ndarray:
        """Return which pixels of a window hold data, bool (h, w)."""

    @abstractmethod
    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image reduced to at most `side` pixels per side: pixels (h, w, 3) and bool (h, w)."""

    def close(self) -> None:
        """Close the file."""
        return

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def whole(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.width, self.height)


def check_dtype(dtype: np.dtype, name: str) -> str:
    """Return numpy's name of an image's type; UserError if its pixels are not integers or floats."""
    if dtype.kind not in "uif":
        raise UserError(f"The pixels of {name} are {dtype}. Convert them to integers or floats.")
    return str(dtype)


def no_valid_pixel(source: Source) -> UserError:
    """Return the error for an image without data."""
    return UserError(f"{source.name} has no valid pixel: all of it is nodata. Check --nodata and the image's mask.")


class Cropped(Source):
    """A window of another source as an image of its own. Closing it closes the other source.

    Raises:
        UserError: the window has no pixels or leaves the image.
    """

    def __init__(self, source: Source, window: Window):
        fits = 0 <= window.x <= source.width - window.width and 0 <= window.y <= source.height - window.height
        if window.width < 1 or window.height < 1 or not fits:
            raise UserError(
                f"window x {window.x}, y {window.y}, {window.width} x {window.height} pixels is not inside "
                f"{source.name}, which has {source.width} x {source.height} pixels. Choose a window inside it."
            )
        self._source, self._window = source, window
        self.name, self.dtype, self.notes = source.name, source.dtype, list(source.notes)
        self.height, self.width = window.height, window.width
        self.nodata = source.nodata
        self.georef = None if source.georef is None else source.georef.windowed(window)
        if source.georef is not None and (window.x, window.y) != (0, 0) and (source.georef.gcps or source.georef.rpcs):
            self.notes.append(
                f"Control points and RPCs of {self.name} apply to the whole image only. The masks of a window are "
                "written without them."
            )

    def _in_source(self, window: Window) -> Window:
        return Window(window.x + self._window.x, window.y + self._window.y, window.width, window.height)

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        return self._source.read(self._in_source(window))

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`."""
        return self._source.valid(self._in_source(window))

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole image's overview: brightness must not depend on the chosen window."""
        return self._source.overview(side)

    def close(self) -> None:
        """Close the other source."""
        self._source.close()
