"""Objects traced strip by strip are those of the whole mask."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.features import rasterize

from rrsis_bench.predict.outputs.polygons import Polygoniser
from rrsis_bench.predict.outputs.vectors import to_table

META = {"image": "i", "model": "m", "weights_sha": "0", "view": "tile"}


def objects(mask_HW: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """The plainest form: pixels that are reached over edges."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask_HW)}
    found = set()
    while left:
        todo, own = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            own.add((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    todo.append(near)
        found.add(frozenset(own))
    return found


def traced(mask_HW, prob_HW, strips, min_area=0):
    polygoniser = Polygoniser(min_area)
    row = 0
    for rows in strips:
        polygoniser.add(row, mask_HW[row : row + rows], prob_HW[row : row + rows])
        row += rows
    assert row == len(mask_HW)
    return polygoniser.finish()


@pytest.mark.parametrize("strips", [(24,), (8, 8, 8), (1,) * 24, (5, 1, 11, 7)])
@pytest.mark.parametrize("share", [0.35, 0.6])
def test_strips_make_the_objects_of_the_whole(strips, share):
    rng = np.random.default_rng(0)
    mask_HW, prob_HW = rng.random((24, 31)) < share, rng.random((24, 31))
    expected = objects(mask_HW)
    found = traced(mask_HW, prob_HW, strips)
    assert all(one.polygon.is_valid for one in found)
    pixels = []
    for one in found:
        own_HW = rasterize([one.polygon], out_shape=mask_HW.shape).astype(bool)
        pixels.append(frozenset((int(y), int(x)) for y, x in np.argwhere(own_HW)))
        assert one.area == own_HW.sum()
        assert one.score == pytest.approx(prob_HW[own_HW].mean())
    assert len(pixels) == len(expected)
    assert set(pixels) == expected
    large = traced(mask_HW, prob_HW, strips, min_area=4)
    assert len(large) == sum(len(own) >= 4 for own in expected)


def test_which_objects_touch_the_edge():
    mask_HW = np.zeros((20, 40), bool)
    for y, x in ((0, 5), (19, 9), (7, 0), (3, 39), (10, 25), (18, 38)):
        mask_HW[y, x] = True
    found = traced(mask_HW, mask_HW.astype(float), (20,))
    table = to_table([found], ["a ship"], None, mask_HW.shape, META)
    corners = [shape.bounds[:2] for shape in table.geometry]
    touching = {corner for corner, touches in zip(corners, table.touches_edge, strict=True) if touches}
    assert touching == {(5, 0), (9, 19), (0, 7), (39, 3)}
