from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import statistics
from pathlib import Path

import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board import tables
from rrsis_bench.results.record import store
from rrsis_bench.results.render import page
from tests.fakes.records import LAVT, control, flat, put, record_of


def lines(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch, request):
    """These tests are about tables: the page, whose charts take a second, is only drawn for the committed one."""
    if "committed" not in request.node.name:
        monkeypatch.setattr(page, "build", lambda *_: b"page")


def test_every_table_is_written_with_its_columns(tmp_path):
    put(tmp_path)
    written = leaderboards.regenerate(tmp_path)
    some = {
        "synthetic.csv": {"rank", "miou", "oiou_lo", "pr70_std", "macro_miou", "reason", "schema_version"},
        "synthetic_per_category.csv": {"category", "n", "miou", "pr90_std"},
        "synthetic_per_threshold.csv": {"threshold", "pr", "pr_lo"},
        "synthetic_per_size.csv": {"scheme", "size_class", "oiou"},
        "efficiency.csv": {"params_total", "n_runs"},
    }
    assert {path.name for path in written} == {*some, "index.html"}
    for name, columns in some.items():
        header = (tmp_path / name).read_text(encoding="utf-8").splitlines()[0].split(",")
        assert columns <= set(header), name
        assert len(set(header)) == len(header), name


def test_the_figures_are_the_records(tmp_path):
    record = put(tmp_path)
    leaderboards.regenerate(tmp_path)
    (row,) = lines(tmp_path, "synthetic.csv")
    assert row["rank"] == "1"
    for name in ("miou", "miou_lo", "miou_hi", "oiou", "oiou_lo", "oiou_hi", "pr50", "pr90", "macro_miou"):
        assert row[name] == f"{getattr(flat(record.overall), name):.2f}", name
    assert (row["shuffled_text_miou"], row["category_only_miou"]) == ("12.50", "30.25")
    assert row["same_image_other_expression_miou"] == row["nacc"] == row["miou_std"] == "", "not measured is empty"
    assert (row["params_m"], row["gflops"], row["wall_s"]) == ("1.235", "2.500", "321.5")
    assert (row["git_dirty"], row["init_weights"], row["cuda"]) == ("false", "swin=random bert=random", "")
    assert row["train_hash"] == record.train_hash
    per_category = {line["category"]: line for line in lines(tmp_path, "synthetic_per_category.csv")}
    assert per_category["储罐"]["oiou"] == f"{record.per_category['储罐'].value('oiou'):.2f}"
    assert per_category[tables.MACRO_ROW]["miou"] == row["macro_miou"]
    thresholds = [(line["threshold"], line["pr"]) for line in lines(tmp_path, "synthetic_per_threshold.csv")]
    assert thresholds == [(f"0.{t}", row[f"pr{t}0"]) for t in (5, 6, 7, 8, 9)]
    sizes = {(line["scheme"], line["size_class"]): line["n"] for line in lines(tmp_path, "synthetic_per_size.csv")}
    assert sizes["pixels", "small"] == str(record.per_size["pixels"]["small"].n)


