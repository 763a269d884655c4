"""What can be predicted on, and how it is read."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rasterio.shutil
import xarray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources import raster, scaling
from rrsis_bench.predict.sources.images import ArraySource
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.predict.sources.source import Cropped, Window
from tests.predict.rasters import NORTH_UP, UTM, blobs, write_raster

RED, GREEN, BLUE, ALPHA = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha


def whole(source) -> np.ndarray:
    return source.read(source.whole)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_a_plain_image_is_read_as_evaluation_reads_it(tmp_path, suffix):
    image_HWC = blobs()
    Image.fromarray(image_HWC).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    with open_source(tmp_path / f"a{suffix}") as source:
        np.testing.assert_array_equal(whole(source), image_HWC)
        assert source.valid(source.whole).all()
        assert (source.georef, source.dtype) == (None, "uint8")


def test_palette_grey_and_alpha_images(tmp_path):
    image_HWC = blobs()
    image = Image.fromarray(image_HWC)
    image.quantize(16).save(tmp_path / "palette.png")
    image.convert("L").save(tmp_path / "grey.png")
    alpha_HW = np.where(image_HWC[..., 0] > 127, 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([image_HWC, alpha_HW])).save(tmp_path / "alpha.png")
    shown = np.asarray(image.quantize(16).convert("RGB"))
    np.testing.assert_array_equal(whole(open_source(tmp_path / "palette.png")), shown)
    grey = whole(open_source(tmp_path / "grey.png"))
    assert (grey == grey[..., :1]).all()
    source = open_source(tmp_path / "alpha.png")
    np.testing.assert_array_equal(whole(source), image_HWC)
    np.testing.assert_array_equal(source.valid(source.whole), alpha_HW > 0)


def test_a_world_file_locates_an_image(tmp_path):
    Image.fromarray(blobs()).save(tmp_path / "a.jpg")
    (tmp_path / "a.jgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n5299999.75\n")
    source = open_source(tmp_path / "a.jpg")
    assert source.georef.transform == NORTH_UP
    assert source.georef.crs is None


def test_a_raster_keeps_its_georeference_and_reads_windows(tmp_path):
    image_HWC = blobs()
    with open_source(write_raster(tmp_path / "a.tif", image_HWC)) as source:
        assert (source.georef.crs, source.georef.transform) == (UTM, NORTH_UP)
        np.testing.assert_array_equal(source.read(Window(7, 5, 20, 11)), image_HWC[5:16, 7:27])
        cropped = Cropped(source, Window(7, 5, 20, 11))
        np.testing.assert_array_equal(cropped.read(Window(2, 3, 4, 5)), image_HWC[8:13, 9:13])
        assert cropped.georef.transform == Affine(0.5, 0, 500_003.5, 0, -0.5, 5_299_997.5)


@pytest.mark.parametrize(
    "profile",
    [
        {"photometric": "YCBCR", "compress": "JPEG", "tiled": True, "blockxsize": 64, "blockysize": 64},
        {"bigtiff": "YES", "tiled": False, "blockysize": 1},
        {"compress": "LZW", "predictor": 2},
        {"interleave": "band"},
    ],
)  # fmt: skip
def test_kinds_of_tiff(tmp_path, profile):
    image_HWC = np.full((64, 128, 3), (200, 40, 90), np.uint8)
    source = open_source(write_raster(tmp_path / "a.tif", image_HWC, **profile))
    assert np.abs(whole(source).astype(int) - image_HWC).max() <= (3 if "photometric" in profile else 0)
    assert not source.notes


def test_vrt_and_the_order_of_colours(tmp_path):
    image_HWC = blobs()
    write_raster(tmp_path / "a.tif", image_HWC[..., ::-1], colours=[BLUE, GREEN, RED], photometric="MINISBLACK")
    with rasterio.open(tmp_path / "a.tif") as file:
        rasterio.shutil.copy(file, tmp_path / "a.vrt", driver="VRT")
    for name in ("a.tif", "a.vrt"):
        np.testing.assert_array_equal(whole(open_source(tmp_path / name)), image_HWC)


def test_one_band_is_shown_three_times_and_palettes_by_their_colours(tmp_path):
    image_HW = blobs()[..., 0]
    write_raster(tmp_path / "one.tif", image_HW)
    np.testing.assert_array_equal(whole(open_source(tmp_path / "one.tif")), np.dstack([image_HW] * 3))
    palette = {level: (level, 255 - level, 7, 255) for level in range(256)}
    write_raster(tmp_path / "palette.tif", image_HW, palette=palette)
    found = whole(open_source(tmp_path / "palette.tif"))
    np.testing.assert_array_equal(found[..., 0], image_HW)
    np.testing.assert_array_equal(found[..., 1], 255 - image_HW)


def test_bands_are_chosen_or_named(tmp_path):
    pixels = np.dstack([blobs(), blobs(seed=1)[..., :1]])
    path = write_raster(tmp_path / "four.tif", pixels, photometric="MINISBLACK")
    with open_source(path) as source:
        np.testing.assert_array_equal(whole(source), pixels[..., :3])
        assert "bands 1, 2, 3" in source.notes[0]
    with open_source(path, bands=(4, 2, 1)) as source:
        np.testing.assert_array_equal(whole(source), pixels[..., [3, 1, 0]])
        assert not source.notes
    with pytest.raises(UserError, match="band 5"):
        open_source(path, bands=(5, 2, 1))
    with pytest.raises(UserError, match="bands"):
        open_source(path, bands=(1, 2))
    two = write_raster(tmp_path / "two.tif", pixels[..., :2], photometric="MINISBLACK", colours=[ColorInterp.gray] * 2)
    with pytest.raises(UserError, match="--bands"):
        open_source(two)


def test_validity_by_alpha_nodata_and_nan(tmp_path):
    image_HWC = blobs()
    alpha_HW = np.where(np.arange(120) < 20, 0, 255).astype(np.uint8) * np.ones((90, 1), np.uint8)
    path = write_raster(tmp_path / "alpha.tif", np.dstack([image_HWC, alpha_HW]), colours=[RED, GREEN, BLUE, ALPHA])
    source = open_source(path)
    np.testing.assert_array_equal(source.valid(Window(10, 0, 30, 90)), alpha_HW[:, 10:40] > 0)

    dark_red = image_HWC.copy()
    dark_red[:10] = 0
    dark_red[10:20] = (0, 0, 9)  # one band with data is enough
    source = open_source(write_raster(tmp_path / "nodata.tif", dark_red, nodata=0))
    valid_HW = source.valid(source.whole)
    assert not valid_HW[:10].any()
    assert valid_HW[10:20].all()

    source = open_source(write_raster(tmp_path / "given.tif", dark_red), nodata=0)
    np.testing.assert_array_equal(source.valid(source.whole), valid_HW)

    real = image_HWC.astype(np.float32)
    real[3, 4] = np.nan
    source = open_source(write_raster(tmp_path / "real.tif", real))
    assert np.argwhere(~source.valid(source.whole)).tolist() == [[3, 4]]


def test_arrays_pil_and_xarray(tmp_path):
    image_HWC = blobs()
    np.testing.assert_array_equal(whole(open_source(image_HWC)), image_HWC)
    np.testing.assert_array_equal(whole(open_source(Image.fromarray(image_HWC))), image_HWC)
    import rioxarray

    write_raster(tmp_path / "a.tif", image_HWC)
    array = rioxarray.open_rasterio(tmp_path / "a.tif")
    assert isinstance(array, xarray.DataArray)
    source = open_source(array)
    np.testing.assert_array_equal(source.read(Window(7, 5, 20, 11)), image_HWC[5:16, 7:27])
    assert (source.georef.crs, source.georef.transform) == (UTM, NORTH_UP)
    with pytest.raises(UserError, match="band 4"):
        open_source(array, bands=(4, 1, 2))


@pytest.mark.parametrize("shape", [(4, 4, 2), (4,), (0, 4, 3)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match="must be an array"):
        open_source(np.zeros(shape, np.uint8))


def test_unreadable_images_are_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no raster")
    (tmp_path / "a.png").write_bytes(b"no image")
    for path, said in [
        (tmp_path / "b.tif", "b.tif"), (tmp_path, "folder"), (tmp_path / "a.tif", "a.tif cannot be opened"),
        (tmp_path / "a.png", "a.png"), (12, "not int"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=said):
            open_source(path)


def test_a_truncated_raster_is_refused_where_it_ends(tmp_path):
    path = write_raster(tmp_path / "a.tif", blobs(200, 200), compress="DEFLATE", blockysize=16)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"a\.tif cannot be"), open_source(path) as source:
        whole(source)


def test_without_the_extra_a_raster_names_it_and_plain_images_work(tmp_path, monkeypatch):
    monkeypatch.setattr(raster.importlib.util, "find_spec", lambda _: None)
    for name in ("rasterio", "geopandas", "pyogrio", "shapely"):
        monkeypatch.setitem(sys.modules, name, None)
    Image.fromarray(blobs()).save(tmp_path / "a.png")
    assert open_source(tmp_path / "a.png").width == 120
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(UserError, match=r"pip install 'rrsis-bench\[geo\]'"):
        open_source(tmp_path / "a.tif")
    (tmp_path / "a.pgw").write_text("0.5\n0\n0\n-0.5\n0\n0\n")
    assert "rrsis-bench[geo]" in open_source(tmp_path / "a.png").notes[0]


@pytest.mark.parametrize("window", [(0, 0, 0, 5), (-1, 0, 5, 5), (100, 0, 30, 5), (0, 80, 5, 11)])
def test_windows_beyond_the_image_are_refused(window):
    with pytest.raises(UserError, match="120 x 90 pixels"):
        Cropped(ArraySource(blobs()), Window(*window))


def saturated(tmp_path):
    """uint16 with four bands, nodata and one saturated corner."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(300, 2500, (256, 256, 4), dtype=np.uint16)
    pixels[:24, :24] = 65535
    pixels[:, 200:210] = 0
    return pixels, write_raster(tmp_path / "a.tif", pixels, nodata=0, photometric="MINISBLACK")


