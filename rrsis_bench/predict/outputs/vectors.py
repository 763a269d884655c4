"""Convert polygons to a table on the ground and to files for geographic information systems."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError, reason
from rrsis_bench.predict.outputs.polygons import TracedObject
from rrsis_bench.predict.outputs.rasters import unwritten
from rrsis_bench.predict.sources.aoi import reproject
from rrsis_bench.predict.sources.source import Georef

FORMATS = {"gpkg": ".gpkg", "geojson": ".geojson", "parquet": ".parquet"}
LAYER = "predictions"
COLUMNS = {
    "expression": "object",
    "expression_id": "int64",
    "image": "object",
    "model": "object",
    "weights_sha": "object",
    "score_mean": "float64",
    "area_px": "int64",
    "area_m2": "float64",
    "touches_edge": "bool",
    "view": "object",
}


def to_table(
    objects: Sequence[Sequence[TracedObject]],
    expressions: Sequence[str],
    georef: Georef | None,
    size: tuple[int, int],
    meta: Mapping[str, str],
    *,
    simplify: float = 0.0,
    min_area_m2: float = 0.0,
) -> Any:
    """Return a GeoDataFrame with one row per object and the columns `COLUMNS`.

    Geometries are in ground coordinates, or in pixels (x right, y down) if the image has no transform. ``area_m2`` is
    geodesic for every projection, and missing without a CRS. ``touches_edge``: the object reaches the border of the
    image or window, and may continue beyond it.

    Args:
        objects: the objects of each expression.
        expressions: one per list of `objects`.
        georef: of the image, or None.
        size: (height, width) of the image in pixels.
        meta: tags of the prediction; image, model, weights_sha and view become columns.
        simplify: largest distance in pixels by which a border may move; 0 keeps every corner.
        min_area_m2: smaller objects are dropped; needs a CRS.

    Raises:
        UserError: `min_area_m2` without a CRS.
    """
    import geopandas
    import shapely
    from shapely.affinity import affine_transform

    transform = None if georef is None else georef.transform
    crs = None if georef is None or transform is None else georef.crs
    if min_area_m2 and crs is None:
        raise UserError("min-area in m2 needs an image with a coordinate system. Give it in pixels, such as 20px.")

    def placed(polygon: Any) -> Any:
        t = transform
        return polygon if t is None else affine_transform(polygon, [t.a, t.b, t.d, t.e, t.c, t.f])

    tags = {name: meta[name] for name in ("image", "model", "weights_sha", "view")}
    rows: list[dict[str, Any]] = []
    geometries = []
    area_of = _area_function(crs)
    for index, (found, expression) in enumerate(zip(objects, expressions, strict=True)):
        for one in found:
            left, top, right, bottom = one.polygon.bounds
            area = area_of(placed(one.polygon))  # of the object, not of its simplified outline
            if area < min_area_m2:
                continue
            kept = shapely.simplify(one.polygon, simplify, preserve_topology=True) if simplify else one.polygon
            # South-up and rotated rasters reverse the direction of rings.
            geometries.append(shapely.orient_polygons(placed(kept)))
            rows.append(
                {
                    "expression": expression,
                    "expression_id": index,
                    **tags,
                    "score_mean": one.score,
                    "area_px": one.area,
                    "area_m2": area,
                    "touches_edge": left <= 0 or top <= 0 or right >= size[1] or bottom >= size[0],
                }
            )
    columns = {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()}
    return geopandas.GeoDataFrame(columns, geometry=geometries, crs=None if crs is None else crs.to_wkt())


def write(table: Any, path: Path, *, to_crs: str | None = None) -> None:
    """Write the table as a GeoPackage (one layer, `LAYER`), GeoJSON (RFC 7946) or GeoParquet, by the file's suffix.

    Raises:
        UserError: polygons outside `to_crs`, GeoJSON or `to_crs` without a coordinate system, or a file that cannot be
            written.
    """
    from pyogrio.errors import DataSourceError, FieldError

    suffix = path.suffix.lower()
    if table.crs is None and (to_crs or suffix == ".geojson"):
        option = "GeoJSON" if suffix == ".geojson" else "to-crs"
        raise UserError(f"{option} needs an image with a coordinate system. Write polygons in pixels to a GeoPackage.")
    if to_crs:
        table = reproject(table, to_crs, f"to-crs={to_crs}: the table")
        if len(table) and not np.isfinite(table.total_bounds).all():
            raise UserError(f"to-crs={to_crs} does not cover the polygons. Choose one that covers the image.")
    if suffix == ".geojson":
        reproject(table, "OGC:CRS84", "vector=geojson: the table")  # GDAL does it again, with RFC 7946's rules
    try:
        with warnings.catch_warnings():
            # Long expressions and other column types are no fault of the file.
            warnings.simplefilter("ignore")
            if suffix == ".parquet":
                table.to_parquet(path)
            elif suffix == ".geojson":
                table.to_file(path, driver="GeoJSON", RFC7946="YES")
            else:
                table.to_file(path, layer=LAYER, driver="GPKG", geometry_type="Unknown")
    except (DataSourceError, FieldError, OSError) as error:
        raise unwritten(path, error) from error


def read(path: Path) -> Any:
    """Read a table that `write` wrote; UserError if it cannot be read."""
    import geopandas

    try:
        return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    except Exception as error:  # GDAL, PyArrow and PROJ raise unrelated types for a damaged file
        raise UserError(f"{path} cannot be read: {reason(error)}. Predict its image again with --overwrite.") from error


def append(files: Sequence[tuple[str, Path]], path: Path, crs: Any) -> None:
    """Write the rows of several tables into one layer of a new GeoPackage, one table at a time.

    Args:
        files: the image that a row is labelled with, and the file of its polygons.
        path: the GeoPackage.
        crs: of the layer.

    Raises:
        UserError: a file cannot be read, transformed or written.
    """
    from pyogrio.errors import DataSourceError, FieldError

    for number, (image, file) in enumerate(files):
        table = reproject(read(file), crs, str(file)).assign(image=image)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mode = "a" if number else "w"
                table.to_file(path, layer=LAYER, driver="GPKG", geometry_type="Unknown", mode=mode)
        except (DataSourceError, FieldError, OSError) as error:
            raise unwritten(path, error) from error


def check_crs(text: str) -> None:
    """Raise UserError if `text` names no coordinate system."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(text)
    except CRSError as error:
        raise UserError(
            f"to-crs={text} is no coordinate system: {reason(error)}. Give one such as EPSG:4326."
        ) from error


def _area_function(crs: Any) -> Callable[[Any], float]:
    """Return a function from a polygon in `crs` to square metres on the ellipsoid; NaN without a CRS."""
    if crs is None:
        return lambda _: float("nan")
    import shapely
    from pyproj import CRS, Transformer

    ground = CRS.from_wkt(crs.to_wkt())
    geodetic = ground.geodetic_crs
    ellipsoid = None if geodetic is None else geodetic.get_geod()
    if ellipsoid is None:  # a local grid: only its own plane is known
        unit = ground.axis_info[0].unit_conversion_factor if ground.axis_info else 1.0
        return lambda polygon: float(polygon.area) * unit**2
    to_degrees = Transformer.from_crs(ground, geodetic, always_xy=True)

    def degrees(points_N2: np.ndarray) -> np.ndarray:
        return np.column_stack(to_degrees.transform(points_N2[:, 0], points_N2[:, 1]))

    def area(polygon: Any) -> float:
        return abs(float(ellipsoid.geometry_area_perimeter(shapely.transform(polygon, degrees))[0]))

    return area
