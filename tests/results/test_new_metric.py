"""A metric is one entry of `METRICS`: everything that shows scores follows from it."""

from __future__ import annotations

import csv
import io

import pytest

from rrsis_bench.console import Terminal
from rrsis_bench.eval.metrics import METRICS, Metric
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.compare.rows import compare
from rrsis_bench.results.record import store
from rrsis_bench.results.render import text
from rrsis_bench.results.render.terminal import board as show
from rrsis_bench.results.render.terminal import compare as show_compare
from tests.fakes.records import put


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two models, recorded with one more metric in the list: a ratio that is not a percentage, lower is better."""
    monkeypatch.setitem(
        METRICS, "missed", Metric(
            "missed", "Missed", "pixels that are missed, per pixel of the union",
            lambda scored: (scored.union_N - scored.intersection_N, scored.union_N),
            higher_is_better=False, unit="px/px",
        ),
    )  # fmt: skip
    put(tmp_path, model="lavt", quality=0.4)
    put(tmp_path, model="fianet", quality=0.9)
    return tmp_path


def printed(draw, *args) -> str:
    console = Terminal(file=io.StringIO(), width=240)
    draw(console, *args)
    return console.file.getvalue()


def test_a_new_entry_is_in_the_record_with_its_interval_and_in_every_group(root):
    record = store.read_all(root)[0]
    score = record.overall.scores["missed"]
    assert score.value == pytest.approx(1 - record.value("oiou") / 100)
    assert 0 <= score.lo < score.value < score.hi
    assert record.per_category["ship"].value("missed") == pytest.approx(
        1 - record.per_category["ship"].value("oiou") / 100
    )
    assert store.audit(root) == 2


def test_a_new_entry_has_its_columns_in_every_table(root):
    leaderboards.regenerate(root)
    rows = rank(store.read_all(root), root)
    value = f"{rows[0].score('missed').value:.2f}"
    (first, _) = csv.DictReader(io.StringIO((root / "synthetic.csv").read_text()))
    assert first["missed"] == value
    assert first["missed_lo"] < value < first["missed_hi"]
    assert "missed" in (root / "synthetic_per_category.csv").read_text().splitlines()[0].split(",")
    assert ">Missed<" in (root / "index.html").read_text()
    assert "Missed" in printed(show.leaderboard, rows)
    assert "| Missed |" in text.markdown(rows)
    latex = text.latex(rows)
    assert "& Missed &" in latex
    assert rf"\textbf{{{value}}}" in latex, "the lower value is the better one"


def test_a_new_entry_is_compared_and_tested_with_its_own_sign(root):
    result = compare(root, "lavt", "fianet", "synthetic", resamples=200)
    (found,) = [entry for entry in result.overall if entry.name == "missed"]
    assert found.gap < 0
    assert found.test.value == pytest.approx(found.gap)
    assert found.test.p < 0.05
    assert any(score.name == "missed" and score.p_holm is not None for score in result.families["category"][0].scores)
    assert "Missed" in printed(show_compare.comparison, result)
