"""Tiles: where they lie, and that blending them gives what the whole image would."""

from __future__ import annotations

import numpy as np
import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.images import ArraySource
from rrsis_bench.predict.sources.source import Window
from rrsis_bench.predict.tiles import FLOOR, Tiling, blend_tiles, cover_sum, starts, weights
from tests.fakes.echo import CUT, Constant, Echo, EchoFirst, RaisesOnSeventh, make_predictor

SIZES = [(300, 300), (1024, 1024), (1025, 1025), (3000, 1777), (12000, 12037)]
slow_sizes = [pytest.param(size, marks=pytest.mark.slow) if max(size) > 1025 else size for size in SIZES]


def blocks(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of random grey levels, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (-(-height // 9), -(-width // 9), 3), dtype=np.uint8)
    return np.repeat(np.repeat(grey, 9, 0), 9, 1)[:height, :width]


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "expected"),
    [(300, 1024, 0.25, (0,)), (1024, 1024, 0, (0,)), (1025, 1024, 0, (0, 1)), (10, 4, 0, (0, 4, 6)),
     (10, 4, 0.5, (0, 2, 4, 6)), (9, 4, 0.99, (0, 1, 2, 3, 4, 5))],
)  # fmt: skip
def test_starts_cover_the_side_and_end_at_the_border(length, tile, overlap, expected):
    found = starts(length, tile, overlap)
    assert found == expected
    assert all(later - earlier <= tile for earlier, later in zip(found, found[1:], strict=False))
    assert found[-1] + tile >= length


def test_hann_weights_fall_to_the_floor_and_are_symmetric():
    found = weights(64, "hann")
    assert found.max() > 0.99
    assert found.min() >= FLOOR
    np.testing.assert_allclose(found, found[::-1])


@pytest.mark.parametrize(("overlap", "tile"), [(-0.1, 8), (1.0, 8), (0.5, 0)])
def test_impossible_tilings_are_refused(overlap, tile):
    with pytest.raises(UserError):
        Tiling.cover(32, 32, tile, overlap)


@pytest.mark.parametrize("blend", ["hann", "mean"])
@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_blending_equals_a_loop_over_pixels(blend, overlap):
    """The plainest form: for each pixel, the weighted mean of the logits of all tiles that cover it."""
    height, width, tile = 23, 31, 8
    tiling = Tiling.cover(height, width, tile, overlap)
    rng = np.random.default_rng(1)
    logits = {(x, y): rng.normal(size=(2, tile, tile)).astype(np.float32) for y in tiling.ys for x in tiling.xs}
    order = iter([(x, y) for y in tiling.ys for x in tiling.xs])

    def logits_of(frames):
        return [logits[next(order)] for _ in frames]

    def read(window: Window):
        return np.zeros((window.height, window.width, 3), np.uint8), np.ones((window.height, window.width), bool)

    rows = list(blend_tiles(tiling, read, logits_of, 2, blend=blend, batch=3))
    assert [row for row, _ in rows] == list(tiling.ys)
    found = np.concatenate([part for _, part in rows], axis=1)
    assert found.shape == (2, height, width)
    line = weights(tile, blend)
    for i in range(height):
        for j in range(width):
            total, weight = np.zeros(2), 0.0
            for (x, y), values in logits.items():
                if y <= i < y + tile and x <= j < x + tile:
                    share = float(line[i - y]) * float(line[j - x])
                    total += values[:, i - y, j - x] * share
                    weight += share
            np.testing.assert_allclose(found[:, i, j], total / weight, rtol=2e-4, atol=1e-5)


def test_cover_sum_equals_a_loop():
    line = weights(5, "hann")
    places = starts(13, 5, 0.4)
    expected = [sum(line[p - place] for place in places if place <= p < place + 5) for p in range(13)]
    np.testing.assert_allclose(cover_sum(places, 13, 5, line), expected, rtol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("size", slow_sizes)
def test_no_seam(size, overlap):
    """The echo model sees the red band: tile by tile and in one piece, the mask is its threshold, pixel for pixel."""
    image_HWC = blocks(*size)
    predictor = make_predictor(Echo(1024))
    found = predictor(image_HWC, "the red vehicle", view="tile", tile=1024, overlap=overlap)
    wrong = np.count_nonzero(found[0].mask != (image_HWC[..., 0] > CUT))
    assert wrong == 0


def test_a_constant_model_gives_a_constant_map():
    found = make_predictor(Constant(32))(blocks(100, 77), "the red vehicle", view="tile", tile=32, overlap=0.4)
    assert found[0].mask.all()
    np.testing.assert_allclose(found[0].prob, 1 / (1 + np.exp(-1.25)), rtol=1e-5)


def test_a_small_image_is_one_tile_continued_by_reflection():
    image_HWC = blocks(20, 30)
    seen = []

    def logits_of(frames):
        seen.extend(frames)
        return [np.ones((1, 64, 64), np.float32) for _ in frames]

    source = ArraySource(image_HWC)
    tiling = Tiling.cover(20, 30, 64, 0.25)
    rows = list(blend_tiles(tiling, lambda w: (source.read(w), source.valid(w)), logits_of, 1))
    assert rows[0][1].shape == (1, 20, 30)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0][:20, :30], image_HWC)
    np.testing.assert_array_equal(seen[0][20:40, :30], image_HWC[::-1])
    np.testing.assert_array_equal(seen[0][:20, 30:60], image_HWC[:, ::-1])


