"""Area of interest: its bounding window is the frame, and pixels outside it count as nodata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError, reason
from rrsis_bench.predict.sources import drivers
from rrsis_bench.predict.sources.raster import require
from rrsis_bench.predict.sources.source import Cropped, Source, Window


def reproject(table: Any, crs: str, what: str) -> Any:
    """Return a geopandas table in another coordinate system.

    Args:
        table: with a coordinate system.
        crs: anything that pyproj takes.
        what: the start of the error message.

    Raises:
        UserError: there is no transform, as from a local or engineering system, which has no place on the Earth.
    """
    from pyproj.exceptions import ProjError

    try:
        return table.to_crs(crs)
    except ProjError as error:
        raise UserError(
            f"{what} cannot be transformed from {table.crs.name}: there is no way from one coordinate system to the "
            f"other ({reason(error)}). A local system has no place on the Earth: stay in the image's own system."
        ) from error


class AreaOfInterest(Cropped):
    """The part of a georeferenced image under the polygons of a file.

    Args:
        source: the image, with a transform and a CRS.
        file: polygons in any format that GDAL reads and any CRS.

    Raises:
        UserError: the image is not georeferenced, or the file has no polygon over it.
    """

    def __init__(self, source: Source, file: Path):
        require(f"Reading {file.name}")
        import geopandas
        from shapely.affinity import affine_transform
        from shapely.errors import ShapelyError

        georef = source.georef
        if georef is None or not georef.located:
            raise UserError(f"{source.name} is not georeferenced. Choose a part of it with --window, in pixels.")
        if not file.is_file():
            raise UserError(f"There is no area of interest {file}. Check --aoi.")
        try:
            drivers.refuse_virtual_vectors(file)
            table = geopandas.read_file(file)
        except (RuntimeError, ShapelyError, OSError, ValueError) as error:  # pyogrio's errors are RuntimeErrors
            raise UserError(f"The area of interest {file} cannot be read: {reason(error)}") from error
        table = table[table.geom_type.notna() & ~table.geometry.is_empty]
        if table.empty or not set(table.geom_type) <= {"Polygon", "MultiPolygon"}:
            kinds = ", ".join(sorted(set(table.geom_type))) or "nothing"
            raise UserError(f"The area of interest {file} must contain polygons only. It contains: {kinds}.")
        if table.crs is None:
            raise UserError(f"The area of interest {file} has no coordinate system. Assign one to the file.")
        inverse = ~georef.transform
        try:
            ground = reproject(table.make_valid(), georef.crs.to_wkt(), f"The area of interest {file}").union_all()
        except ShapelyError as error:
            raise UserError(f"The polygons of {file} cannot be joined: {reason(error)}. Repair them.") from error
        if not np.isfinite(ground.bounds).all():  # PROJ returns infinity for coordinates outside a projection
            raise UserError(
                f"The area of interest {file} cannot be placed in the coordinate system of {source.name}. Check that "
                f"its coordinates are in {table.crs.name}, as the file says."
            )
        self._area = affine_transform(ground, [inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f])
        left, top, right, bottom = self._area.bounds
        # A millionth of a pixel is rounding in the transforms. It must not add a row or column.
        x, y = max(0, math.floor(left + 1e-6)), max(0, math.floor(top + 1e-6))
        width = min(source.width, math.ceil(right - 1e-6)) - x
        height = min(source.height, math.ceil(bottom - 1e-6)) - y
        if width < 1 or height < 1:
            raise UserError(
                f"The area of interest {file} does not overlap {source.name}. Check both coordinate systems."
            )
        super().__init__(source, Window(x, y, width, height))

    def valid(self, window: Window) -> np.ndarray:
        """Return which pixels hold data and have their centre in the area."""
        from rasterio.features import geometry_mask
        from rasterio.transform import Affine

        placed = self._in_source(window)
        origin = Affine.translation(placed.x, placed.y)
        inside_HW = geometry_mask([self._area], (window.height, window.width), origin, invert=True)
        valid_HW: np.ndarray = np.logical_and(inside_HW, super().valid(window))
        return valid_HW
