"""Parts of rasters, areas of interest and coordinate systems as people have them."""

from __future__ import annotations

import http.server
import json
import sqlite3
import threading

import geopandas
import numpy as np
import pytest
import shapely
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.aoi import AreaOfInterest
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.predict.sources.scaling import decide
from rrsis_bench.predict.sources.source import Cropped, Window
from tests.predict.jobs import predict, square
from tests.predict.rasters import write_raster


def _stripes(dtype, nodata):
    ramp_HW = np.linspace(896, 1300, 100).round()[:, None].repeat(100, 1)
    pixels_HWC = np.stack([ramp_HW] * 3, 2).astype(dtype)
    pixels_HWC[:, :5, 0] = nodata
    pixels_HWC[:, 5:10, 1] = nodata
    return pixels_HWC


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("declared", [True, False])
def test_limits_leave_out_the_nodata_of_one_band(tmp_path, dtype, declared):
    profile = {"nodata": -9999} if declared else {}
    path = write_raster(tmp_path / "a.tif", _stripes(dtype, -9999), **profile)
    with open_source(path, nodata=None if declared else -9999) as source:
        for each in (source, Cropped(source, Window(0, 0, 50, 50))):
            assert decide(each, "p0,p100").limits == ((896.0, 1300.0),) * 3


@pytest.fixture
def requests():
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen_at = f"http://127.0.0.1:{server.server_port}"
    yield seen_at, seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["x.vrt", "x.geojson"])
def test_no_area_of_interest_reaches_the_network(tmp_path, requests, name):
    url, seen = requests
    raster = write_raster(tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / name).write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/{url}/a.json</SrcDataSource></OGRVRTLayer>'
        "</OGRVRTDataSource>"
    )
    with open_source(raster) as source, pytest.raises(UserError, match=rf"{name} refers"):
        AreaOfInterest(source, tmp_path / name)
    assert not seen


def test_a_truncated_raster_gives_the_reason_of_gdal(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:6000])
    with open_source(path) as source, pytest.raises(UserError) as caught:
        source.read(source.whole)
    assert "previous exception" not in str(caught.value)
    assert "a.tif" in str(caught.value)


LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1],AXIS["E",EAST],AXIS["N",NORTH]]')


@pytest.mark.parametrize("fields", [{"to_crs": "EPSG:4326"}, {"vector": "geojson"}, {"aoi": "a.geojson"}, {}], ids=str)
def test_a_local_coordinate_system_is_a_sentence(tmp_path, fields):
    image = write_raster(tmp_path / "a.tif", square(), crs=LOCAL)
    if "aoi" in fields:
        fields = {"aoi": tmp_path / "a.geojson"}
        area = geopandas.GeoSeries([shapely.box(11, 48, 12, 49)], crs="EPSG:4326")
        area.to_file(fields["aoi"], driver="GeoJSON")
    if not fields:
        assert predict(image, tmp_path / "out", **fields)["expressions"]
        return
    with pytest.raises(UserError, match=next(iter(fields)).replace("_", "-") if "aoi" not in fields else "area of"):
        predict(image, tmp_path / "out", **fields)


def test_a_geotiff_that_gdal_reads_in_part_is_one_sentence(tmp_path):
    """Its second directory lies behind the end of the file, which GDAL notices when masks are asked for (fuzzing)."""
    path = tmp_path / "a.tif"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    data = bytearray(path.read_bytes())
    entries = int.from_bytes(data[8:10], "little")
    where = 10 + 12 * entries
    assert data[where : where + 4] == bytes(4), "the offset of the next directory"
    data[where : where + 4] = (481738463).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.tif cannot be read as a raster"), open_source(path):
        pass


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("spec", ["auto", "0,3000", "p1,p99"])
def test_a_png_of_16_bits_is_scaled_like_the_tiff(tmp_path, bands, spec):
    pixels_HWC = np.random.default_rng(0).integers(200, 4000, (40, 30, bands), np.uint16)
    if bands == 4:
        pixels_HWC[..., 3] = 65535
        pixels_HWC[:, :9, 3] = 0  # opacity
    shown = []
    for driver, name in (("PNG", "a.png"), ("GTiff", "a.tif")):
        colours = ["red", "green", "blue", "alpha"] if bands == 4 else None
        colours = colours and [ColorInterp[name] for name in colours]
        path = write_raster(tmp_path / name, pixels_HWC, driver=driver, crs=None, transform=None, colours=colours)
        with open_source(path) as source:
            scaled = decide(source, spec)
            shown.append((scaled, scaled(source.read(source.whole)), source.valid(source.whole)))
    assert shown[0][0] == shown[1][0]
    assert (shown[0][1] == shown[1][1]).all()
    assert (shown[0][2] == shown[1][2]).all()
    assert shown[0][2].sum() == (40 * 21 if bands == 4 else 40 * 30)
    with open_source(tmp_path / "a.png") as source, pytest.raises(UserError, match=r"scale=none.*a\.png"):
        decide(source, "none")


