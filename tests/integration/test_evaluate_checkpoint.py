"""`rrsis-bench evaluate checkpoint=...`: weights that are there already, scored under any protocol."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rrsis_bench import bench as harness
from rrsis_bench.errors import UserError
from rrsis_bench.results import store
from tests.fakes.config import compose, tiny_overrides


@pytest.fixture(scope="module")
def finished(fake_root, tmp_path_factory):
    """A finished narrow LAVT: (its folder, the dataset's root, its run folder)."""
    tmp_path = tmp_path_factory.mktemp("finished")
    config = compose("model=lavt", *tiny_overrides(tmp_path, fake_root))
    harness.bench(config, Console(file=io.StringIO(), width=200))
    (manifest,) = (tmp_path / "runs").glob("*/manifest.json")
    return tmp_path, fake_root, manifest.parent


def evaluate(finished, *overrides: str) -> None:
    tmp_path, root, _ = finished
    config = compose("model=lavt", *tiny_overrides(tmp_path, root), *overrides)
    harness.evaluate_checkpoint(config, Console(file=io.StringIO(), width=200))


def test_a_runs_checkpoint_gives_the_runs_integers(finished):
    tmp_path, _, run_dir = finished
    evaluate(finished, f"checkpoint={run_dir}")
    records = {record.run_id: record for record in store.read_all(tmp_path / "leaderboards")}
    assert set(records) > {run_dir.name}
    (again,) = [record for record in records.values() if record.run_id != run_dir.name]
    folder = tmp_path / "leaderboards" / "records" / "rrsisd" / "lavt"
    assert again.weights_sha256 == records[run_dir.name].weights_sha256
    assert store.read_counts(folder / f"{again.run_id}.json") == store.read_counts(folder / f"{run_dir.name}.json")


def test_another_protocol_is_another_record(finished):
    tmp_path, _, run_dir = finished
    evaluate(finished, f"checkpoint={run_dir}", "protocol=lavt")
    names = {record.protocol.name for record in store.read_all(tmp_path / "leaderboards")}
    assert names == {"native", "lavt"}


def test_an_unfinished_run_and_a_foreign_vocabulary_are_refused(finished, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "manifest.json").write_text('{"status": "running"}')
    with pytest.raises(UserError, match="not finished"):
        evaluate(finished, f"checkpoint={tmp_path}")
    with pytest.raises(UserError, match="size.tokenizer=hub:"):
        evaluate(finished, "checkpoint=official:/nowhere/file.pth")
    with pytest.raises(UserError, match="checkpoint=official:"):
        evaluate(finished)