def test_limits_are_those_of_the_whole_raster_and_a_corner_moves_no_far_tile(tmp_path):
    pixels, path = saturated(tmp_path)
    with open_source(path) as source:
        scale = scaling.decide(source)
        assert scale.kind == "percentile"
        valid = pixels[..., :3][source.valid(source.whole)]
        np.testing.assert_allclose(scale.limits, np.percentile(valid, (2, 98), axis=0).T)
        far = scale(source.read(Window(128, 128, 64, 64)))
        np.testing.assert_array_equal(far, scale(source.read(source.whole))[128:192, 128:192])
        plain = np.where(pixels[..., :3] == 65535, 1000, pixels[..., :3])
        without = scaling.decide(ArraySource(plain, source.valid(source.whole)), "p2,p98")
        other = without(source.read(Window(128, 128, 64, 64)))
        assert np.abs(far.astype(int) - other).max() <= 8
    assert far.min() == 0
    assert far.max() == 255


def test_scaling_by_given_limits_and_its_refusals():
    array = np.array([[[0, 100, 200], [300, 1000, 50]]], np.uint16)
    source = ArraySource(array)
    np.testing.assert_array_equal(scaling.decide(source, "100,300")(array), [[[0, 0, 128], [255, 255, 0]]])
    eight = ArraySource(array.astype(np.uint8))
    assert scaling.decide(eight).limits is None
    np.testing.assert_array_equal(scaling.decide(eight)(eight.read(eight.whole)), array.astype(np.uint8))
    for spec in ("none", "3", "p2", "5,1", "p-1,p50", "a,b", "p2,98"):
        with pytest.raises(UserError, match="scale="):
            scaling.decide(source, spec)
    with pytest.raises(UserError, match="no valid pixel"):
        scaling.decide(ArraySource(np.full((2, 2, 3), np.nan, np.float32)))


