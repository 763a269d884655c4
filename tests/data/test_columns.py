"""The index as arrays, and what reads many masks at once, held to one thing at a time."""

from __future__ import annotations

import gc
import os
import pickle

import numpy as np
import pytest

from rrsis_bench.data.formats.columns import Ragged, Shapes, Texts, areas
from rrsis_bench.data.formats.index_cache import Kept, collector_paused
from rrsis_bench.data.pixels import polygons
from rrsis_bench.data.pixels import rle as masks


def test_texts_come_back_as_they_were():
    texts = ["a", "", "左边的车", "\ud800", "z" * 300, "é\n"]
    held = Texts(texts)
    assert list(held) == texts == [held[index] for index in range(len(held))]
    assert held[-1] == texts[-1]
    assert list(pickle.loads(pickle.dumps(held))) == texts  # noqa: S301 - our own bytes
    with pytest.raises(IndexError):
        held[len(texts)]
    assert list(Texts([])) == []


def test_rows_are_taken_in_any_order():
    ragged = Ragged(np.arange(10), [3, 0, 2, 5])
    for rows in ([0, 1, 2, 3], [2, 3], [3, 0, 0, 1], []):
        taken = ragged.take(np.array(rows, dtype=np.int64))
        assert [part.tolist() for part in taken] == [ragged[row].tolist() for row in rows]


def random_counts(rng: np.random.Generator) -> bytes:
    """Run lengths of a random mask; every second one damaged somewhere."""
    mask_HW = rng.random((9, 11)) < rng.random() ** 2
    counts = bytearray(masks.encode(mask_HW)["counts"])
    if rng.random() < 0.5:
        damage, place = rng.integers(5), int(rng.integers(len(counts)))
        if damage == 0:
            counts[place] = rng.integers(256)
        elif damage == 1:
            counts[place] ^= 32  # joins two numbers, or cuts one in two
        elif damage == 2:
            del counts[place:]
        elif damage == 3:
            counts[place:place] = b"o" * 8
        else:
            counts += b"0"
    return bytes(counts)


def test_many_masks_are_checked_as_each_alone(monkeypatch):
    monkeypatch.setattr("rrsis_bench.data.formats.columns._CHUNK", 500)
    rng = np.random.default_rng(0)
    rles = [{"size": [9, 11], "counts": random_counts(rng)} for _ in range(3000)]
    expected = []
    for rle in rles:
        try:
            expected.append(int(masks.check_rle(rle)[1::2].sum()))
        except ValueError:
            expected.append(-1)
    assert areas(rles).tolist() == expected
    assert 500 < expected.count(-1) < 2500
    assert expected.count(0) > 10
    assert areas([]).tolist() == []
    assert areas([{"size": [9, 11], "counts": b""}]).tolist() == [-1]


STRANGE = [
    [[1, 2, 3, 4, 5]], [[1, 2, 3, 4]], [[1, 2, float("nan"), 4, 5, 6]], [[-50, 2, -40, 2, -45, 9]], ["x"], "x", [[]],
    [[1, 2, 10**400, 4, 5, 6]], [[1, 2, "3", 4, 5, 6]], [[1, 2, True, 4, 5, 6]], None, [], [None], 7,
    [[1, 2, 300, 4, 5, 6]], [[-3, 2, 20, 2, 20, 9]], {"size": [30, 40], "counts": [1200]}, [{"size": [30, 40]}],
]  # fmt: skip


@pytest.mark.parametrize("strange", [*STRANGE, "none of them"], ids=repr)
def test_many_polygons_are_parsed_as_each_alone(strange):
    rng = np.random.default_rng(0)
    parts = [rng.uniform(0, 30, (rng.integers(3, 9), 2)).round(1).reshape(-1).tolist() for _ in range(9)]
    given = [parts[:2], [parts[2], []], [], parts[3:6], [[0, 0, 41.5, 0, 41.5, 30]]]
    given = given if strange == "none of them" else [*given, strange]
    found = polygons.parse_many(given, [(30, 40)] * len(given))
    for segmentation, shape, crossing in zip(given, found.shapes, found.crossing, strict=True):
        try:
            expected = polygons.parse(segmentation, (30, 40))
        except ValueError:
            assert shape is None
            continue
        assert type(shape) is type(expected)
        if isinstance(expected, dict):
            assert shape == expected
        else:
            assert [part.tolist() for part in shape] == [part.tolist() for part in expected]
            assert all(part.dtype == np.float64 for part in shape)
        assert crossing == polygons.crosses_border(expected, (30, 40))


def test_shapes_come_back_as_they_were():
    square, rle = [np.arange(8.0), np.arange(6.0)], masks.encode(np.eye(4, dtype=bool))
    samples = [[square, rle], [], [[]], [rle], [square[:1]]]
    held = pickle.loads(pickle.dumps(Shapes(samples)))  # noqa: S301 - our own bytes
    assert len(held) == len(samples)
    for sample, shapes in zip(samples, (held[index] for index in range(len(held))), strict=True):
        assert len(shapes) == len(sample)
        for one, two in zip(sample, shapes, strict=True):
            assert one == two if isinstance(one, dict) else [p.tolist() for p in one] == [p.tolist() for p in two]


def test_a_file_is_read_again_only_after_it_changed(tmp_path):
    path, read = tmp_path / "file", []

    def load(what):
        read.append(what)
        return path.read_text()

    kept = Kept(load, 2)
    path.write_text("one")
    assert [kept([path], "a"), kept([path], "a")] == ["one", "one"]
    assert read == ["a", "a"], "written a moment ago: it might change without a later time"
    os.utime(path, (1, 1))
    assert [kept([path], "a"), kept([path], "a"), kept([path], "b")] == ["one"] * 3
    assert read == ["a", "a", "a", "b"]
    path.write_text("two")
    os.utime(path, (1, 1))  # the same size and time: only the system's own note of the change differs
    assert kept([path], "a") == "two"
    kept([path], "c")
    kept([path], "a")
    assert read[4:] == ["a", "c"]
    kept([path], "b")
    assert read[6:] == ["b"], "only the last two results are held"


def test_the_collector_runs_again_whatever_happens():
    assert gc.isenabled()
    paused = []

    def fail():
        with collector_paused():
            paused.append(not gc.isenabled())
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert paused == [True]
    assert gc.isenabled()