def test_a_failing_tile_is_named():
    with pytest.raises(UserError, match=r"Tile 7 of 9 \(x 0, y 64, 32 x 32 pixels\) failed: out of luck"):
        make_predictor(RaisesOnSeventh(32))(blocks(96, 96), "the red vehicle", view="tile", tile=32, overlap=0, batch=1)


def test_tiles_without_a_valid_pixel_are_not_predicted():
    image_HWC, valid_HW = blocks(64, 96), np.ones((64, 96), bool)
    valid_HW[:, 32:64] = False
    seen = []
    source = ArraySource(image_HWC, valid_HW)

    def logits_of(frames):
        seen.append(len(frames))
        return [np.ones((1, 32, 32), np.float32) for _ in frames]

    done = []
    tiling = Tiling.cover(64, 96, 32, 0)
    rows = list(blend_tiles(tiling, lambda w: (source.read(w), source.valid(w)), logits_of, 1, on_tiles=done.append))
    assert sum(seen) == 4
    assert sum(done) == len(tiling) == 6
    found = np.concatenate([part for _, part in rows], axis=1)[0]
    assert (found[valid_HW] == 1).all()
    assert (found[~valid_HW] == 0).all()


def test_presence_min_drops_tiles_without_a_sure_pixel():
    image_HWC = np.zeros((32, 64, 3), np.uint8)
    image_HWC[4:8, 4:8] = 129  # logit 1.5, probability 0.82
    image_HWC[4:8, 36:40] = 255
    predictor = make_predictor(Echo(32))
    options = {"view": "tile", "tile": 32, "overlap": 0}
    everything = predictor(image_HWC, "the red vehicle", **options)[0].mask
    sure = predictor(image_HWC, "the red vehicle", presence_min=0.9, **options)[0].mask
    assert everything[:, :32].any()
    assert not sure[:, :32].any()
    np.testing.assert_array_equal(sure[:, 32:], everything[:, 32:])


def test_expressions_that_do_not_fit_the_memory_are_predicted_in_passes():
    image_HWC = blocks(70, 50)
    model = EchoFirst(32)
    predictor = make_predictor(model)
    sentences = ["the ship", "the red vehicle", "a storage tank"]
    at_once = predictor(image_HWC, sentences, view="tile", tile=32)
    encodings = model.encodings
    in_passes = predictor(image_HWC, sentences, view="tile", tile=32, max_memory=1)
    assert model.encodings == 4 * encodings  # one pass before, three now
    for one, other in zip(at_once, in_passes, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
    assert not np.array_equal(at_once[0].mask, at_once[1].mask)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_a_dropped_tile_holds_no_target_whatever_the_threshold(threshold):
    image_HWC = np.full((32, 70, 3), 127, np.uint8)  # logit -0.5, probability 0.38
    image_HWC[:, 40:, 0] = 255
    options = {"view": "tile", "tile": 32, "overlap": 0.4, "presence_min": 0.9, "threshold": threshold}
    predictor = make_predictor(Echo(32))
    found = predictor(image_HWC, "the red vehicle", **options)[0].mask
    starts_X = starts(70, 32, 0.4)
    sure_X = [any(x <= j < x + 32 and x + 32 > 40 for x in starts_X) for j in range(70)]
    assert not found[:, ~np.array(sure_X)].any()
    assert found[:, 40:].all()
    assert not predictor(image_HWC[:, :40], "the red vehicle", **options)[0].mask.any()


def test_pixels_without_data_are_no_reason_to_keep_a_tile():
    logits = np.full((1, 8, 8), 1.0, np.float32)
    logits[:, 0] = 9.0  # where there is no data
    valid_HW = np.ones((8, 8), bool)
    valid_HW[0] = False
    tiling = Tiling.cover(8, 8, 8, 0)

    def blended(valid_HW):
        read = lambda _: (np.zeros((8, 8, 3), np.uint8), valid_HW)  # noqa: E731
        ((_, found),) = blend_tiles(tiling, read, lambda _: [logits], 1, presence_min=0.9)
        return found

    assert blended(valid_HW).max() == 0
    np.testing.assert_allclose(blended(np.ones((8, 8), bool)), logits, rtol=1e-6)


def test_the_threshold_is_that_of_the_probability():
    image_HWC = blocks(40, 40)
    for view in ("frame", "tile"):
        found = make_predictor(Echo(40))(image_HWC, "the red vehicle", view=view, threshold=0.9)[0]
        np.testing.assert_array_equal(found.mask, image_HWC[..., 0] >= 130)  # logit of 0.9: 2.197
        np.testing.assert_array_equal(found.mask, found.prob > 0.9)


@pytest.mark.parametrize("view", ["frame", "tile"])
def test_nodata_everywhere_and_nan_are_refused(view):
    class Broken(Echo):
        def forward(self, views, text):
            output = super().forward(views, text)
            output.logits[:, 3, 3] = float("nan")
            return output

    with pytest.raises(UserError, match="NaN"):
        make_predictor(Broken(32))(blocks(40, 40), "the red vehicle", view=view)
    nothing = np.full((40, 40, 3), np.nan, np.float32)
    with pytest.raises(UserError, match="no valid pixel"):
        make_predictor(Echo(32))(nothing, "the red vehicle", view=view, scale="0,1")


def test_a_tile_is_as_large_as_the_training_images_by_default():
    predictor = make_predictor(Echo(32), side=48)
    assert predictor.options({"view": "tile"}).tile == 48
    assert make_predictor(Echo(32)).options({"view": "tile"}).tile == 32
    assert predictor.options({"view": "tile", "tile": 20}).tile == 20
    assert predictor.options({"view": "frame"}).tile == 0
