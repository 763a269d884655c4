"""The overlay of a prediction, read back pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rrsis_bench.predict.outputs.overlay import COLOURS, SHOWN, SIDE, SMALL, Overlay, _line
from tests.predict.rasters import blobs


def drawn(height: int, width: int, masks, expressions=("a ship",)) -> Overlay:
    overlay = Overlay(height, width, expressions)
    image_HWC = blobs(height, width)
    for row in range(0, height, 700):
        overlay.add_pixels(row, image_HWC[row : row + 700])
        for index, mask_HW in enumerate(masks):
            overlay.add_mask(index, row, mask_HW[row : row + 700])
    return overlay


def test_small_images_are_enlarged_sharply():
    mask_HW = np.zeros((60, 50), bool)
    mask_HW[10:20, 10:20] = True
    shown_HWC = drawn(60, 50, [mask_HW]).image()
    factor = SMALL // 60
    assert shown_HWC.shape == (60 * factor, 50 * factor, 3)
    image_HWC = blobs(60, 50)
    np.testing.assert_array_equal(shown_HWC[::factor, ::factor][~mask_HW], image_HWC[~mask_HW])
    np.testing.assert_array_equal(shown_HWC[factor - 1 :: factor, ::factor][~mask_HW], image_HWC[~mask_HW])
    assert tuple(shown_HWC[10 * factor, 12 * factor]) == COLOURS[0]
    inside = shown_HWC[15 * factor, 15 * factor].astype(float)
    assert np.abs(inside - (0.55 * image_HWC[15, 15] + 0.45 * np.array(COLOURS[0]))).max() <= 1


def test_no_object_vanishes_from_a_reduced_image():
    mask_HW = np.zeros((4500, 130), bool)
    mask_HW[701, 34] = mask_HW[699, 126] = mask_HW[4499, 129] = True
    shown_HWC = drawn(4500, 130, [mask_HW]).image()
    assert shown_HWC.shape[0] == 1500 <= SIDE
    coloured = (shown_HWC == np.array(COLOURS[0])).all(2)
    assert np.argwhere(coloured).tolist() == [[233, 11], [233, 42], [1499, 43]]


@pytest.mark.parametrize(
    ("expressions", "lines"),
    [
        (["a ship"], 1),
        ([f"ship {i}" for i in range(12)], SHOWN + 1),
        (["a ship " * 1500, "左边的白船" * 40, "$x_1$"], 3),
    ],
)
def test_the_legend_has_a_line_for_each_and_nothing_runs_out_of_it(tmp_path, expressions, lines):
    mask_HW = np.zeros((96, 96), bool)
    overlay = drawn(96, 96, [mask_HW], expressions)
    overlay.save(tmp_path / "a.png")
    page_HWC = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    image_HWC = overlay.image()
    height, width = image_HWC.shape[:2]
    np.testing.assert_array_equal(page_HWC[:height, :width], image_HWC)
    legend_HWC = page_HWC[height:]
    assert len(legend_HWC) == 24 * lines + 12
    assert (legend_HWC[:, -4:] == 255).all(), "the text is cut off"
    ink = (legend_HWC[:, 40:] < 128).all(2).any(1)
    assert np.count_nonzero(np.diff(ink.astype(int)) == 1) >= lines
    for index in range(min(SHOWN, len(expressions))):
        assert (legend_HWC == np.array(COLOURS[index])).all(2).any()


def test_lines_break_nowhere():
    assert _line("two\nlines of\ttext") == "two lines of text"
