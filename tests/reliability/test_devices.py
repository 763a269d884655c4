"""Whole runs on several devices by the front door: equal integers at any number, and a killed process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rrsis_bench.run import __main__ as front
from rrsis_bench.run.overview import summaries
from tests.fakes.config import tiny_overrides
from tests.fakes.world import in_world

CHANGES = ("model=lavt", "trainer.eval_batch_size=1", "limit.test=3", "trainer.checkpoint_every=1")


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def command(overrides: list[str], log: Path) -> None:
    with log.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file  # pytest has its own
        code = front.main(overrides)
        file.flush()
        os._exit(code)


def start(overrides: list[str], log: Path) -> multiprocessing.process.BaseProcess:
    """Start the command in a forked process, which spares the imports."""
    process = multiprocessing.get_context("fork").Process(target=command, args=(overrides, log))
    process.start()
    return process


def go(overrides: list[str], log: Path) -> int:
    process = start(overrides, log)
    process.join(400)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def integers(folder: Path, name: str) -> bytes:
    (path,) = (folder / name).glob("records/*/*/*.csv.gz")
    return path.read_bytes()


def worker(parent: int, rank: int) -> int | None:
    """The process id of a rank, whose parent is `parent`."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                names = (entry / "environ").read_bytes().split(b"\0")
                if f"RANK={rank}".encode() in names:
                    return int(entry.name)
        except OSError:
            continue
    return None


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_with_a_message_and_it_continues(fake_root, tmp_path, rank):
    overrides = [*tiny_overrides(tmp_path, fake_root), *CHANGES, "train.epochs=40", "trainer.devices=2"]
    process = start(overrides, tmp_path / "log")
    ends = time.monotonic() + 200
    while time.monotonic() < ends and not list(tmp_path.glob("runs/lavt-*/checkpoints/step-*")):
        time.sleep(0.05)
    assert process.pid is not None
    found = worker(process.pid, rank)
    assert found is not None, (tmp_path / "log").read_text()
    os.kill(found, signal.SIGKILL)
    process.join(60)
    text = (tmp_path / "log").read_text()
    assert process.exitcode == 2, text
    assert "The same command continues from the last checkpoint" in " ".join(text.split()), text
    assert "Traceback" not in text
    if rank:
        # Process 0 notices the lost connection, or the launcher stops it first.
        assert summaries(tmp_path / "runs")[0]["status"] in ("failed", "interrupted")
    again = [*overrides, "trainer.devices=1"]
    assert go(again, tmp_path / "again") == 0, (tmp_path / "again").read_text()
    assert "Resuming at step" in (tmp_path / "again").read_text()


@pytest.mark.slow
def test_a_signal_to_the_command_stops_all_behind_a_checkpoint(fake_root, tmp_path):
    overrides = [*tiny_overrides(tmp_path, fake_root), *CHANGES, "train.epochs=400", "trainer.devices=2"]
    process = start(overrides, tmp_path / "log")
    ends = time.monotonic() + 200
    while time.monotonic() < ends and not list(tmp_path.glob("runs/lavt-*/checkpoints/step-*")):
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    text = (tmp_path / "log").read_text()
    assert process.exitcode == 143, text
    assert text.count("Stopped by SIGTERM") == 1, text
    assert summaries(tmp_path / "runs")[0]["status"] == "interrupted"


@pytest.mark.slow
def test_any_number_of_devices_scores_the_same_integers(fake_root, tmp_path):
    """Trained on two processes by the front door; scored again on one and, as torchrun starts them, on three."""
    overrides = [*tiny_overrides(tmp_path, fake_root), *CHANGES]
    assert go([*overrides, "trainer.devices=2"], tmp_path / "log") == 0, (tmp_path / "log").read_text()
    (run,) = (tmp_path / "runs").glob("lavt-*")
    expected = integers(tmp_path, "leaderboards")

    def evaluate(devices: int) -> int:
        board = tmp_path / f"board{devices}"
        return front.main(
            [f"checkpoint={run}", f"leaderboards={board}", f"trainer.devices={devices}", "trainer=cpu"], "evaluate"
        )

    assert in_world(3, lambda _: evaluate(3), tmp_path / "logs") == [0, 0, 0]
    assert integers(tmp_path, "board3") == expected
    assert evaluate(1) == 0
    assert integers(tmp_path, "board1") == expected
