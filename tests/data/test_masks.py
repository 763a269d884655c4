import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from rrsis_bench.data.pixels import mask_files
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError


def _random_masks():
    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (1, 9), (7, 5), (64, 64), (33, 80), (800, 801)]:
        for share in (0.0, 0.03, 0.5, 1.0):
            yield rng.random((height, width)) < share
    blob = np.zeros((800, 800), bool)
    blob[100:700, 200:650] = True
    yield blob


def _plain_runs(mask_HW):
    """Run lengths counted pixel by pixel, column by column, background first."""
    runs, current, count = [], False, 0
    for column in range(mask_HW.shape[1]):
        for row in range(mask_HW.shape[0]):
            if bool(mask_HW[row, column]) != current:
                runs.append(count)
                current, count = not current, 0
            count += 1
    return [*runs, count]


def test_encoding_round_trips_and_counts():
    for mask_HW in _random_masks():
        rle = masks.encode(mask_HW)
        decoded = masks.decode(rle)
        assert decoded.dtype == bool
        assert rle["size"] == list(mask_HW.shape)
        np.testing.assert_array_equal(decoded, mask_HW)
        assert masks.area(rle) == mask_HW.sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")
def test_decoding_equals_pycocotools():
    for mask_HW in _random_masks():
        rle = masks.encode(mask_HW)
        np.testing.assert_array_equal(masks.decode(rle), coco.decode(rle).astype(bool))


def test_run_lengths_equal_a_plain_count():
    for mask_HW in _random_masks():
        if mask_HW.size < 5000:
            assert masks.run_lengths(masks.encode(mask_HW)["counts"]).tolist() == _plain_runs(mask_HW)


@pytest.mark.parametrize("form", ["list of one", "bare dict", "bytes"])
def test_forms_of_a_segmentation(form):
    mask_HW = np.eye(9, dtype=bool)
    rle = masks.encode(mask_HW)
    text = {"size": [9, 9], "counts": rle["counts"].decode()}
    segmentation = {"list of one": [text], "bare dict": text, "bytes": rle}[form]
    np.testing.assert_array_equal(masks.decode(masks.parse(segmentation)), mask_HW)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "lists 0 masks"),
        ([{"size": [2, 2], "counts": "04"}] * 2, "lists 2 masks"),
        ([[1, 2, 3, 4, 5, 6]], "not a run-length"),
        (None, "not a run-length"),
        ({"size": [4, 4], "counts": [3, 12]}, "cover 15 pixels"),
        ({"size": [4], "counts": "0"}, "height, width"),
        ({"size": [0, 4], "counts": "0"}, "height, width"),
        ({"size": [4, 4], "counts": "é"}, "ASCII"),
    ],
)
def test_other_segmentations_are_refused(segmentation, message):
    with pytest.raises(ValueError, match=message):
        masks.parse(segmentation)


@pytest.mark.parametrize("counts", [b"", b"0", b"\xff\xfe", b"zzzz", b"9999999999", b"hoX91nh02N2N", b"h", b"3O"])
def test_counts_that_do_not_cover_the_mask_are_refused(counts):
    """pycocotools would return uninitialised pixels for the short ones."""
    rle = {"size": [10, 10], "counts": counts}
    with pytest.raises(ValueError, match="run"):
        masks.check_rle(rle)
    with pytest.raises(ValueError, match="run"):
        masks.decode(rle)


@pytest.mark.parametrize(("height", "width", "side"), [(800, 800, 480), (800, 801, 480), (60, 48, 32), (9, 7, 31)])
def test_nearest_takes_the_pixel_under_the_centre(height, width, side):
    mask_HW = np.random.default_rng(1).random((height, width)) < 0.4
    expected = np.zeros((side, side), np.uint8)
    for i in range(side):
        for j in range(side):
            expected[i, j] = mask_HW[(2 * i + 1) * height // (2 * side), (2 * j + 1) * width // (2 * side)]
    resized = masks.resize_nearest(mask_HW, side)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, expected)
    np.testing.assert_array_equal(
        resized, np.asarray(Image.fromarray(mask_HW.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST))
    )


def test_a_tiff_whose_strips_end_early_is_refused_before_it_fills_the_memory(tmp_path):
    """A header of 8 x 8,388,616 pixels on 332 bytes was decoded to black and took 900 MB (fuzzing)."""
    path = tmp_path / "a.tif"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    data = bytearray(path.read_bytes())
    where = data.index((257).to_bytes(2, "little"))  # ImageLength
    data[where + 2 : where + 12] = (
        (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + (8388616).to_bytes(4, "little")
    )
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"strips end before the last of its 8,388,616 rows"):
        mask_files.read_mask(path)


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_a_mask_of_greys_in_colours_is_the_same_in_blocks(tmp_path, monkeypatch, mode):
    mask_HW = np.random.default_rng(0).integers(0, 2, (37, 11), dtype=np.uint8) * 255
    Image.fromarray(mask_HW).convert(mode).save(tmp_path / "a.png")
    monkeypatch.setattr(mask_files, "_BLOCK", 40)
    assert (mask_files.read_levels(tmp_path / "a.png") == mask_HW).all()
    Image.fromarray(np.stack([mask_HW, mask_HW, mask_HW[::-1]], 2)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="colours"):
        mask_files.read_levels(tmp_path / "b.png")