def test_a_png_of_16_bits_is_predicted_on(tmp_path):
    image_HWC = square().astype(np.uint16) * 16
    tiff, png = (
        write_raster(tmp_path / name, image_HWC, driver=driver, crs=None, transform=None)
        for driver, name in (("GTiff", "a.tif"), ("PNG", "b.png"))
    )
    areas = [predict(path, tmp_path / path.stem, scale="0,4080")["expressions"][0]["area_px"] for path in (tiff, png)]
    assert areas[0] == areas[1] > 0


@pytest.mark.parametrize("value", [16777216.5, 123456.75, -3.4028234663852886e38])
def test_the_remark_on_the_background_names_its_value_exactly(tmp_path, value):
    pixels_HWC = np.random.default_rng(0).random((20, 20, 3)) * 100 + abs(value if abs(value) < 1e9 else 0)
    pixels_HWC[:15] = value
    path = write_raster(tmp_path / "a.tif", pixels_HWC.astype(np.float64))
    with open_source(path) as source:
        decide(source)
        (note,) = [note for note in source.notes if "--nodata" in note]
    named = float(note.rpartition("--nodata ")[2].rstrip("."))
    assert named == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x1f\x8b\x08\0", b"BZh91AY", b"\0" * 257 + b"ustar"])
def test_an_area_of_interest_in_an_archive_is_not_unpacked(tmp_path, start):
    raster = write_raster(tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "aoi.zip").write_bytes(start + b"\0" * 99)
    with open_source(raster) as source, pytest.raises(UserError, match=r"aoi\.zip is an archive"):
        AreaOfInterest(source, tmp_path / "aoi.zip")


def _polygon(ring, name="Polygon"):
    geometry = {"type": name, "coordinates": ring}
    return json.dumps(
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": geometry}]}
    )


@pytest.mark.parametrize(
    "content",
    [
        _polygon([[[9, 48], [9.1, 48], [9.1, 48.1], [9, 48.05]]]),
        _polygon([[[9, 48]]]),
        _polygon([[[9, 48], [9.1, 48], [1e400, 48.1], [9, 48]]]),
        _polygon([[9, 48]], "MultiPolygon"),
        _polygon([[[9, 48], [9.1, 48], [9.1, None], [9, 48]]]),
        '{"type": "FeatureCollection", "features": [{"type": "Feature"}]}',
        "[" * 5000,
    ],
    ids=["open ring", "one point", "infinity", "flat", "null", "no geometry", "deep"],
)
def test_a_damaged_area_of_interest_is_a_sentence(tmp_path, content):
    raster = write_raster(tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "aoi.geojson").write_text(content)
    with open_source(raster) as source, pytest.raises(UserError, match=r"aoi\.geojson"):
        AreaOfInterest(source, tmp_path / "aoi.geojson")


def test_a_geopackage_with_a_damaged_column_is_a_sentence(tmp_path):
    """The table of contents names a geometry column that the table does not have."""
    raster = write_raster(tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8))
    path = tmp_path / "aoi.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(500_000, 5_299_990, 500_002, 5_300_000)], crs=32632).to_file(path)
    with sqlite3.connect(path) as base:
        base.execute("UPDATE gpkg_geometry_columns SET column_name = 'oeom'")
    with open_source(raster) as source, pytest.raises(UserError, match=r"aoi\.gpkg"):
        AreaOfInterest(source, path)
