"""A run of a sweep that fails never ends the others, and the failed ones can be run again alone."""

from __future__ import annotations

import json
import sys

import pytest

from rrsis_bench import cli
from rrsis_bench.run import __main__ as run
from rrsis_bench.run import bench
from rrsis_bench.train import loop
from tests.fakes.config import tiny_overrides


@pytest.fixture
def overrides(fake_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    monkeypatch.setenv("COLUMNS", "250")
    return [*tiny_overrides(tmp_path, fake_root), "model=lavt", "controls=false", "train.epochs=1"]


def statuses(tmp_path):
    found = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/manifest.json")]
    return sorted(manifest["status"] for manifest in found)


def test_the_other_runs_go_on(overrides, tmp_path, monkeypatch, capsys):
    build = bench._build

    def broken_at_seed_1(plan, *args):
        if plan.config.seed == 1:
            raise ZeroDivisionError("a defect of this model")
        return build(plan, *args)

    with monkeypatch.context() as patch:
        patch.setattr(bench, "_build", broken_at_seed_1)
        sweep = [*overrides, "-m", "seed=0,1", "train.batch_size=4,0"]
        assert run.main(sweep) == 1
    shown = capsys.readouterr().out
    table = shown[shown.rindex("Sweep") :]
    assert "1 of 4 runs are finished" in table
    assert table.count("train.batch_size") >= 4
    assert "ZeroDivisionError: a defect of this model" in table
    assert statuses(tmp_path) == ["failed", "finished"]

    assert cli.main(["runs"]) == 0
    assert "failed" in capsys.readouterr().out
    assert cli.main(["runs", "--json"]) == 0
    assert [entry["reason"] for entry in json.loads(capsys.readouterr().out)].count("a defect of this model") == 1
    assert cli.main(["bench", "--rerun", "failed"]) == 0
    again = capsys.readouterr().out
    assert "1 of 1 runs are finished" in again
    assert statuses(tmp_path) == ["finished"] * 2
    assert cli.main(["bench", "--rerun", "failed"]) == 0
    assert "No run in runs" in capsys.readouterr().out


def test_nan_and_memory_are_named_in_the_closing_table(overrides, monkeypatch, capsys):
    whole = loop.Trainer._loss

    def failing(self, batch, parts):
        if self.seed == 0:
            self._abort_nonfinite("loss", float("nan"), parts)
        if self.seed == 1:
            raise MemoryError
        return whole(self, batch, parts)

    monkeypatch.setattr(loop.Trainer, "_loss", failing)
    assert run.main([*overrides, "-m", "seed=0,1,2"]) == 1
    table = capsys.readouterr().out.rpartition("Sweep")[2]
    assert "The loss became nan" in table
    assert "train.batch_size=4" in table
    assert "1 of 3 runs are finished" in table
    assert cli.main(["runs", "--json"]) == 0
    found = {entry["run_id"].split("-")[3]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {seed: entry["status"] for seed, entry in found.items()} == {"s0": "nan", "s1": "oom", "s2": "finished"}


def test_one_run_shows_its_own_scores_and_files(overrides, tmp_path, capsys):
    assert run.main(overrides) == 0
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "runs").glob("lavt-*")
    assert f"{folder.name} on rrsisd test, n = 4" in shown
    for name in ("best checkpoint", "record", "gallery"):
        assert f"{name}: " in shown
    assert cli.main(["show", folder.name]) == 0
    again = capsys.readouterr().out
    assert "validation" in again
    assert "start 1: " in again
    assert f"{folder.name} on rrsisd test, n = 4" in again
    assert cli.main(["show", folder.name[:-1]]) == 2
    assert folder.name in capsys.readouterr().err
