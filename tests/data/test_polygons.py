from __future__ import annotations

import numpy as np
import pytest

from rrsis_bench.data.pixels import polygons
from rrsis_bench.data.pixels import rle as masks

SIZE = (30, 40)


def drawn(*segmentations, size=SIZE):
    return masks.decode(polygons.rasterise([polygons.parse(entry, size) for entry in segmentations], size))


def inside(points, size):
    """The plainest rule: a pixel belongs where a ray from its centre crosses the outline an odd number of times."""
    corners = list(zip(points[0::2], points[1::2], strict=True))
    out_HW = np.zeros(size, dtype=bool)
    for y in range(size[0]):
        for x in range(size[1]):
            odd = False
            for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
                if (y0 > y + 0.5) != (y1 > y + 0.5) and x + 0.5 < x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0):
                    odd = not odd
            out_HW[y, x] = odd
    return out_HW


def test_outlines_give_every_mask_back_exactly():
    """Noise of every density, blocks with holes, full and single pixels; each bit for bit."""
    rng = np.random.default_rng(0)
    for round_ in range(150):
        mask_HW = rng.random(rng.integers(1, 24, 2)) < rng.random()
        if round_ % 3 == 0:
            mask_HW = np.kron(rng.random((5, 6)) < 0.6, np.ones((4, 3))) > 0
        if round_ % 30 == 1:
            mask_HW[:] = True
        parts = polygons.outline(mask_HW)
        np.testing.assert_array_equal(drawn(parts, size=mask_HW.shape), mask_HW)


def test_an_outline_has_one_part_per_piece_and_one_for_a_mask_with_holes():
    mask_HW = np.zeros(SIZE, dtype=bool)
    mask_HW[2:6, 3:9] = mask_HW[6:9, 9:12] = True  # touch at a corner only
    assert polygons.outline(mask_HW) == [[3, 2, 9, 2, 9, 6, 3, 6], [9, 6, 12, 6, 12, 9, 9, 9]]
    mask_HW[3:5, 4:6] = False
    assert len(polygons.outline(mask_HW)) == 1


def test_slanted_polygons_are_filled_to_within_their_edge():
    """COCO's rasteriser and the plain rule agree but for pixels that an edge passes through."""
    points = [3.2, 4.1, 34.9, 8.3, 20.0, 27.7]
    plain_HW, coco_HW = inside(points, SIZE), drawn([points])
    assert plain_HW.sum() > 300
    assert (plain_HW != coco_HW).sum() < 12


def test_what_crosses_the_border_is_cut_off_there():
    """As on a larger picture; a pixel on a slanted edge may differ, since COCO rounds corners below 0 towards 0."""
    for points, apart in (([-8, 5, 20, -6, 47, 12, 22, 35], 2), ([-7, -3, 30, -3, 30, 9, 44, 9, 44, 33, -7, 33], 0)):
        large_HW = drawn([[value + 20 for value in points]], size=(70, 80))
        assert (drawn([points]) != large_HW[20:50, 20:60]).sum() <= apart
    assert polygons.crosses_border(polygons.parse([points], SIZE), SIZE)
    assert not polygons.crosses_border(polygons.parse([[0, 0, 40, 0, 40, 30, 0, 30.5]], SIZE), SIZE)


def test_the_mask_is_the_union_of_parts_and_shapes():
    one, two = [2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 14, 8, 14]
    expected_HW = inside(one, SIZE) | inside(two, SIZE)
    assert (inside(one, SIZE) & inside(two, SIZE)).any(), "an even-odd rule over both would leave a hole"
    np.testing.assert_array_equal(drawn([one, two]), expected_HW)
    np.testing.assert_array_equal(drawn([one], [two]), expected_HW)


@pytest.mark.parametrize("nothing", [None, [], [[]], [[], []]])
def test_no_polygon_is_an_empty_shape(nothing):
    assert polygons.parse(nothing, SIZE) == []
    assert drawn(nothing).shape == SIZE
    assert not drawn(nothing).any()


def test_run_length_masks_are_read_compressed_listed_and_in_a_list():
    mask_HW = inside([2, 3, 9, 3, 9, 11, 2, 11], SIZE)
    rle = masks.encode(mask_HW)
    text = {"size": list(SIZE), "counts": rle["counts"].decode()}
    runs = {"size": list(SIZE), "counts": masks.check_rle(rle).tolist()}
    for entry in (text, [text], runs, rle):
        np.testing.assert_array_equal(drawn(entry), mask_HW)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4, 5, 6, 7]], r"part 1 has an odd number of coordinates \(7\)"),
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4]], "part 2 has 2 points"),
        ([[1, 2, float("nan"), 4, 5, 6]], "not finite"),
        ([[1, 2, float("inf"), 4, 5, 6]], "not finite"),
        ([[40, 2, 50, 2, 50, 9]], r"outside the image \(x from 40 to 50 of 40\)"),
        ([[2, -9, 5, -9, 5, 0]], r"outside the image \(y from -9 to 0 of 30\)"),
        ([[2, 2, 5, 2, 5e9, 20]], "far outside"),
        ([[1, 2, "3", 4, 5, 6]], "something other than numbers"),
        ([[1, 2, True, 4, 5, 6]], "something other than numbers"),
        ([1, 2, 3, 4, 5, 6], "expected a flat list"),
        ("1 2 3", "expected a list of polygons"),
        ({"size": [30, 41], "counts": ""}, "its mask is 30 x 41, expected 30 x 40"),
        ({"size": [30, 40], "counts": "00"}, "cover 0 pixels"),
        ({"size": [30, 40], "counts": [3, 4]}, "cover 7 pixels"),
        ({"size": [30, 40], "counts": [-1, 1201]}, "whole numbers"),
        ([{"size": [30, 40]}], "'size' and 'counts'"),
    ],
)
def test_corrupt_segmentations_are_refused_with_the_reason(segmentation, message):
    with pytest.raises(ValueError, match=message):
        polygons.parse(segmentation, SIZE)
