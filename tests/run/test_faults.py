"""What is not needed for the scores never costs them: gallery, costs, event log, Weights & Biases."""

from __future__ import annotations

import io
import json

import pytest
import torch

from rrsis_bench.console import Terminal
from rrsis_bench.results.record import store
from rrsis_bench.run import bench, record
from rrsis_bench.train import loop
from rrsis_bench.train.events import EventLog
from rrsis_bench.train.loop import OutOfMemory
from tests.fakes.config import parsed, tiny_overrides


def run(tmp_path, root, *overrides):
    out = io.StringIO()
    short = ("model=lavt", "train.epochs=1", "controls=false")
    bench.bench(parsed(*tiny_overrides(tmp_path, root), *short, *overrides), Terminal(file=out, width=300))
    return out.getvalue()


def status(tmp_path):
    (path,) = (tmp_path / "runs").glob("*/manifest.json")
    return json.loads(path.read_text())["status"]


def test_gallery_and_costs_that_fail_leave_the_row(fake_root, tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ZeroDivisionError("nothing to divide")

    monkeypatch.setattr(bench.gallery, "write", fail)
    monkeypatch.setattr(record, "measure", fail)
    shown = run(tmp_path, fake_root)
    assert "costs were not measured: nothing to divide" in shown
    assert "gallery was not drawn: nothing to divide" in shown
    assert "rrsis-bench gallery" in shown
    (row,) = store.read_all(tmp_path / "leaderboards")
    assert row.status == "finished"
    assert row.efficiency.gflops is None
    assert status(tmp_path) == "finished"


def test_out_of_memory_is_a_status_of_its_own(fake_root, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(loop.SegmentationLoss, "__call__", full)
        with pytest.raises(OutOfMemory, match=r"train\.batch_size=4"):
            run(tmp_path, fake_root)
    assert status(tmp_path) == "oom"
    assert not (tmp_path / "leaderboards").exists()
    run(tmp_path, fake_root)
    assert status(tmp_path) == "finished"


def test_a_full_disk_ends_the_event_log_only(tmp_path):
    out = io.StringIO()
    log = EventLog(tmp_path / "events.jsonl", None, Terminal(file=out, width=300))

    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    log._file = Full()
    log.write("train", step=1, loss=0.5)
    log.write("train", step=2, loss=0.5)
    log.close()
    assert out.getvalue().count("No space left on device") == 1
