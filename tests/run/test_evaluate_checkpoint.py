"""`rrsis-bench evaluate checkpoint=...`: weights that are there already, scored under any protocol."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rrsis_bench.errors import UserError
from rrsis_bench.results.record import store
from rrsis_bench.run import bench as harness
from rrsis_bench.train import checkpoint, frozen
from tests.fakes.config import compose, tiny_overrides
from tests.fakes.image_first import ImageFirst


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


def test_pretrained_weights_that_the_checkpoint_replaces_are_not_fetched(finished, tmp_path):
    """Bug: scoring a run where there is no network failed on Swin's weights, which its checkpoint holds."""
    _, _, run_dir = finished
    missing = ("vision.weights=/nowhere/swin.pth", "text.weights=/nowhere")
    evaluate(finished, f"checkpoint={run_dir}", *missing, f"results.root={tmp_path}")
    (record,) = store.read_all(tmp_path)
    assert record.init_weights == dict.fromkeys(("swin", "bert"), "a file that is not here"), "and no path"


def test_another_protocol_is_another_record(finished):
    tmp_path, _, run_dir = finished
    evaluate(finished, f"checkpoint={run_dir}", "protocol=lavt")
    names = {record.protocol.name for record in store.read_all(tmp_path / "leaderboards")}
    assert names == {"native", "lavt"}


def test_frozen_parts_are_those_of_the_run(finished, tmp_path, monkeypatch):
    """A run of a model with a frozen part; its checkpoint is scored on the same, and refused on another one."""
    _, root, _ = finished
    shown = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(harness.build, "build_model", lambda _: ImageFirst())
    overrides = ["model=lavt", *tiny_overrides(tmp_path, root), "controls=false", "train.freeze=[head.*]"]
    harness.bench(compose(*overrides), shown)
    assert "backbone" in shown.file.getvalue(), "the table of what is trained"
    (run_dir,) = (path.parent for path in (tmp_path / "runs").glob("*/manifest.json"))
    (record,) = store.read_all(tmp_path / "leaderboards")
    best = checkpoint.best_of(run_dir)
    assert record.weights_sha256 == frozen.weights_sha256(best) != checkpoint.sha256(best / "model.safetensors")
    assert record.efficiency.params_total - record.efficiency.params_trainable == 240 + 9

    config = compose(*overrides, f"checkpoint={run_dir}")
    harness.evaluate_checkpoint(config, shown)
    records = store.read_all(tmp_path / "leaderboards")
    assert len(records) == 2
    assert {entry.weights_sha256 for entry in records} == {record.weights_sha256}
    assert {entry.value("miou") for entry in records} == {record.value("miou")}
    monkeypatch.setattr(harness.build, "build_model", lambda _: ImageFirst(seed=1))
    with pytest.raises(UserError, match="frozen part 'backbone', which has other weights here"):
        harness.evaluate_checkpoint(config, shown)
    with monkeypatch.context() as patch:
        patch.setattr(harness.build, "build_model", lambda _: ImageFirst())
        harness.bench(compose(*overrides, "force=true", "trainer.full_checkpoints=true"), shown)
    harness.evaluate_checkpoint(config, shown)  # the frozen part comes with the checkpoint now


def test_weights_that_changed_while_they_were_frozen_are_found(finished, tmp_path, monkeypatch):
    """When the best checkpoint is loaded after training; a record of it could not be repeated."""

    class Drifting(ImageFirst):
        def encode_image(self, views):
            self.backbone.conv.weight.data += 1e-3
            return super().encode_image(views)

    monkeypatch.setattr(harness.build, "build_model", lambda _: Drifting())
    config = compose("model=lavt", *tiny_overrides(tmp_path, finished[1]), "controls=false")
    with pytest.raises(UserError, match="frozen part 'backbone', which has other weights here"):
        harness.bench(config, Console(file=io.StringIO(), width=200))


def test_an_unfinished_run_and_a_foreign_vocabulary_are_refused(finished, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "manifest.json").write_text('{"status": "running"}')
    with pytest.raises(UserError, match="not finished"):
        evaluate(finished, f"checkpoint={tmp_path}")
    with pytest.raises(UserError, match="text.tokenizer=hub:"):
        evaluate(finished, "checkpoint=official:/nowhere/file.pth")
    with pytest.raises(UserError, match="checkpoint=official:"):
        evaluate(finished)
