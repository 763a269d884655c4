"""SIGTERM and Ctrl-C stop a real run in order, and the same command goes on to the result of an unstopped one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrsis_bench.files import sha256_file
from rrsis_bench.run import __main__ as run
from rrsis_bench.train import checkpoint
from tests.fakes.config import tiny_overrides

PATIENCE_S = 120  # a busy machine; nothing below depends on how long anything takes
EPOCHS = 16


def trained_steps(runs: Path) -> list[int]:
    lines = [line for path in runs.glob("*/events.jsonl") for line in path.read_text().splitlines()]
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [event["step"] for event in found if event["event"] == "train"]


def wait_for_step(runs: Path, step: int, alive) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while max(trained_steps(runs), default=0) < step:
        assert alive(), "the run ended before the signal"
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.01)


def status(runs: Path) -> str:
    (path,) = runs.glob("*/manifest.json")
    return json.loads(path.read_text())["status"]


def command(tmp_path: Path, root: Path) -> list[str]:
    changes = ["model=lavt", f"train.epochs={EPOCHS}", f"train.eval_every={EPOCHS}", "trainer.log_every=1"]
    return [*tiny_overrides(tmp_path, root), *changes, "controls=false"]


def to_the_end(overrides: list[str]) -> None:
    assert run.main(overrides) == 0


def integers(tmp_path: Path) -> bytes:
    (path,) = (tmp_path / "leaderboards" / "records").glob("*/*/*.csv.gz")
    return path.read_bytes()


def test_stopped_twice_and_finished(fake_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    overrides, runs = command(tmp_path, fake_root), tmp_path / "runs"

    # From a shell, with loader processes: SIGTERM.
    first = subprocess.Popen(
        [sys.executable, "-m", "rrsis_bench.run", *overrides, "trainer.num_workers=2"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    wait_for_step(runs, 3, lambda: first.poll() is None)
    first.send_signal(signal.SIGTERM)
    shown, _ = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 143, shown
    assert "Stopped by SIGTERM. Run the same command again to continue" in shown
    assert "Traceback" not in shown
    assert status(runs) == "interrupted"
    (run_dir,) = runs.glob("lavt-*")
    kept = checkpoint.latest(run_dir / "checkpoints")[0]
    stopped_at = max(trained_steps(runs))
    assert 3 <= kept.step == stopped_at < 2 * EPOCHS
    assert not (tmp_path / "leaderboards").exists()

    # The same again in a forked process, which spares the imports: Ctrl-C.
    second = multiprocessing.get_context("fork").Process(target=to_the_end, args=(overrides,))
    second.start()
    wait_for_step(runs, stopped_at + 3, second.is_alive)
    assert second.pid is not None
    os.kill(second.pid, signal.SIGINT)
    second.join(PATIENCE_S)
    assert second.exitcode == 130
    assert status(runs) == "interrupted"

    to_the_end(overrides)
    assert status(runs) == "finished"
    assert trained_steps(runs) == list(range(1, 2 * EPOCHS + 1)), "no step was lost or done twice"

    straight = tmp_path / "straight"
    to_the_end(command(straight, fake_root))
    assert integers(straight) == integers(tmp_path)
    weights = [sha256_file(path) for path in tmp_path.rglob(f"step-{2 * EPOCHS:08d}/model.safetensors")]
    assert len(weights) == 2
    assert len(set(weights)) == 1, "bit for bit the weights of the run that was never stopped"


def test_a_stop_before_the_first_step_is_kept_too(fake_root, tmp_path, monkeypatch):
    """A signal during the preparations takes effect at the first step, and nothing is lost by it."""
    from rrsis_bench.run import bench

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    build = bench._build

    def signalled(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*args)

    overrides = [*tiny_overrides(tmp_path, fake_root), "model=lavt", "controls=false"]
    with monkeypatch.context() as patch:
        patch.setattr(bench, "_build", signalled)
        with pytest.raises(SystemExit) as caught:
            run.main(overrides)
    assert caught.value.code == 143
    assert status(tmp_path / "runs") == "interrupted"
    to_the_end(overrides)
    assert status(tmp_path / "runs") == "finished"
