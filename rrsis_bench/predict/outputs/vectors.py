"""Polygons as a table on the ground, and as files for geographic information systems."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.outputs.polygons import Shape
from rrsis_bench.predict.sources.source import Georef

FORMATS = {"gpkg": ".gpkg", "geojson": ".geojson", "parquet": ".parquet"}
LAYER = "predictions"
COLUMNS = {
    "expression": "str",
    "expression_id": "int64",
    "image": "str",
    "model": "str",
    "weights_sha": "str",
    "score_mean": "float64",
    "area_px": "int64",
    "area_m2": "float64",
    "touches_edge": "bool",
    "view": "str",
}


def to_table(
    shapes: Sequence[Sequence[Shape]],
    expressions: Sequence[str],
    georef: Georef | None,
    size: tuple[int, int],
    meta: Mapping[str, str],
    *,
    simplify: float = 0.0,
    min_area_m2: float = 0.0,
) -> Any:
    """A GeoDataFrame with one row per object and the columns `COLUMNS`.

    Geometries lie on the ground, or in pixels (x right, y down) where the image has no transform. ``area_m2`` is
    geodesic whatever the projection, and missing without one. ``touches_edge``: the object reaches the border of the
    image, or of the window that was predicted on, and may go on beyond.

    Args:
        shapes: the objects of each expression.
        expressions: one per list of `shapes`.
        georef: of the image, or None.
        size: (height, width) of the image in pixels.
        meta: the columns image, model, weights_sha and view.
        simplify: largest distance in pixels by which a border may move; 0 keeps every corner.
        min_area_m2: smaller objects are dropped; only with a CRS.

    Raises:
        UserError: `min_area_m2` without a CRS.
    """
    import geopandas
    import shapely
    from shapely.affinity import affine_transform

    transform = None if georef is None else georef.transform
    crs = None if georef is None or transform is None else georef.crs
    if min_area_m2 and crs is None:
        raise UserError("A smallest area in m2 needs an image with a coordinate system; give it in pixels (20px).")

    def placed(polygon: Any) -> Any:
        if transform is None:
            return polygon
        t = transform
        return affine_transform(polygon, [t.a, t.b, t.d, t.e, t.c, t.f])

    rows: list[dict[str, Any]] = []
    geometries = []
    area_of = _area_function(crs)
    for index, (found, expression) in enumerate(zip(shapes, expressions, strict=True)):
        for one in found:
            left, top, right, bottom = one.polygon.bounds
            area = area_of(placed(one.polygon))  # of the object itself, not of a simplified one
            if area < min_area_m2:
                continue
            kept = shapely.simplify(one.polygon, simplify, preserve_topology=True) if simplify else one.polygon
            # South-up and rotated rasters turn the rings around.
            geometries.append(shapely.orient_polygons(placed(kept)))
            rows.append(
                {
                    "expression": expression,
                    "expression_id": index,
                    **meta,
                    "score_mean": one.score,
                    "area_px": one.area,
                    "area_m2": area,
                    "touches_edge": left <= 0 or top <= 0 or right >= size[1] or bottom >= size[0],
                }
            )
    columns = {name: np.array([row[name] for row in rows], dtype=_numpy(kind)) for name, kind in COLUMNS.items()}
    return geopandas.GeoDataFrame(columns, geometry=geometries, crs=None if crs is None else crs.to_wkt())


def write(table: Any, path: Path, kind: str, *, to_crs: str | None = None) -> None:
    """Write the table: ``gpkg`` (one layer, `LAYER`), ``geojson`` (RFC 7946: longitude, latitude) or ``parquet``.

    Raises:
        UserError: polygons that have no place in `to_crs`; GeoJSON or `to_crs` without a coordinate system; a file
            that cannot be written.
    """
    from pyogrio.errors import DataSourceError, FieldError

    if table.crs is None and (to_crs or kind == "geojson"):
        what = "GeoJSON is in longitude and latitude, but the" if kind == "geojson" else "The"
        raise UserError(f"{what} image has no coordinate system; write its polygons, in pixels, to a GeoPackage.")
    if to_crs:
        table = table.to_crs(to_crs)
        if len(table) and not np.isfinite(table.total_bounds).all():
            raise UserError(f"The polygons have no place in to-crs={to_crs}; choose one that covers the image.")
    try:
        with warnings.catch_warnings():
            # Temporary names and long expressions are no faults of the file.
            warnings.simplefilter("ignore")
            if kind == "parquet":
                table.to_parquet(path)
            elif kind == "geojson":
                table.to_file(path, driver="GeoJSON", RFC7946="YES")
            else:
                table.to_file(path, layer=LAYER, driver="GPKG", geometry_type="Unknown")
    except (DataSourceError, FieldError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path.parent} took no complete {path.suffix} file ({reason}). Is the disk full?") from error


def check_crs(text: str) -> None:
    """UserError where `text` names no coordinate system; before any work."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(text)
    except CRSError as error:
        raise UserError(f"to-crs={text} is no coordinate system: {str(error).splitlines()[0]}") from error


def _area_function(crs: Any) -> Any:
    """Polygon in `crs` -> square metres on the ellipsoid; NaN without a CRS."""
    if crs is None:
        return lambda _: float("nan")
    import shapely
    from pyproj import CRS, Transformer

    ground = CRS.from_wkt(crs.to_wkt())
    geodetic = ground.geodetic_crs
    ellipsoid = None if geodetic is None else geodetic.get_geod()
    if ellipsoid is None:  # a local grid: its own plane is all that is known
        unit = ground.axis_info[0].unit_conversion_factor if ground.axis_info else 1.0
        return lambda polygon: float(polygon.area) * unit**2
    to_degrees = Transformer.from_crs(ground, geodetic, always_xy=True)

    def degrees(points_N2: np.ndarray) -> np.ndarray:
        return np.column_stack(to_degrees.transform(points_N2[:, 0], points_N2[:, 1]))

    def area(polygon: Any) -> float:
        return abs(ellipsoid.geometry_area_perimeter(shapely.transform(polygon, degrees))[0])

    return area


def _numpy(kind: str) -> Any:
    return object if kind == "str" else kind
