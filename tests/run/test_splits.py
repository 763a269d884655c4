"""``splits``: a run is scored on val, on test, or on both, and each split is a row of its own."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from rrsis_bench import cli
from rrsis_bench.config import hashes
from rrsis_bench.config.protocol import METRIC_VERSION
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.board.tables import efficiency_file
from rrsis_bench.results.record import store
from rrsis_bench.run import bench as harness
from rrsis_bench.run import evaluate as evaluation
from rrsis_bench.run import plan
from rrsis_bench.run.folder import RunFolder
from tests.fakes.config import CONF, compose, parsed, tiny_overrides
from tests.fakes.records import put


@pytest.fixture(scope="module", autouse=True)
def clean_commit() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "git_state", lambda *_: ("c" * 40, False))
        yield


def bench(tmp_path: Path, root: Path, *overrides: str) -> str:
    console = Terminal(file=io.StringIO(), width=200)
    harness.bench(parsed("model=lavt", *tiny_overrides(tmp_path, root), "train.epochs=1", *overrides), console)
    return console.file.getvalue()


def evaluate(run: Path, leaderboards: Path, *overrides: str) -> list[str]:
    typed = [f"checkpoint={run}", f"leaderboards={leaderboards}", *overrides]
    evaluation.evaluate(parsed(*typed), Terminal(file=io.StringIO(), width=200), typed)
    return [record.run_id for record in store.read_all(leaderboards)]


@pytest.fixture(scope="module")
def both(fake_root, tmp_path_factory) -> SimpleNamespace:
    """A finished run with ``splits=[val,test] predictions=save``."""
    tmp_path = tmp_path_factory.mktemp("both")
    shown = bench(tmp_path, fake_root, "splits=[val,test]", "predictions=save")
    (manifest,) = (tmp_path / "runs").glob("*/manifest.json")
    records = {record.split: record for record in store.read_all(tmp_path / "leaderboards")}
    return SimpleNamespace(tmp_path=tmp_path, shown=shown, run=RunFolder.open(manifest.parent), records=records)


def test_one_training_gives_a_row_on_each_split(both):
    val, test = both.records["val"], both.records["test"]
    assert test.run_id == both.run.path.name
    assert val.run_id == f"{test.run_id}-val"
    assert (val.train_hash, val.weights_sha256) == (test.train_hash, test.weights_sha256)
    assert (val.n, val.n_expected, test.n) == (4, 4, 4)
    samples = {
        split: {row.sample_id for row in store.read_counts(path)} for split, path in both.run.record_paths.items()
    }
    assert not samples["val"] & samples["test"]
    assert store.audit(both.tmp_path / "leaderboards") == 2
    assert {split: store.read(path) for split, path in both.run.record_paths.items()}.keys() == {"val", "test"}
    assert both.run.record.split == "val", "the first of splits"
    for split in ("val", "test"):
        ids = [json.loads(line)["sample_id"] for line in both.run.predictions(split).read_text().splitlines()]
        assert set(ids) == samples[split]


def test_a_val_row_has_a_table_of_its_own_and_says_how_it_was_selected(both):
    val, test = both.records["val"], both.records["test"]
    assert "checkpoint selected on the scored split" in val.notes
    assert not any("selected" in note for note in test.notes)
    rows = rank(both.records.values(), both.tmp_path / "leaderboards")
    assert [(row.head.split, row.rank) for row in rows] == [("test", 1), ("val", 1)], "each alone in its group"
    assert both.shown.index("rrsisd test, protocol native") < both.shown.index("rrsisd val, protocol native")
    assert both.shown.count("selected on val itself") == 1


def test_a_row_on_train_is_not_ranked(tmp_path):
    record = put(tmp_path, split="train", run_id="train")
    (row,) = rank([record], tmp_path)
    assert "training split" in row.reason
    assert row.rank is None


def test_the_costs_of_one_run_are_measured_once(both):
    rows = rank(both.records.values(), both.tmp_path / "leaderboards")
    (line,) = csv.DictReader(io.StringIO(efficiency_file(rows).decode()))
    assert line["n_runs"] == "1"


def test_runs_on_different_splits_are_not_shown_side_by_side(both, tmp_path, capsys):
    shutil.copytree(both.run.path, tmp_path / "one")
    shutil.copytree(both.run.path, tmp_path / "two")
    for path in (tmp_path / "two" / "record").glob("records/*/*/*-val*"):
        path.unlink()
    assert cli.main(["gallery", "one", "--against", "two", "--runs", str(tmp_path)]) == 2
    assert "two was not scored on val" in capsys.readouterr().err


def test_a_missing_split_is_scored_without_training(both, fake_root, tmp_path):
    shutil.copytree(both.tmp_path / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / both.run.path.name
    for path in (run / "record").glob("records/*/*/*-val*"):
        path.unlink()
    shown = bench(tmp_path, fake_root, "splits=[test]", "predictions=save")
    assert "finished already" in shown
    assert [record.split for record in store.read_all(tmp_path / "leaderboards")] == ["test"]
    shown = bench(tmp_path, fake_root, "splits=[test,val]", "predictions=save")
    assert "no score on val" in shown
    assert "train 8" not in shown, "the line with which a training starts"
    again = {record.split: record for record in store.read_all(tmp_path / "leaderboards")}
    assert again["val"].overall == both.records["val"].overall
    assert again["test"].run_id == both.records["test"].run_id


def test_evaluate_scores_another_split_of_a_run(both, tmp_path):
    run = both.run.path
    assert set(evaluate(run, tmp_path / "a")) == {run.name, f"{run.name}-val"}, "as the run was scored"
    (other,) = evaluate(run, tmp_path / "b", "splits=[val]", "protocol=lavt", "controls=false")
    assert other.startswith(f"{run.name}-")
    assert other.endswith("-val")


def test_a_limited_val_split_of_weights_without_a_run_is_not_ranked(both, fake_root, tmp_path):
    bare = shutil.copytree(both.run.best, tmp_path / "weights" / "step-1")
    shutil.copy(both.run.vocabulary, tmp_path / "vocab.txt")
    chosen = [name for name in tiny_overrides(tmp_path, fake_root) if not name.startswith(("train.", "leaderboards"))]
    typed = [f"checkpoint={bare}", "model=lavt", *chosen, f"text.tokenizer={tmp_path / 'vocab.txt'}"]
    typed += [f"leaderboards={tmp_path / 'boards'}", "splits=[val]", "limit.val=2"]
    evaluation.evaluate(parsed(*typed), Terminal(file=io.StringIO(), width=200), typed)
    (record,) = store.read_all(tmp_path / "boards")
    assert (record.split, record.n, record.limit) == ("val", 2, {"val": 2})
    (row,) = rank([record], tmp_path / "boards")
    assert "limited to 2 val" in row.reason


def test_splits_change_no_hash(fake_root, tmp_path):
    one, two = (
        parsed("model=lavt", *tiny_overrides(tmp_path, fake_root), f"splits={value}") for value in ("[test]", "[val]")
    )
    trained = [hashes.train_hash(config, "f" * 64, model_version=1) for config in (one, two)]
    assert len({hashes.eval_hash(config, "a" * 64, METRIC_VERSION) for config in (one, two)}) == len(set(trained)) == 1


@pytest.mark.parametrize("value", ["[]", "[val,val]", "[valid]"])
def test_impossible_splits_are_refused(value):
    with pytest.raises(UserError, match="splits"):
        parsed("model=lavt", f"splits={value}")


def test_tables_are_scored_on_the_split_that_their_paper_prints():
    expected = {"csinet": ["val", "test"], "sgsrf": ["val", "test"], "fianet": ["test"], "mrsnet": ["test"]}
    names = [path.stem for path in (CONF / "ablation").glob("*.yaml")]
    for name in names:
        table = yaml.safe_load((CONF / "ablation" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert table.get("splits", ["test"]) == expected[name.partition("_")[0]], name
    assert compose("ablation=csinet_table9")["splits"] == ["val", "test"]


def test_printed_val_numbers_stand_beside_the_val_rows(tmp_path, capsys, monkeypatch):
    """CSINet's Tables I to III print val and test."""
    monkeypatch.setenv("COLUMNS", "120")
    for split in ("test", "val"):
        put(tmp_path, model="csinet", data="rrsisd", split=split, run_id=split)
    assert cli.main(["leaderboard", "rrsisd", "--with-published", "--leaderboards", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    test, val = shown.split("rrsisd val, protocol native")
    assert "CSINet Table I" in test
    assert "CSINet Table I" in val
    assert "67.70" in val, "CSINet, mIoU on val"
    assert "67.70" not in test


def test_the_id_of_a_run_names_it_in_every_verb(both, monkeypatch, capsys):
    runs, name = str(both.run.path.parent), both.run.path.name
    boards = both.tmp_path / "elsewhere"
    evaluation.evaluate(
        parsed(f"checkpoint={name}", f"runs={runs}", f"leaderboards={boards}", "splits=[val]"),
        Terminal(file=io.StringIO(), width=200),
        ["splits=[val]", f"leaderboards={boards}"],
    )
    assert [record.run_id for record in store.read_all(boards)] == [f"{name}-val"]
    assert cli.main(["show", name, "--runs", runs]) == 0
    assert cli.main(["gallery", name, "--runs", runs]) == 0
    counts = next((both.run.path / "record").rglob(f"{name}-*.csv.gz"))
    monkeypatch.chdir(both.tmp_path)
    assert cli.main(["compare", str(counts), str(counts)]) == 0
    capsys.readouterr()
    assert cli.main(["compare", name, name, "--runs", runs]) == 2  # two splits: two counts files
    assert f"{name} has 2 counts files" in capsys.readouterr().err
    image = next(Path(both.run.config.data.root).rglob("*.jpg"))
    command = ["predict", str(image), "the vehicle", "--run", name, "-o", str(both.tmp_path / "out"), "--json"]
    assert cli.main(command) == 0
    assert json.loads(capsys.readouterr().out)["model"]["run_id"] == name
    assert cli.main([*command[:4], "other-run", *command[5:], "--overwrite"]) == 2
    assert "other-run is not the folder of a run" in capsys.readouterr().err