def test_regenerating_changes_no_byte_whatever_the_order_on_disk(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    changes = [{"seed": seed, "model": model, "quality": quality} for model, quality in (("lavt", 0.5), ("fianet", 0.8))
               for seed in (0, 1, 2)]  # fmt: skip
    for root, order in ((first, changes), (second, changes[::-1])):
        for change in order:
            put(root, **change)
        leaderboards.regenerate(root)
    before = snapshot(first)
    assert len(before) == 6
    leaderboards.regenerate(first)
    assert snapshot(first) == before == snapshot(second)


def test_a_row_is_a_train_hash_with_mean_and_deviation_over_its_seeds(tmp_path):
    records = [put(tmp_path, seed=seed) for seed in (0, 1, 2)]
    put(tmp_path, seed=0, train_hash="f" * 64, run_id="other", table_seed=7)
    leaderboards.regenerate(tmp_path)
    by_hash = {row["train_hash"]: row for row in lines(tmp_path, "synthetic.csv")}
    assert len(by_hash) == 2
    row = by_hash[records[0].train_hash]
    values = [record.value("miou") for record in records]
    assert (row["n_seeds"], row["seeds"]) == ("3", "0 | 1 | 2")
    assert row["miou"] == f"{statistics.mean(values):.2f}"
    assert row["miou_std"] == f"{statistics.stdev(values):.2f}"
    assert row["status"] == "finished", "provenance that agrees is written once"
    ship = [line for line in lines(tmp_path, "synthetic_per_category.csv")
            if line["category"] == "ship" and line["n_seeds"] == "3"]  # fmt: skip
    expected = [record.per_category["ship"].value("oiou") for record in records]
    assert [line["oiou"] for line in ship] == [f"{statistics.mean(expected):.2f}"]
    assert [line["oiou_std"] for line in ship] == [f"{statistics.stdev(expected):.2f}"]
    assert by_hash["f" * 64]["miou_std"] == "", "one seed has no deviation"


def test_one_training_cannot_count_twice(tmp_path):
    put(tmp_path)
    put(tmp_path, run_id="again", table_seed=3)
    with pytest.raises(UserError, match="lavt-synthetic-tiny-s0-0123abcd and .*-again .* are the same training"):
        leaderboards.regenerate(tmp_path)


REASONS = {
    "checkpoint selected on test": {"selection_split": "test"},
    "limited to 8 train samples": {"limit": {"train": 8}},
    "40 of 150 samples": {"n_expected": 150},
    "split size unknown": {"n_expected": None},
    "dirty tree": {"git_dirty": True},
    "no git revision": {"git_dirty": None, "git_sha": None},
    "status interrupted": {"status": "interrupted"},
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_cannot_be_trusted_is_shown_unranked_with_the_reason(tmp_path, reason):
    put(tmp_path, model="bad", quality=0.95, **REASONS[reason])
    put(tmp_path, model="good", quality=0.3)
    leaderboards.regenerate(tmp_path)
    found = [(row["model"], row["rank"], row["reason"]) for row in lines(tmp_path, "synthetic.csv")]
    assert found == [("good", "1", ""), ("bad", "", reason)]


def test_every_reason_is_given_and_a_failed_run_shows_no_figures(tmp_path):
    store.write(tmp_path, record_of(None, status="oom", n=0, n_expected=40, git_dirty=True), None)
    leaderboards.regenerate(tmp_path)
    (row,) = lines(tmp_path, "synthetic.csv")
    assert row["reason"] == "status oom; 0 of 40 samples; dirty tree"
    assert row["miou"] == row["pr50"] == row["rank"] == "", "never a zero for a run that failed"
    assert lines(tmp_path, "synthetic_per_category.csv") == []


def test_an_untrusted_seed_does_not_enter_the_mean(tmp_path):
    clean = put(tmp_path, seed=0)
    put(tmp_path, seed=1, git_dirty=True, quality=0.95)
    leaderboards.regenerate(tmp_path)
    ranked, unranked = lines(tmp_path, "synthetic.csv")
    assert (ranked["n_seeds"], ranked["miou"]) == ("1", f"{clean.value('miou'):.2f}")
    assert (unranked["seeds"], unranked["reason"]) == ("1", "dirty tree")


def test_ranks_follow_miou_and_ties_share_one(tmp_path):
    put(tmp_path, model="c", quality=0.3)
    put(tmp_path, model="b", quality=0.6)
    put(tmp_path, model="a", quality=0.602)  # equal integers would be one result
    put(tmp_path, model="d", quality=0.9)
    leaderboards.regenerate(tmp_path)
    ranks = [(row["model"], row["rank"]) for row in lines(tmp_path, "synthetic.csv")]
    assert ranks == [("d", "1"), ("a", "2"), ("b", "2"), ("c", "4")]


def test_only_comparable_rows_are_ranked_together(tmp_path):
    """Another split, protocol, rule, metric version or dataset content starts a ranking of its own."""
    others = {
        "split": {"split": "val"},
        "protocol": {"protocol": LAVT},
        "rule": {"protocol": dataclasses.replace(LAVT, name="native", empty="rela")},
        "version": {"metric_version": "0"},
        "content": {"dataset_fingerprint": "9" * 64},
    }
    put(tmp_path, model="base", quality=0.3)
    for name, change in others.items():
        put(tmp_path, model=name, quality=0.9, **change)
    put(tmp_path, model="second", quality=0.1)
    leaderboards.regenerate(tmp_path)
    ranks = {row["model"]: row["rank"] for row in lines(tmp_path, "synthetic.csv")}
    assert ranks == dict.fromkeys(others, "1") | {"base": "1", "second": "2"}


def test_costs_are_averaged_under_equal_conditions_only(tmp_path):
    cost = Efficiency(params_total=10**6, latency_ms=40.0, batch=1, device="cpu", precision="32-true")
    put(tmp_path, seed=0, efficiency=cost, wall_s=300.0)
    put(tmp_path, seed=1, efficiency=dataclasses.replace(cost, latency_ms=60.0), wall_s=500.0)
    put(tmp_path, seed=2, efficiency=dataclasses.replace(cost, latency_ms=5.0, device="NVIDIA H200"))
    put(tmp_path, model="unmeasured", efficiency=Efficiency())
    leaderboards.regenerate(tmp_path)
    found = [(row["model"], row["device"], row["n_runs"], row["latency_ms"], row["gflops"], row["params_total"])
             for row in lines(tmp_path, "efficiency.csv")]  # fmt: skip
    assert found == [("lavt", "NVIDIA H200", "1", "5.000", "", "1000000"), ("lavt", "cpu", "2", "50.00", "", "1000000")]
    assert lines(tmp_path, "efficiency.csv")[1]["wall_s"] == "400.0"


def test_a_latency_under_autocast_is_a_column_of_its_own(tmp_path):
    """A record from before it was measured has no such field, keeps its hash, and its table no such column."""
    cost = Efficiency(params_total=10**6, latency_ms=40.0, batch=1, device="cpu", precision="32-true")
    old = put(tmp_path, seed=0, efficiency=cost)
    leaderboards.regenerate(tmp_path)
    assert "latency_amp_ms" not in lines(tmp_path, "efficiency.csv")[0]
    assert "latency_amp_ms" not in store.find(tmp_path, old.run_id).read_text()
    new = put(tmp_path, seed=1, efficiency=dataclasses.replace(cost, latency_amp_ms=15.0))
    leaderboards.regenerate(tmp_path)
    (row,) = lines(tmp_path, "efficiency.csv")
    assert (row["latency_ms"], row["latency_amp_ms"], row["n_runs"]) == ("40.00", "15.00", "2")
    found = {record.seed: record.efficiency.latency_amp_ms for record in store.read_all(tmp_path)}
    assert found == {0: None, 1: new.efficiency.latency_amp_ms}


def test_controls_average_over_the_seeds_that_have_them(tmp_path):
    put(tmp_path, seed=0, control={"shuffled_text": control(10.0)})
    put(tmp_path, seed=1, control={"shuffled_text": control(20.0)})
    leaderboards.regenerate(tmp_path)
    (row,) = lines(tmp_path, "synthetic.csv")
    assert (row["shuffled_text_miou"], row["category_only_miou"]) == ("15.00", "")


def test_notes_are_shown(tmp_path):
    put(tmp_path, notes=["intervals are too narrow: scenes are not named", "text-derived categories"])
    leaderboards.regenerate(tmp_path)
    (row,) = lines(tmp_path, "synthetic.csv")
    assert row["notes"] == "intervals are too narrow: scenes are not named; text-derived categories"


def test_tables_of_vanished_records_go_and_other_files_stay(tmp_path):
    put(tmp_path)
    put(tmp_path, data="rrsisd", run_id="r")
    leaderboards.regenerate(tmp_path)
    (tmp_path / "rrsisd_notes.csv").write_text("mine")
    for path in (tmp_path / "records/rrsisd").rglob("*.*"):
        path.unlink()
    leaderboards.regenerate(tmp_path)
    assert sorted(snapshot(tmp_path)) == [
        "efficiency.csv", "index.html", "rrsisd_notes.csv", "synthetic.csv", "synthetic_per_category.csv",
        "synthetic_per_size.csv", "synthetic_per_threshold.csv",
    ]  # fmt: skip


def test_without_records_there_are_no_tables(tmp_path):
    assert leaderboards.regenerate(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_an_unsound_record_stops_the_tables_and_is_named(tmp_path):
    put(tmp_path)
    path = store.find(tmp_path, put(tmp_path, seed=1).run_id)
    leaderboards.regenerate(tmp_path)
    before = snapshot(tmp_path)
    path.write_text(path.read_text().replace('"miou": ', '"miou": 1', 1))
    with pytest.raises(UserError, match="lavt-synthetic-tiny-s1-0123abcd"):
        leaderboards.regenerate(tmp_path)
    assert snapshot(tmp_path) == before


def test_an_interrupted_regeneration_leaves_whole_files(tmp_path, monkeypatch):
    put(tmp_path)
    leaderboards.regenerate(tmp_path)
    old = snapshot(tmp_path)
    put(tmp_path, model="fianet", quality=0.9)
    count = 0
    replace = os.replace

    def third_time_fails(source, target):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", third_time_fails)
        with pytest.raises(UserError, match="could not be written"):
            leaderboards.regenerate(tmp_path)
    now = snapshot(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*old, "records"}, "no temporary file is left"
    leaderboards.regenerate(tmp_path)
    new = snapshot(tmp_path)
    assert [now[name] in (old[name], new[name]) for name in new] == [True] * 6
    assert sum(now[name] == new[name] != old[name] for name in new) == 2


def test_the_committed_tables_follow_from_the_committed_records(tmp_path):
    """Row invariants and integers of every record in the repository, and its tables to the byte."""
    committed = Path(__file__).parents[2] / "leaderboards"
    n_records = len(list(committed.glob("records/*/*/*.json")))
    assert store.audit(committed) == n_records
    if n_records:
        shutil.copytree(committed / "records", tmp_path / "records")
        shutil.copytree(committed / "published", tmp_path / "published")  # part of the report page
    leaderboards.regenerate(tmp_path)
    made, stored = snapshot(tmp_path), snapshot(committed)
    assert made.keys() == stored.keys()
    assert [name for name in made if name != page.INDEX and made[name] != stored[name]] == []
