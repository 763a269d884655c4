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

from rrsis_bench.data.formats import open_split
from rrsis_bench.files import sha256_file
from rrsis_bench.run import __main__ as run
from rrsis_bench.train import checkpoint
from tests.fakes.config import tiny_overrides

PATIENCE_S = 120  # a busy machine; nothing below depends on how long anything takes
EPOCHS = 10


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


def in_a_process(overrides: list[str]) -> None:
    os._exit(run.main(overrides))


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
    second = multiprocessing.get_context("fork").Process(target=in_a_process, args=(overrides,))
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


def test_a_stop_during_the_preparations_acts_at_once(fake_root, tmp_path, monkeypatch, capsys):
    from rrsis_bench.run import bench

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])

    def signalled(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal acts before the next line")

    overrides = [*tiny_overrides(tmp_path, fake_root), "model=lavt", "controls=false"]
    with monkeypatch.context() as patch:
        patch.setattr(bench, "_build", signalled)
        assert run.main(overrides) == 143
    assert "Stopped by SIGTERM. Run the same command again to continue" in capsys.readouterr().out
    assert status(tmp_path / "runs") == "interrupted"
    to_the_end(overrides)
    assert status(tmp_path / "runs") == "finished"


def test_a_stop_in_evaluation_acts_at_once_and_keeps_the_scored_batches(fake_root, tmp_path, monkeypatch):
    from rrsis_bench.eval import evaluate

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    changes = ["model=lavt", "train.epochs=1", "train.eval_every=1", "trainer.eval_batch_size=1"]
    overrides = [*tiny_overrides(tmp_path, fake_root), *changes]
    counted = evaluate.count_pixels

    def signalled(sample, *masks):
        if sample.sample_id == last.sample_id and not stopped:
            stopped.append(sample.sample_id)
            os.kill(os.getpid(), signal.SIGINT)
        predicted.append(sample.sample_id)
        return counted(sample, *masks)

    test = open_split("rrsisd", fake_root, "test")
    last, stopped, predicted = test[len(test) - 1], [], []
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "count_pixels", signalled)
        assert run.main(overrides) == 130
        assert status(tmp_path / "runs") == "interrupted"
        (kept,) = (tmp_path / "runs").glob("*/evaluation/*.jsonl")
        assert len(kept.read_text().splitlines()) == len(test)  # the identity, and all samples but the last
        predicted.clear()
        to_the_end(overrides)
    names = {test[index].sample_id for index in range(len(test))}
    assert predicted[0] == last.sample_id, "only the last sample of the real expressions is predicted again"
    assert set(predicted) == names
    assert not kept.parent.exists()

    straight = tmp_path / "straight"
    to_the_end([*tiny_overrides(straight, fake_root), *changes])
    assert integers(straight) == integers(tmp_path)
