"""Masks as raster files: rows of any number, and files that are read back."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from rrsis_bench.errors import UserError
from rrsis_bench.predict.outputs import rasters
from rrsis_bench.predict.outputs.rasters import PngWriter, TiffWriter, quantise


def test_rows_of_any_number_become_the_raster(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 2, (2, 1300, 70), dtype=np.uint8)
    stored = []
    original = TiffWriter._store
    monkeypatch.setattr(TiffWriter, "_store", lambda *a: stored.append((a[1], a[2], len(a[3]))) or original(*a))
    writer = TiffWriter(tmp_path / "a.tif", 1300, 70, ["one", "two"], None, {"model": "echo"})
    for band in (0, 1):
        for row in range(0, 1300, 300):
            writer.write(band, row, values[band, row : row + 300])
    writer.close()
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), values)
    # Whole rows of blocks: what is written twice is compressed twice, and the file grows.
    assert stored == [(band, row, rows) for band in (0, 1) for row, rows in ((0, 512), (512, 512), (1024, 276))]
    other = TiffWriter(tmp_path / "b.tif", 1300, 70, ["one"], None, {})
    with pytest.raises(ValueError, match="does not follow"):
        other.write(0, 300, values[0, :300])


def test_a_block_that_the_disk_lost_is_noticed(tmp_path):
    values_HW = np.ones((600, 70), np.uint8)
    writer = TiffWriter(tmp_path / "a.tif", 600, 70, ["one"], None, {})
    writer.write(0, 0, values_HW)
    writer._file.write(np.zeros((512, 70), np.uint8), 1, window=rasterio.windows.Window(0, 0, 70, 512))
    with pytest.raises(UserError, match=r"a\.tif could not be written.*differs"):
        writer.close()


def test_probabilities_have_254_steps_and_255_is_free():
    assert quantise(np.array([0.0, 0.5, 0.996, 0.998, 1.0, 0.5]), np.arange(6) < 5).tolist() == [
        0,
        127,
        253,
        253,
        254,
        255,
    ]


def test_png_masks_are_black_and_white(tmp_path):
    values_HW = np.array([[0, 1, rasters.NODATA]], np.uint8)
    for masks, expected in ((True, [[0, 255, 0]]), (False, [[0, 1, 255]])):
        writer = PngWriter([tmp_path / "a.png"], 1, 3, masks=masks)
        writer.write(0, 0, values_HW)
        writer.close()
        with rasterio.open(tmp_path / "a.png") as file:
            assert file.read(1).tolist() == expected
