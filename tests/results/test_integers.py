"""`compare` of two counts files: every changed integer is found, and equal files are equal."""

from __future__ import annotations

import dataclasses

import pytest

from rrsis_bench.cli import main
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.results.compare.integers import compare_integers
from tests.fakes.records import random_table


@pytest.fixture
def table():
    return random_table(20, quality=0.8)


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(table.to_csv_gz())
    return path


def test_equal_runs_are_equal(tmp_path, table, capsys):
    for run in ("before", "after"):
        write(tmp_path / run / "record" / "records" / "d" / "m" / "r.csv.gz", table)
        (tmp_path / run / "record" / "records" / "d" / "strata-test-0-0.csv.gz").write_bytes(b"of the split")
    assert main(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == 0
    assert "All 20 samples have equal integers" in capsys.readouterr().out


def test_one_moved_pixel_is_found(tmp_path, table, capsys):
    row = next(row for row in table if row.intersection)
    moved = dataclasses.replace(row, intersection=row.intersection - 1, union=row.union + 1)
    old = write(tmp_path / "a.csv.gz", table)
    new = write(tmp_path / "b.csv.gz", CountsTable([moved if other is row else other for other in table]))
    assert main(["compare", str(old), str(new)]) == 1
    printed = capsys.readouterr().out
    assert "1 of 20 samples differ" in printed
    assert f"{row.intersection} -> {moved.intersection}" in printed


def test_missing_samples_and_another_order_are_found(tmp_path, table):
    rows = list(table)
    whole = write(tmp_path / "a.csv.gz", table)
    short = compare_integers(whole, write(tmp_path / "b.csv.gz", CountsTable(rows[1:])))
    assert [(sample.sample_id, sample.new) for sample in short.changed] == [(rows[0].sample_id, None)]
    turned = compare_integers(whole, write(tmp_path / "c.csv.gz", CountsTable(rows[::-1])))
    assert not turned.changed
    assert not turned.same_bytes


def test_a_run_that_was_not_scored_is_named(tmp_path, table):
    (tmp_path / "run" / "record").mkdir(parents=True)
    with pytest.raises(UserError, match=r"run has no counts file"):
        compare_integers(tmp_path / "run", write(tmp_path / "a.csv.gz", table))
