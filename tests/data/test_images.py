"""What happens to each kind of odd file: a defined reading, or a refusal with the file's name."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import rasterio
import rasterio.errors
from PIL import ExifTags, Image, ImageCms, ImageFile
from rasterio.enums import ColorInterp

from rrsis_bench.data.pixels import images
from rrsis_bench.data.pixels.images import (
    check_image,
    check_images,
    read_bytes,
    read_image,
    read_rgb,
    resize_bilinear,
    resize_image,
)
from rrsis_bench.data.pixels.mask_files import read_mask
from rrsis_bench.errors import UserError

pytestmark = pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")  # as the module sets it

RGB_HWC = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Build a PNG that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_rgba_loses_its_alpha_and_says_so(tmp_path):
    alpha_HW = np.full((6, 8), 9, dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([RGB_HWC, alpha_HW])).save(path)
    np.testing.assert_array_equal(read_rgb(path), RGB_HWC)
    assert [kind for kind, _ in check_image(path).quirks] == ["alpha"]


def test_palette_and_grey_become_the_colours_that_the_file_shows(tmp_path):
    palette = Image.fromarray(RGB_HWC).quantize(256)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))
    Image.fromarray(RGB_HWC[..., 0]).save(tmp_path / "l.tif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "l.tif"), np.repeat(RGB_HWC[..., :1], 3, axis=2))
    assert check_image(tmp_path / "l.tif").quirks == ()


def test_a_rotation_tag_does_not_turn_the_pixels_and_is_noted(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(RGB_HWC).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "turned.png"), RGB_HWC)
    checked = check_image(tmp_path / "turned.png")
    assert checked.size == (8, 6)
    assert [kind for kind, _ in checked.quirks] == ["exif_rotation"]


def wide_grey(path):
    Image.fromarray(np.full((6, 8), 4000, dtype=np.uint16)).save(path)


def wide_rgb(path):
    row = b"\0" + np.full((8, 3), 4000, dtype=">u2").tobytes()
    path.write_bytes(png(8, 6, 16, 2, row * 6))


def floats(path):
    Image.fromarray(np.ones((6, 8), dtype=np.float32)).save(path)


def cmyk(path):
    Image.fromarray(RGB_HWC).convert("CMYK").save(path)


def lab(path):
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(Image.fromarray(RGB_HWC), to_lab).save(path)


def postscript(path):
    Image.fromarray(RGB_HWC).save(path)


def bomb(path):
    path.write_bytes(png(60_000, 60_000, 8, 2, b""))


def large(path):
    """Above the limit, but below the one where Pillow itself refuses."""
    path.write_bytes(png(10_000, 10_000, 8, 2, b""))


def empty(path):
    path.write_bytes(b"")


def cut(path):
    packed = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(packed, "JPEG")
    path.write_bytes(packed.getvalue()[:900])


def html(path):
    path.write_text("<html>quota exceeded</html>")


@pytest.mark.parametrize(
    ("write", "suffix", "kind", "message"),
    [
        (wide_grey, ".png", "unsupported_image", "more than 8 bits"),
        (wide_grey, ".tif", "unsupported_image", "more than 8 bits"),
        (wide_rgb, ".png", "unsupported_image", "more than 8 bits"),
        (floats, ".tif", "unsupported_image", "more than 8 bits"),
        (cmyk, ".jpg", "unsupported_image", "CMYK"),
        (lab, ".tif", "unsupported_image", "LAB"),
        (postscript, ".eps", "truncated_image", "none of"),
        (bomb, ".png", "oversize_image", "larger than"),
        (large, ".png", "oversize_image", "larger than"),
        (empty, ".jpg", "empty_image", "0 bytes"),
        (cut, ".jpg", "truncated_image", "cannot be decoded"),
        (html, ".jpg", "truncated_image", "none of"),
    ],
)
def test_refused_by_name_with_the_same_reason_in_a_run_and_in_the_check(tmp_path, write, suffix, kind, message):
    path = tmp_path / f"tile{suffix}"
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        read_rgb(path)
    checked = check_image(path)
    assert str(path) in str(caught.value)
    assert (checked.kind, checked.size, checked.sha256) == (kind, None, "")
    assert message in checked.message


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_bomb_is_refused_before_its_pixels_are_decoded_whatever_the_warnings_filter(tmp_path, monkeypatch, action):
    large(tmp_path / "large.png")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        assert check_image(tmp_path / "large.png").kind == "oversize_image"


def test_missing_files_are_named_and_each_file_is_decoded_once(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="image .*none.png is missing"):
        read_rgb(tmp_path / "none.png")
    with pytest.raises(UserError, match="mask .*none.png is missing"):
        read_mask(tmp_path / "none.png")
    Image.fromarray(RGB_HWC).save(tmp_path / "a.png")
    seen = []
    monkeypatch.setattr(images, "check_image", lambda path: seen.append(path) or check_image(path))
    found = check_images([tmp_path / "a.png", tmp_path / "none.png", tmp_path / "a.png"])
    assert sorted(path.name for path in seen) == ["a.png", "none.png"]
    assert found[tmp_path / "a.png"].size == (8, 6)
    assert found[tmp_path / "none.png"].kind == "missing_image"


MASK_HW = np.eye(6, 8, dtype=bool)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(MASK_HW.astype(np.uint8) * 255),
        Image.fromarray(MASK_HW.astype(np.uint8)),
        Image.fromarray(MASK_HW),
    ],
    ids=["255", "1", "bits"],
)
def test_masks_of_two_levels_are_read(tmp_path, picture):
    picture.save(tmp_path / "m.png")
    mask_HW = read_mask(tmp_path / "m.png")
    assert mask_HW.dtype == bool
    np.testing.assert_array_equal(mask_HW, MASK_HW)


@pytest.mark.parametrize(
    ("picture", "suffix", "message"),
    [
        (Image.fromarray(MASK_HW.astype(np.uint8) * 7), ".png", "grey levels 0, 7"),
        (Image.fromarray(RGB_HWC), ".png", "RGB"),
        (Image.fromarray(np.dstack([RGB_HWC, RGB_HWC[..., 0]])), ".png", "not opaque"),
        (Image.fromarray(MASK_HW.astype(np.uint16) * 65535), ".png", "more than 8 bits"),
        (Image.fromarray(MASK_HW.astype(np.uint8) * 255), ".jpg", "none of"),
    ],
    ids=["levels", "rgb", "rgba", "16 bits", "jpeg"],
)
def test_what_is_no_mask_is_refused_by_name(tmp_path, picture, suffix, message):
    path = tmp_path / f"m{suffix}"
    picture.save(path)
    with pytest.raises(UserError, match=message) as caught:
        read_mask(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "gif.png"])
def test_a_picture_is_the_array_of_it_from_the_file_and_from_its_bytes(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(RGB_HWC)
    (image.quantize(8) if suffix == "gif.png" else image).save(path)
    with Image.open(path) as opened:
        expected_HWC = np.asarray(opened.convert("RGB"))
    for picture in (read_image(path), read_image(path, read_bytes(path))):
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), expected_HWC)
    pixels_HWC = read_rgb(path)
    np.testing.assert_array_equal(pixels_HWC, expected_HWC)
    assert pixels_HWC.flags.writeable


@pytest.mark.parametrize("side", [3, 6, 20])
@pytest.mark.parametrize("size", [(6, 8), (20, 20)])
def test_views_are_pillows_bilinear_with_channels_first(size, side):
    image_HWC = np.random.default_rng(side).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = Image.fromarray(image_HWC).resize((side, side), Image.Resampling.BILINEAR)
    for view_CSS in (resize_bilinear(image_HWC, side), resize_image(Image.fromarray(image_HWC), side)):
        np.testing.assert_array_equal(view_CSS, np.asarray(expected).transpose(2, 0, 1))
        assert view_CSS.flags.c_contiguous


def test_bytes_are_refused_under_the_name_of_their_file(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(UserError, match=r"a\.jpg is missing"):
        read_bytes(path)
    with pytest.raises(UserError, match=r"a\.jpg has 0 bytes"):
        read_image(path, b"")


def _raster(path, bands, dtype, *, colours=None, **profile):
    pixels = (np.arange(bands * 256) % 250).reshape(bands, 16, 16).astype(dtype)
    size = {"width": 16, "height": 16, "count": bands, "dtype": dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{"driver": "GTiff", **size, **profile}) as file:
            if colours:
                file.colorinterp = colours
            file.write(pixels)


NIR_FIRST = (ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red)


@pytest.mark.parametrize(
    ("what", "command", "fields"),
    [
        ("4 bands of 16-bit unsigned", "-scale LO HI 0 255 -b 1 -b 2 -b 3 IN", {"bands": 4, "dtype": "uint16"}),
        (
            "4 bands of 16-bit unsigned integers", "-scale LO HI 0 255 -b 4 -b 3 -b 2 IN",
            {"bands": 4, "dtype": "uint16", "colours": NIR_FIRST},
        ),
        ("4 bands of 16-bit", "-b 1 -b 2 -b 3", {"bands": 4, "dtype": "uint16", "BIGTIFF": "YES"}),
        ("3 bands of 16-bit signed integers", "-ot Byte", {"bands": 3, "dtype": "int16"}),
        ("3 bands of 12-bit unsigned", "-ot Byte", {"bands": 3, "dtype": "uint16", "nbits": 12}),
        ("3 bands of 32-bit floats", "-ot Byte", {"bands": 3, "dtype": "float32"}),
        ("1 band of 64-bit complex floats", "-ot Byte", {"bands": 1, "dtype": "complex64"}),
        ("5 bands of 8-bit", "gdal_translate -b 1 -b 2 -b 3 IN", {"bands": 5, "dtype": "uint8"}),
        ("8 bands of 8-bit", "Its bands 1, 2, 3 are marked", {"bands": 8, "dtype": "uint8", "photometric": "RGB"}),
        ("compressed as LERC", "-co COMPRESS=DEFLATE", {"bands": 3, "dtype": "uint8", "compress": "lerc_deflate"}),
    ],
)  # fmt: skip
def test_a_valid_raster_is_not_called_damaged(tmp_path, what, command, fields):
    """uint16 GeoTIFFs were "truncated"; they are named with the command that makes an image of them."""
    path = tmp_path / "tile.tif"
    _raster(path, **fields)
    with pytest.raises(UserError, match=what) as caught:
        read_rgb(path)
    assert command in str(caught.value)
    assert "gdal_translate" in str(caught.value)
    checked = check_image(path)
    assert checked.kind == "unsupported_image"
    assert what in checked.message
    assert command in checked.message
    for size in (100, path.stat().st_size - 40):
        path.write_bytes(path.read_bytes()[:size])
        assert check_image(path).kind == "truncated_image"


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_a_wide_jpeg2000_is_refused_instead_of_read_as_black(tmp_path, bands):
    """Pillow shifts 16 bits down to 8: an image with values up to 250 had two grey levels."""
    _raster(tmp_path / "tile.jp2", bands, "uint16", driver="JP2OpenJPEG")
    with pytest.raises(UserError, match="more than 8 bits.*gdal_translate"):
        read_rgb(tmp_path / "tile.jp2")
    assert check_image(tmp_path / "tile.jp2").kind == "unsupported_image"
    Image.fromarray(RGB_HWC).save(tmp_path / "plain.jp2")
    assert (read_rgb(tmp_path / "plain.jp2") == RGB_HWC).all()
    box = (tmp_path / "plain.jp2").read_bytes()
    (tmp_path / "bare.j2k").write_bytes(box[box.index(b"\xff\x4f\xff\x51") :])
    assert (read_rgb(tmp_path / "bare.j2k") == RGB_HWC).all()


@pytest.mark.parametrize("suffix", ["bmp", "tif"])
def test_a_header_with_more_pixels_than_the_file_has_bytes_takes_no_memory(tmp_path, monkeypatch, suffix):
    """A BMP of 205 bytes with 8 x 10,898,184 pixels took 83 MB before it was refused."""
    path = tmp_path / f"tile.{suffix}"
    Image.fromarray(RGB_HWC).save(path)
    assert (read_rgb(path) == RGB_HWC).all()
    path.write_bytes(path.read_bytes()[:-5])
    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", lambda _: pytest.fail("Pillow made room for the pixels"))
    assert check_image(path).kind == "truncated_image"
    monkeypatch.undo()
    Image.new("1", (9, 5)).save(path)
    assert read_rgb(path).shape == (5, 9, 3)
