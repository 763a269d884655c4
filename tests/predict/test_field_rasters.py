"""Rasters as people have them: opacity in a fifth band, nodata per band, and files that are no rasters at all."""

from __future__ import annotations

import http.server
import threading

import numpy as np
import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources import scaling
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.predict.sources.source import Window

rasterio = pytest.importorskip("rasterio")
WHOLE = Window(0, 0, 60, 50)


def write(path, bands_CHW, *, alpha=None, nodata=None, **options):
    from rasterio.enums import ColorInterp as Colour

    count, height, width = bands_CHW.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands_CHW.dtype, **options}
    with rasterio.open(path, "w", nodata=nodata, **profile) as file:
        file.write(bands_CHW)
        if alpha is not None:
            meanings = [Colour.red, Colour.green, Colour.blue, *[Colour.undefined] * (count - 3)]
            meanings[alpha] = Colour.alpha
            file.colorinterp = meanings
    return path


def with_collar(count, alpha, dtype=np.uint8, scale=1):
    bands_CHW = np.full((count, 50, 60), 255 * scale, dtype=dtype)
    bands_CHW[:, 10:40, 15:45] = (np.arange(30)[:, None] * 3 * scale + 20).astype(dtype)
    bands_CHW[alpha] = 0
    bands_CHW[alpha, 10:40, 15:45] = 255 * scale
    return bands_CHW


@pytest.mark.parametrize(("count", "alpha"), [(4, 3), (5, 4), (5, 3), (7, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_opacity_counts_wherever_its_band_is(tmp_path, count, alpha, dtype):
    scale = 1 if dtype == np.uint8 else 100
    path = write(tmp_path / "a.tif", with_collar(count, alpha, dtype, scale), alpha=alpha)
    with open_source(path) as source:
        inside = np.zeros((50, 60), dtype=bool)
        inside[10:40, 15:45] = True
        assert (source.valid(WHOLE) == inside).all()
        assert (source.valid(Window(12, 8, 9, 9)) == inside[8:17, 12:21]).all()
        _, small_HW = source.overview(30)
        assert small_HW.sum() * 4 == inside.sum()
        if dtype != np.uint8:
            limits = scaling.decide(source).limits
            assert all(high <= (20 + 87) * scale for _, high in limits), "the white collar is no part of the limits"


def test_each_band_leaves_out_its_own_nodata(tmp_path):
    values = np.linspace(896, 1300, 50 * 60).reshape(50, 60).astype(np.int16)
    bands_CHW = np.stack([values, values, values])
    bands_CHW[0, :, :5] = -9999
    bands_CHW[1, :, 20:25] = -9999
    for declared, given in ((-9999, None), (None, -9999.0)):
        path = write(tmp_path / f"{given}.tif", bands_CHW, nodata=declared)
        with open_source(path, nodata=given) as source:
            limits = scaling.decide(source, "p0,p100").limits
            assert limits == ((896.0, 1300.0),) * 3


@pytest.mark.parametrize("value", [0.0, -3.4e38])
def test_an_undeclared_background_is_noted(tmp_path, value):
    bands_CHW = np.random.default_rng(0).uniform(100, 200, (3, 50, 60)).astype(np.float32)
    bands_CHW[:, :, :35] = value
    with open_source(write(tmp_path / "a.tif", bands_CHW)) as source:
        scaling.decide(source)
        assert [note for note in source.notes if "--nodata" in note]
    with open_source(write(tmp_path / "b.tif", bands_CHW, nodata=value)) as source:
        scaling.decide(source)
        assert not source.notes


@pytest.fixture
def requests():
    """Requests that a local web server got, with its address."""
    got: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            got.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield got, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def vrt(source, relative=0, kind="SimpleSource"):
    return (
        '<VRTDataset rasterXSize="60" rasterYSize="50"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    ).replace("SimpleSource", kind)


RAW = (
    '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    "<SourceFilename>{}</SourceFilename></VRTRasterBand></VRTDataset>"
)


@pytest.mark.parametrize("name", ["x.tif", "x.png", "x.vrt"])
def test_a_file_with_the_text_of_a_virtual_raster_reads_nothing_else(tmp_path, requests, name):
    got, address = requests
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(64))
    (tmp_path / "inside").mkdir()
    path = tmp_path / "inside" / name
    service = f"<GDAL_WMS><Service name='TMS'><ServerUrl>{address}</ServerUrl></Service></GDAL_WMS>"
    for text in (
        vrt(f"/vsicurl/{address}/a.tif"),
        vrt(f"{address}/a.tif"),
        vrt(f"WMS:{address}/wms"),
        vrt(
            f"<GDAL_WMS><Service name='TMS'><ServerUrl>{address}</ServerUrl></Service></GDAL_WMS>".replace("<", "&lt;")
        ),
        RAW.format(secret),
        RAW.format("../secret.bin"),
        vrt("../secret.bin", relative=1),
        vrt(secret),
        service,
        f'{{"type": "stac", "href": "{address}"}}',
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><VRTDataset>&e;</VRTDataset>',
    ):
        path.write_text(text)
        with pytest.raises(UserError), open_source(path) as source:
            source.read(Window(0, 0, 1, 1))
    assert got == []


def test_a_virtual_raster_of_images_beside_it_is_read(tmp_path):
    bands_CHW = np.random.default_rng(0).integers(0, 255, (3, 50, 60), dtype=np.uint8)
    write(tmp_path / "a.tif", bands_CHW)
    from rasterio.shutil import copy

    with rasterio.open(tmp_path / "a.tif") as file:
        copy(file, tmp_path / "a.vrt", driver="VRT")
    with open_source(tmp_path / "a.vrt") as source:
        assert (np.moveaxis(source.read(WHOLE), 2, 0) == bands_CHW).all()
