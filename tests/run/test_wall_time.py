"""The time of a run covers every process that worked on it, also the killed ones."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

import pytest

from rrsis_bench import cli
from rrsis_bench.results.record import store
from rrsis_bench.run import __main__ as run
from rrsis_bench.run import bench
from rrsis_bench.run.folder import RunFolder
from tests.fakes.config import tiny_overrides


@pytest.fixture
def stopped(fake_root, tmp_path, monkeypatch):
    """The overrides of a run that was stopped in its second epoch, and its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    overrides = [*tiny_overrides(tmp_path, fake_root), "model=lavt", "controls=false"]
    validate = bench.predict_and_count

    def stop(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bench, "predict_and_count", stop)
        assert run.main(overrides) == 143
    (path,) = (tmp_path / "runs").glob("lavt-*")
    return overrides, RunFolder(path)


def change(folder: RunFolder, **values) -> None:
    path = folder.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_stopped_run_counts_its_earlier_seconds(stopped, capsys):
    overrides, folder = stopped
    first = folder.manifest.wall_s
    assert first > 0
    change(folder, wall_s=5000 + first)
    assert run.main(overrides) == 0
    record = folder.record
    assert record.wall_s is not None
    assert 5000 + first < record.wall_s < 6000
    assert folder.manifest.wall_s >= record.wall_s - 0.05, "the record is rounded to a tenth"
    assert folder.manifest.train_s is not None
    assert 5000 + first < folder.manifest.train_s < record.wall_s + 0.05
    assert len(record.attempts) == 2
    published = store.read(next((folder.path.parents[1] / "leaderboards" / "records").glob("*/*/*.json")))
    assert published.wall_s == record.wall_s
    page = (folder.path.parents[1] / "leaderboards" / "index.html").read_text()
    assert f"{record.wall_s:.0f} s in 2 starts" in page
    capsys.readouterr()
    assert cli.main(["show", folder.path.name]) == 0
    assert "time of all starts: 1:2" in capsys.readouterr().out

    train_s = folder.manifest.train_s
    assert run.main([f"checkpoint={folder.path}", "protocol=lavt", "trainer=cpu"], verb="evaluate") == 0
    (other,) = [path for path in folder.path.parent.glob("lavt-*") if path != folder.path]
    scored = RunFolder(other).record.wall_s
    assert scored is not None
    assert train_s < scored < train_s + 900, "training and this evaluation, without the first evaluation"


def test_a_killed_process_counts_until_its_last_file(stopped):
    """It could not write its time: the manifest says `running`."""
    overrides, folder = stopped
    now = datetime.now(UTC)
    change(folder, status="running", wall_s=100.0, started_utc=(now - timedelta(hours=2)).isoformat(timespec="seconds"))
    for path in folder.path.rglob("*"):
        os.utime(path, (now.timestamp() - 5000, now.timestamp() - 5000))
    os.utime(folder.events, (now.timestamp() - 3600, now.timestamp() - 3600))
    os.utime(folder.path, (now.timestamp() - 5000, now.timestamp() - 5000))
    assert folder.spent_s(folder.manifest.train_hash) == pytest.approx(3700, abs=2)
    assert folder.spent_s("another training") == 0
    assert run.main(overrides) == 0
    assert folder.record.wall_s is not None
    assert 3698 < folder.record.wall_s < 4500


def test_a_manifest_without_the_new_fields_is_read(stopped):
    _, folder = stopped
    path = folder.path / "manifest.json"
    values = json.loads(path.read_text())
    del values["wall_s"], values["started_utc"]
    path.write_text(json.dumps(values))
    assert folder.spent_s(folder.manifest.train_hash) == 0
