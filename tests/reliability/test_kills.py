"""SIGKILL at random moments, also while checkpoints are written: no torn file, and the integers of an unkilled run."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from rrsis_bench.run import __main__ as run
from rrsis_bench.train import checkpoint
from tests.fakes.config import tiny_overrides

KILLS = 20
CHANGES = (
    "model=lavt",
    "train.epochs=6",
    "train.eval_every=2",
    "trainer.eval_batch_size=1",
    "trainer.checkpoint_every=1",
)


def bench(overrides: list[str], log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os._exit(run.main(overrides))


def integers(folder: Path) -> bytes:
    (path,) = (folder / "leaderboards" / "records").glob("*/*/*.csv.gz")
    return path.read_bytes()


def start(overrides: list[str], log: Path) -> multiprocessing.process.BaseProcess:
    """Start a run in a forked process, which spares the imports."""
    process = multiprocessing.get_context("fork").Process(target=bench, args=(overrides, log))
    process.start()
    return process


def stage(folder: Path) -> str:
    """What the run has reached: nothing, training or evaluation."""
    (found,) = list((folder / "runs").glob("lavt-*")) or [None]
    if found is None:
        return "nothing"
    return "evaluation" if (found / "evaluation").is_dir() else "training"


@pytest.fixture(scope="module")
def straight(fake_root, tmp_path_factory):
    """The integers of a run that was never killed, and its seconds."""
    folder = tmp_path_factory.mktemp("straight")
    started = time.monotonic()
    process = start([*tiny_overrides(folder, fake_root), *CHANGES], folder / "log")
    process.join(600)
    assert process.exitcode == 0, (folder / "log").read_text()
    return integers(folder), time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("where", ["training", "evaluation"])
def test_killed_twenty_times(fake_root, tmp_path, monkeypatch, straight, where):
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    expected, seconds = straight
    draw, kills, finished = random.Random(where), 0, 0
    while kills < KILLS:
        folder = tmp_path / str(finished)
        overrides = [*tiny_overrides(folder, fake_root), *CHANGES]
        process = start(overrides, tmp_path / "log")
        while process.is_alive() and stage(folder) != where:
            time.sleep(0.001)
        process.join(draw.uniform(0, seconds / 2 if where == "training" else seconds / 20))
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
            process.join(60)
            for path in folder.glob("runs/lavt-*/checkpoints/step-*"):
                assert checkpoint.check(path) is None, "a checkpoint is whole or absent"
        else:
            assert process.exitcode == 0, (tmp_path / "log").read_text()
            assert integers(folder) == expected
            finished += 1
    process = start(overrides, tmp_path / "log")
    process.join(600)
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    assert integers(folder) == expected
    assert not list(tmp_path.rglob("evaluation")), "the scored batches go with the record"
