"""Probes of a record in the tables, in the terminal and on the page; without them nothing changes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil

import pytest

from rrsis_bench import codec
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.eval.probing import figures_of
from rrsis_bench.eval.scores import ProbeGroup, ProbeScores, Score
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.record import store
from rrsis_bench.results.render.board_charts import board_charts
from rrsis_bench.results.render.terminal import board
from tests.fakes.records import random_table, record_of

SCORES = {
    "flip": ProbeScores(
        120, {"mirror: unclear word": 2}, 118, {"consistency": Score(61.25, 58.0, 64.5), "turned_miou": Score(40.0)},
        {"mirror": ProbeGroup(40, {"consistency": Score(70.5)})},
    ),
    "absent": ProbeScores(20, {}, 20, {"false_positives": Score(95.0, 90.0, 100.0), "area": Score(3.0)}),
    "of_somebody_else": ProbeScores(3, {}, 1, {"own_figure": Score(50.0)}),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two models, of which one has probes."""
    tmp_path = tmp_path_factory.mktemp("leaderboards")
    store.write(tmp_path, record_of(random_table(), probes=SCORES), random_table())
    plain = random_table(seed=1)
    store.write(tmp_path, record_of(plain, model="rmsin", train_hash="4567cdef" * 8), plain)
    leaderboards.regenerate(tmp_path)
    return tmp_path


def test_a_record_without_probes_does_not_name_them():
    record = record_of(random_table())
    assert "probes" not in json.loads(codec.dumps(record))
    assert codec.loads(type(record), codec.dumps(record), "the record") == record
    probed = dataclasses.replace(record, probes=SCORES)
    assert codec.loads(type(record), codec.dumps(probed), "the record") == probed


def test_the_table_has_every_figure_and_group(root):
    with (root / "synthetic_probes.csv").open() as file:
        lines = list(csv.DictReader(file))
    found = {(line["probe"], line["group"], line["figure"]): line for line in lines}
    assert len(found) == len(lines) == 6
    assert {line["model"] for line in lines} == {"lavt"}
    line = found["flip", "", "consistency"]
    assert [line[name] for name in ("value", "lo", "hi", "n", "predictions")] == [
        "61.25",
        "58.00",
        "64.50",
        "120",
        "118",
    ]
    assert line["refused"] == "mirror: unclear word=2"
    assert found["flip", "mirror", "consistency"]["n"] == "40"


def test_the_table_goes_with_its_last_record(root, tmp_path):
    root = shutil.copytree(root, tmp_path / "copy")
    for path in (root / "records").glob("synthetic/lavt/*"):
        path.unlink()
    leaderboards.regenerate(root)
    assert not (root / "synthetic_probes.csv").exists()
    assert (root / "synthetic.csv").exists()
    assert "Probes" not in (root / "index.html").read_text()


def test_page_and_charts(root):
    page = (root / "index.html").read_text()
    for text in (">Probes<", "61.25", "[58.0, 64.5]", "2 mirror: unclear word", "synthetic_probes.csv", "own figure"):
        assert text in page
    for figure in figures_of("flip")[:2]:
        assert figure.label in page
    charts = {chart.name: chart for chart in board_charts(rank(store.read_all(root), root))}
    assert charts["probes"].content.groups[:2] == (("flip", "↑"), ("absent", "↓"))
    assert "share of images with any predicted pixel" in charts["probes"].note


def test_terminal(root):
    rows = rank(store.read_all(root), root)
    out = io.StringIO()
    board.breakdown(Terminal(file=out, width=120), rows, "probe")
    shown = out.getvalue()
    assert "probe flip" in shown
    assert "61.2" in shown
    assert "2 mirror: unclear word" in shown
    for row in rows:
        out = io.StringIO()
        board.probe_summary(Terminal(file=out, width=120), row)
        assert ("[58.0, 64.5]" in out.getvalue()) == (row.head.model == "lavt")
    out = io.StringIO()
    board.breakdown(Terminal(file=out, width=120), [row for row in rows if row.head.model == "rmsin"], "probe")
    assert "no row has probes" in out.getvalue()


@pytest.mark.parametrize(
    "broken",
    [
        dataclasses.replace(SCORES["absent"], scores={"area": Score(101.0)}),
        dataclasses.replace(SCORES["absent"], groups={"ship": ProbeGroup(2, {"area": Score(-1.0)})}),
        dataclasses.replace(SCORES["absent"], n=-1),
        dataclasses.replace(SCORES["absent"], refused={"no name": -2}),
    ],
)
def test_impossible_figures_are_refused(tmp_path, broken):
    with pytest.raises(UserError, match=r"probes\.absent\."):
        store.write(tmp_path, record_of(random_table(), probes={"absent": broken}), random_table())


def test_rescoring_keeps_probes_under_the_same_rules_only():
    table = random_table()
    record = record_of(table, probes=SCORES)
    assert store.rescore(record, table, resamples=20).probes == SCORES
    other = dataclasses.replace(record.protocol, name="other", empty="zero")
    assert store.rescore(record, table, other, resamples=20).probes is None
