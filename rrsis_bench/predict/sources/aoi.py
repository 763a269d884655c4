"""An area of interest: its bounding window is the frame, and pixels outside of it hold no data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.raster import require
from rrsis_bench.predict.sources.source import Cropped, Source, Window


class AreaOfInterest(Cropped):
    """The part of a georeferenced image under the polygons of a file.

    Args:
        source: the image, with a transform and a CRS.
        file: polygons in any format that GDAL reads and any CRS.

    Raises:
        UserError: the image is not georeferenced, or the file holds no polygon over it.
    """

    def __init__(self, source: Source, file: Path):
        require(f"{file.name} is read")
        import geopandas
        from pyogrio.errors import DataSourceError
        from shapely.affinity import affine_transform

        georef = source.georef
        if georef is None or georef.transform is None or georef.crs is None:
            raise UserError(f"{source.name} is not georeferenced: choose its part with --window, in pixels.")
        if not file.is_file():
            raise UserError(f"There is no area of interest {file}.")
        try:
            table = geopandas.read_file(file)
        except (DataSourceError, OSError, ValueError) as error:
            raise UserError(f"The area of interest {file} cannot be read: {str(error).splitlines()[0]}") from error
        table = table[table.geom_type.notna() & ~table.geometry.is_empty]
        if table.empty or not set(table.geom_type) <= {"Polygon", "MultiPolygon"}:
            kinds = ", ".join(sorted(set(table.geom_type))) or "nothing"
            raise UserError(f"The area of interest {file} must hold polygons; it holds {kinds}.")
        if table.crs is None:
            raise UserError(f"The area of interest {file} has no coordinate system.")
        inverse = ~georef.transform
        ground = table.make_valid().to_crs(georef.crs.to_wkt()).union_all()
        if not np.isfinite(ground.bounds).all():  # what PROJ gives for coordinates that lie nowhere
            raise UserError(
                f"The area of interest {file} cannot be placed in the coordinate system of {source.name}: are its "
                f"coordinates in {table.crs.name}, as it says?"
            )
        self._area = affine_transform(ground, [inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f])
        left, top, right, bottom = self._area.bounds
        # A millionth of a pixel is rounding in the transforms, and no row or column of its own.
        x, y = max(0, math.floor(left + 1e-6)), max(0, math.floor(top + 1e-6))
        width = min(source.width, math.ceil(right - 1e-6)) - x
        height = min(source.height, math.ceil(bottom - 1e-6)) - y
        if width < 1 or height < 1:
            raise UserError(f"The area of interest {file} does not lie over {source.name}.")
        super().__init__(source, Window(x, y, width, height))

    def valid(self, window: Window) -> np.ndarray:
        """Pixels with data whose centres lie in the area."""
        from rasterio.features import geometry_mask
        from rasterio.transform import Affine

        placed = self._placed(window)
        at = Affine.translation(placed.x, placed.y)
        inside_HW = geometry_mask([self._area], (window.height, window.width), at, invert=True)
        return inside_HW & super().valid(window)
