from __future__ import annotations

import dataclasses
import gzip
from types import SimpleNamespace

import numpy as np
import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import COLUMNS, CountsTable, count, count_pixels
from tests.fakes.records import random_table, row, table_of


def test_counts_equal_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    for _ in range(20):
        pred_HW, target_HW = rng.random((7, 9)) < 0.4, rng.random((7, 9)) < 0.6
        pixels = list(zip(pred_HW.ravel(), target_HW.ravel(), strict=True))
        expected = (sum(p and t for p, t in pixels), sum(p or t for p, t in pixels), sum(p for p, _ in pixels),
                    sum(t for _, t in pixels))  # fmt: skip
        assert count(pred_HW, target_HW) == tuple(map(int, expected))


def test_masks_must_be_bool_and_of_one_size():
    mask_HW = np.ones((4, 4), dtype=bool)
    with pytest.raises(ValueError, match="bool"):
        count(mask_HW.astype(np.uint8), mask_HW)
    with pytest.raises(ValueError, match="differ in size"):
        count(mask_HW, np.ones((4, 5), dtype=bool))


def test_a_row_keeps_the_native_size_beside_the_scored_one():
    sample = SimpleNamespace(sample_id="a", image_id="b", category=None, language="zh", n_targets=None)
    native_HW, scored_HW = np.ones((8, 6), dtype=bool), np.ones((4, 4), dtype=bool)
    made = count_pixels(sample, scored_HW, scored_HW, native_HW)
    assert (made.height, made.width, made.native_area, made.target_area, made.union) == (8, 6, 48, 16, 16)


@pytest.mark.parametrize("areas", [(5, 4, 5, 4), (1, 9, 5, 4), (-1, 10, 5, 4)])
def test_integers_that_contradict_are_refused(areas):
    with pytest.raises(UserError, match="'s0' contradict themselves"):
        row(*areas)


def test_a_sample_counts_once():
    table = table_of(row(1, 2))
    with pytest.raises(UserError, match="'s0' was counted already"):
        table.add(row(1, 2))
    with pytest.raises(UserError, match="more than once: s0"):
        CountsTable([row(1, 2), row(1, 2)])


def test_order_is_the_splits_and_complete():
    table = random_table(6)
    order = ["s4", "s0", "s5", "s1", "s3", "s2"]
    assert [entry.sample_id for entry in table.in_order(order)] == order
    with pytest.raises(UserError, match="missing: s9; surplus: s5"):
        table.in_order(["s0", "s1", "s2", "s3", "s4", "s9"])


def test_the_arrays_follow_added_rows():
    table = table_of(row(1, 2))
    assert table.arrays["union"].tolist() == [2]
    table.add(row(3, 4, sample="new"))
    assert table.arrays["union"].tolist() == [2, 4]
    assert table.arrays["union"].dtype == np.int64


def test_the_file_round_trips_to_the_same_bytes():
    table = random_table(30, languages=("en", "zh"), categories=("a, b", None, "储罐", 'say "x"'))
    table.add(row(1, 2, sample="last", n_targets=None))
    packed = table.to_csv_gz()
    assert CountsTable.from_csv_gz(packed).rows == table.rows
    assert CountsTable(list(table.rows)).to_csv_gz() == packed
    assert packed[4:8] == b"\0\0\0\0", "the gzip header carries no time"
    assert len(packed) / len(table) < 200, "bytes per sample"


def test_a_damaged_file_is_a_message():
    packed = random_table(20).to_csv_gz()
    flipped = packed[:40] + bytes([packed[40] ^ 1]) + packed[41:]
    damaged = [b"", packed[: len(packed) // 2], packed[:-1], flipped, b"plain text", gzip.compress(b"\xff\xfe"),
               gzip.compress(b"")]  # fmt: skip
    for data in damaged:
        with pytest.raises(UserError, match="x.csv.gz is damaged"):
            CountsTable.from_csv_gz(data, "x.csv.gz")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("intersection", "overlap", "has the columns"), ("s3,", "s2,", "more than once: s2"),
    ("s3,i1,", "s3,i1,one,", "line 5: 13 values"), ("en,1,48", "en,1,many", "line 2: invalid literal"),
])  # fmt: skip
def test_a_wrong_line_is_named(old, new, message):
    text = gzip.decompress(table_of(*random_table(8)).to_csv_gz()).decode()
    assert text.startswith(",".join(COLUMNS))
    assert old in text
    with pytest.raises(UserError, match=message):
        CountsTable.from_csv_gz(gzip.compress(text.replace(old, new, 1).encode()))


def test_ids_and_categories_travel_exactly():
    rows = [
        dataclasses.replace(random_table(1).rows[0], sample_id=name, category=name)
        for name in ("a\rb", "a\r\nb", 'a"b', "a,b", "=a", " a ", "a\nb")
    ]
    assert CountsTable.from_csv_gz(CountsTable(rows).to_csv_gz()).rows == rows


def test_a_counts_file_that_unpacks_to_gigabytes_is_refused_early(monkeypatch):
    monkeypatch.setattr("rrsis_bench.eval.packed.MAX_UNPACKED", 2**20)
    head = gzip.decompress(random_table(1).to_csv_gz())
    line = head.splitlines(keepends=True)[1]
    for unpacked in (line * (2**22 // len(line)), b'"' + b" " * 2**22, b"\n" * 2**22):
        with pytest.raises(UserError, match=r"x\.csv\.gz(,| unpacks to more than 1 MB)"):
            CountsTable.from_csv_gz(gzip.compress(head + unpacked), "x.csv.gz")
