"""Polygons and masks on the ground: any georeference, area of interest, coordinate system of the output."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pytest
import rasterio
from pyproj import Geod, Proj
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine

from rrsis_bench.errors import UserError
from rrsis_bench.predict.outputs import vectors
from tests.fakes.echo import CUT
from tests.predict.jobs import SENTENCES, SIDE, predict, square
from tests.predict.rasters import DEGREES, NORTH_UP, ROTATED, SOUTH_UP, UTM, WKT_ONLY, write_raster

PLACES = {
    "utm": (UTM, NORTH_UP),
    "degrees": (CRS.from_epsg(4326), DEGREES),
    "wkt_only": (WKT_ONLY, NORTH_UP),
    "south_up": (UTM, SOUTH_UP),
    "rotated": (UTM, ROTATED),
    "web_mercator": (CRS.from_epsg(3857), Affine(0.5, 0, 1_280_000, 0, -0.5, 6_130_000)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("window", [None, (8, 16, 64, 48)])
def test_georeference_and_polygons_are_exact(tmp_path, place, window):
    crs, transform = PLACES[place]
    image = write_raster(tmp_path / "scene.tif", square(), crs=crs, transform=transform)
    x, y, width, height = window or (0, 0, SIDE, SIDE)
    with rasterio.open(image) as file:
        expected = file.window_transform(rasterio.windows.Window(x, y, width, height))
        stored = file.crs
    content = predict(image, tmp_path / "out", window=window, save_prob=True)

    with rasterio.open(tmp_path / "out/scene.mask.tif") as file:
        assert (file.crs, file.shape, file.count) == (stored, (height, width), 2)
        np.testing.assert_allclose(tuple(file.transform), tuple(expected), rtol=0, atol=1e-9)
        masks = file.read()
        assert file.descriptions == SENTENCES
        assert file.tags()["model"] == "echo"
        assert (file.nodata, file.profile["compress"], file.profile["driver"]) == (255, "deflate", "GTiff")
    if window is None:
        np.testing.assert_array_equal(masks[0], square()[..., 0] > CUT)
    assert masks.any()

    table = geopandas.read_file(tmp_path / "out/scene.gpkg", layer="predictions")
    assert list(table.columns) == [*vectors.COLUMNS, "geometry"]
    assert table.is_valid.all()
    for index, mask in enumerate(masks):
        own = table[table.expression_id == index]
        back = rasterize(own.geometry, out_shape=mask.shape, transform=expected)
        np.testing.assert_array_equal(back, mask)
        assert content["expressions"][index]["area_px"] == mask.sum() == own.area_px.sum()
        assert content["expressions"][index]["objects"] == len(own)
    assert set(table.touches_edge) == ({True, False} if window is None else {True})
    assert table.score_mean.between(0.5, 1).all()

    ring = table.to_crs("EPSG:4326")
    geodesic = [abs(Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]) for shape in ring.geometry]
    np.testing.assert_allclose(table.area_m2, geodesic, rtol=1e-3)
    with rasterio.open(tmp_path / "out/scene.prob.tif") as file:
        prob = file.read(1)
        np.testing.assert_array_equal(prob > 127, masks[0] == 1)


def test_areas_against_the_scale_of_the_projection(tmp_path):
    """Independent of geodesics: planar area over the projection's areal scale, and the ellipsoid's own cell size."""
    image = write_raster(tmp_path / "scene.tif", square())
    predict(image, tmp_path / "out")
    table = geopandas.read_file(tmp_path / "out/scene.gpkg")
    lon, lat = table.to_crs(4326).geometry.iloc[0].centroid.coords[0]
    scale = Proj("EPSG:32632").get_factors(lon, lat).areal_scale
    np.testing.assert_allclose(table.area_m2, table.area / scale, rtol=1e-3)

    image = write_raster(tmp_path / "deg.tif", square(), crs=CRS.from_epsg(4326), transform=DEGREES)
    predict(image, tmp_path / "out")
    table = geopandas.read_file(tmp_path / "out/deg.gpkg")
    a, e2, phi = 6378137.0, 0.00669437999014, np.radians(48.1)
    curve = 1 - e2 * np.sin(phi) ** 2
    cell = a * (1 - e2) / curve**1.5 * a / curve**0.5 * np.cos(phi) * np.radians(1e-5) ** 2
    np.testing.assert_allclose(table.area_m2, table.area_px * cell, rtol=1e-3)


def test_geojson_is_longitude_and_latitude(tmp_path):
    image = write_raster(tmp_path / "scene.tif", square(), transform=SOUTH_UP)
    predict(image, tmp_path / "out", vector="geojson")
    content = json.loads((tmp_path / "out/scene.geojson").read_text())
    assert "crs" not in content
    points = np.array([p for f in content["features"] for ring in f["geometry"]["coordinates"] for p in ring])
    assert np.abs(points[:, 0]).max() <= 180
    assert np.abs(points[:, 1]).max() <= 90
    np.testing.assert_allclose(points.mean(0), (9, 47.85), atol=0.1)
    for feature in content["features"]:
        outer = np.array(feature["geometry"]["coordinates"][0])
        turn = np.sum(outer[:-1, 0] * outer[1:, 1] - outer[1:, 0] * outer[:-1, 1])
        assert turn > 0, "RFC 7946: exterior rings turn counterclockwise"


def test_other_vector_options(tmp_path):
    image = write_raster(tmp_path / "scene.tif", square())
    predict(image, tmp_path / "all")
    everything = geopandas.read_file(tmp_path / "all/scene.gpkg")
    predict(image, tmp_path / "some", min_area=(20.0, "px"), to_crs="EPSG:3035", vector="parquet")
    some = geopandas.read_parquet(tmp_path / "some/scene.parquet")
    assert some.crs.to_epsg() == 3035
    assert len(some) == (everything.area_px >= 20).sum() < len(everything)
    predict(image, tmp_path / "m2", min_area=(5.0, "m2"), simplify=2.0)
    m2 = geopandas.read_file(tmp_path / "m2/scene.gpkg")
    assert len(m2) == (everything.area_m2 >= 5).sum()
    assert m2.geometry.apply(lambda one: len(one.exterior.coords)).sum() < everything.geometry.apply(
        lambda one: len(one.exterior.coords)
    ).sum()  # fmt: skip


def test_an_area_of_interest_is_the_frame(tmp_path):
    image = write_raster(tmp_path / "scene.tif", square())
    from shapely.geometry import Polygon

    left, top = NORTH_UP.c, NORTH_UP.f
    triangle = Polygon([(left + 5, top - 5), (left + 35, top - 5), (left + 5, top - 30)])
    geopandas.GeoSeries([triangle], crs=UTM.to_wkt()).to_crs(4326).to_file(tmp_path / "aoi.geojson")
    content = predict(image, tmp_path / "out", aoi=tmp_path / "aoi.geojson")
    assert (content["image"]["width"], content["image"]["height"]) == (60, 50)
    with rasterio.open(tmp_path / "out/scene.mask.tif") as file:
        values = file.read(1)
        np.testing.assert_allclose((file.transform.c, file.transform.f), (left + 5, top - 5), atol=1e-6)
    assert (values[-1, 10:] == 255).all()
    assert (values[0, :50] != 255).all()
    geopandas.GeoSeries([Polygon([(8, 47), (8.1, 47), (8, 47.1)])], crs=4326).to_file(tmp_path / "far.geojson")
    geopandas.GeoSeries([triangle], crs=4326).to_file(tmp_path / "wrong.geojson")
    for name, said in [("far", "does not overlap"), ("wrong", "coordinates"), ("missing", "no area")]:
        with pytest.raises(UserError, match=f"{said}.*{name}.geojson|{name}.geojson.*{said}"):
            predict(image, tmp_path / "no", aoi=tmp_path / f"{name}.geojson")


def test_an_area_of_interest_over_nodata_and_with_a_crossing_border(tmp_path):
    from shapely.geometry import Polygon

    image_HWC = np.clip(square(), 1, None)
    image_HWC[20:30] = 0
    image = write_raster(tmp_path / "scene.tif", image_HWC, nodata=0)
    left, top = NORTH_UP.c, NORTH_UP.f
    # A bow tie: two triangles that meet in the middle.
    tie = Polygon([(left + 5, top - 5), (left + 35, top - 25), (left + 35, top - 5), (left + 5, top - 25)])
    inner = Polygon([(left + 6, top - 10), (left + 12, top - 12), (left + 6, top - 20)])
    geopandas.GeoSeries([tie, inner, None, Polygon()], crs=UTM.to_wkt()).to_file(tmp_path / "aoi.gpkg")
    predict(image, tmp_path / "out", aoi=tmp_path / "aoi.gpkg")
    with rasterio.open(tmp_path / "out/scene.mask.tif") as file:
        values = file.read(1)
    ys, xs = np.mgrid[10:50, 10:70] + 0.5
    slope = (xs - 10) / 60 * 40
    inside = ((ys - 10 > slope) & (ys - 10 < 40 - slope)) | ((ys - 10 < slope) & (ys - 10 > 40 - slope))
    data = (image_HWC[10:50, 10:70] > 0).any(2)
    np.testing.assert_array_equal(values == 255, ~(inside & data))
    expected = image_HWC[10:50, 10:70, 0]
    assert ((values == 1) == (values != 255) & (expected > CUT)).mean() > 0.9  # resized to the model's view and back