def test_a_given_nodata_value_leaves_alpha_as_it_is(tmp_path):
    image_HWC = np.full((30, 40, 3), 9, np.uint8)
    image_HWC[:5] = 0
    alpha_HW = np.full((30, 40), 255, np.uint8)
    alpha_HW[:, :7] = 0
    path = write_raster(tmp_path / "a.tif", np.dstack([image_HWC, alpha_HW]), colours=[RED, GREEN, BLUE, ALPHA])
    with open_source(path, nodata=0) as source:
        np.testing.assert_array_equal(source.valid(source.whole), (alpha_HW > 0) & (image_HWC[..., 0] > 0))
    replaced = write_raster(tmp_path / "b.tif", image_HWC, nodata=9)
    with open_source(replaced, nodata=0) as source:
        np.testing.assert_array_equal(source.valid(source.whole), image_HWC[..., 0] == 9)


def test_limits_do_not_depend_on_the_window(tmp_path):
    _, path = saturated(tmp_path)
    with open_source(path) as source:
        whole_image = scaling.decide(source)
        assert scaling.decide(Cropped(source, Window(0, 0, 30, 30))) == whole_image


def test_a_part_goes_without_control_points_and_says_so(tmp_path):
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(row, col, 11 + col / 1e4, 48 - row / 1e4) for row in (0, 90) for col in (0, 120)]
    path = write_raster(tmp_path / "a.tif", blobs(), transform=Affine.identity(), gcps=points, crs="EPSG:4326")
    with open_source(path) as source:
        assert source.georef.transform is None
        assert len(source.georef.gcps[0]) == 4
        assert "gdalwarp" in source.notes[0]
        part = Cropped(source, Window(5, 5, 20, 20))
        assert part.georef.gcps is None
        assert "Control points" in part.notes[-1]
        assert len(source.notes) == 1
        assert Cropped(source, Window(0, 0, 20, 20)).georef.gcps is not None
