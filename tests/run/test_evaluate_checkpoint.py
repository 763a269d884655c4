"""`rrsis-bench evaluate checkpoint=...`: weights that exist already, scored under any protocol."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file
from rrsis_bench.results.board import rows as board
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.run import bench as harness
from rrsis_bench.run import evaluate as evaluation
from rrsis_bench.run import model as building
from rrsis_bench.run.data import OpenData
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.train import frozen
from tests.fakes.config import parsed, tiny_overrides
from tests.fakes.image_first import ImageFirst

TRAINED = ("model=lavt", "seed=3", "limit.train=4", "protocol.selection_split=test", "train.epochs=1")


@pytest.fixture(scope="module")
def finished(fake_root, tmp_path_factory) -> SimpleNamespace:
    """A narrow LAVT that was trained on 4 samples with seed 3 and selected on test; ``pretrained`` backbones."""
    tmp_path = tmp_path_factory.mktemp("finished")
    overrides = [*TRAINED, *(name for name in tiny_overrides(tmp_path, fake_root) if "epochs" not in name)]
    harness.bench(parsed(*overrides), Terminal(file=io.StringIO(), width=200))
    (manifest,) = (tmp_path / "runs").glob("*/manifest.json")
    return SimpleNamespace(tmp_path=tmp_path, run=RunFolder.open(manifest.parent), overrides=overrides)


def evaluate(leaderboards: Path, *overrides: str) -> Record:
    """Evaluate with nothing but these overrides; returns the only record in `leaderboards`."""
    typed = [*overrides, f"leaderboards={leaderboards}"]
    evaluation.evaluate(parsed(*typed), Terminal(file=io.StringIO(), width=200), typed)
    (record,) = store.read_all(leaderboards)
    return record


def test_a_bare_command_takes_everything_of_the_training_from_the_run(finished, tmp_path):
    own = finished.run.record
    record = evaluate(tmp_path, f"checkpoint={finished.run.path}")
    assert (record.seed, record.limit, record.selection_split) == (3, {"train": 4}, "test")
    assert (record.epochs, record.variant, record.selection_metric) == (1, own.variant, "miou")
    assert "limit.train=4" in record.variant
    assert (record.model, record.size, record.data) == ("lavt", "tiny", "rrsisd")
    assert (record.train_hash, record.eval_hash, record.run_id) == (own.train_hash, own.eval_hash, own.run_id)
    assert (record.overall, record.control, record.weights_sha256) == (own.overall, own.control, own.weights_sha256)
    (row,) = board.rank([record], tmp_path)
    assert row.rank is None
    assert "selected on test" in row.reason
    assert "limited to 4 train" in row.reason
    assert finished.run.record == own, "the run's own record stays"


def test_another_protocol_is_another_record_of_the_same_training(finished, tmp_path):
    record, own = evaluate(tmp_path, f"checkpoint={finished.run.path}", "protocol=lavt"), finished.run.record
    assert record.protocol.name == "lavt"
    assert (record.selection_split, record.protocol.selection_metric) == ("test", "miou"), "selected before"
    assert (record.seed, record.train_hash) == (3, own.train_hash)
    assert record.eval_hash != own.eval_hash
    assert record.run_id.startswith(own.run_id)
    folder = RunFolder.open(finished.run.path.with_name(record.run_id))
    assert (folder.record, folder.status, folder.config.protocol.name) == (record, "finished", "lavt")


def test_a_checkpoint_that_was_not_selected_says_so(finished, tmp_path):
    other = shutil.copytree(finished.run.best, finished.run.best.with_name("step-00000009"))
    try:
        record = evaluate(tmp_path, f"checkpoint={other}")
    finally:
        shutil.rmtree(other)
    assert (record.seed, record.selection_split, record.selection_metric) == (3, None, None)
    assert record.train_hash != finished.run.record.train_hash


def test_pretrained_weights_that_the_checkpoint_replaces_are_not_fetched(finished, tmp_path):
    """Bug: scoring a run without a network failed on Swin's weights, which its checkpoint holds."""
    run = shutil.copytree(finished.run.path, tmp_path / "runs" / finished.run.path.name)
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("weights: random", "weights: /nowhere/swin.pth"))
    record = evaluate(tmp_path / "leaderboards", f"checkpoint={run}")
    assert set(record.init_weights.values()) == {"a file that is not here"}, "and no path"


@pytest.mark.parametrize("override", ["seed=0", "train.epochs=3", "model=fianet", "limit.train=2"])
def test_what_the_training_has_fixed_is_refused(finished, tmp_path, override):
    with pytest.raises(UserError, match=f"{override} does not apply"):
        evaluate(tmp_path, f"checkpoint={finished.run.path}", override)


def test_a_checkpoint_outside_a_run_needs_its_model_and_knows_no_seed(finished, tmp_path, fake_root):
    bare = shutil.copytree(finished.run.best, tmp_path / "weights" / "step-00000001")
    vocabulary = tmp_path / "vocab.txt"
    shutil.copy(finished.run.vocabulary, vocabulary)
    chosen = [name for name in tiny_overrides(tmp_path, fake_root) if not name.startswith(("train.", "leaderboards"))]
    typed = [f"checkpoint={bare}", "model=lavt", *chosen]
    with pytest.raises(UserError, match=r"text\.tokenizer=wordpiece"):
        evaluate(tmp_path / "leaderboards", *typed)
    record = evaluate(tmp_path / "leaderboards", *typed, f"text.tokenizer={vocabulary}")
    assert (record.seed, record.epochs, record.limit, record.selection_split) == (None, None, None, None)
    assert record.overall == finished.run.record.overall
    with pytest.raises(UserError, match="does not fit model=fianet"):
        evaluate(tmp_path / "other", *typed, f"text.tokenizer={vocabulary}", "model=fianet")
    with pytest.raises(UserError, match="nowhere"):
        evaluate(tmp_path / "other", "checkpoint=nowhere", *typed[1:], f"text.tokenizer={vocabulary}")


def test_evaluate_without_a_checkpoint_is_a_message(tmp_path):
    with pytest.raises(UserError, match="evaluate needs checkpoint="):
        evaluate(tmp_path)


def test_frozen_parts_are_those_of_the_run(tmp_path, fake_root, monkeypatch):
    """The checkpoint of a model with a frozen part is scored with the same part, and refused with another one."""
    shown = Terminal(file=io.StringIO(), width=200)
    build = [lambda _: ImageFirst()]
    for module in (harness, building):
        monkeypatch.setattr(module, "build_model", lambda config: build[0](config))
    overrides = ["model=lavt", *tiny_overrides(tmp_path, fake_root), "controls=false", "train.freeze=[head.*]"]
    harness.bench(parsed(*overrides), shown)
    assert "backbone" in shown.file.getvalue(), "the table of what is trained"
    (run_dir,) = (path.parent for path in (tmp_path / "runs").glob("*/manifest.json"))
    run = RunFolder.open(run_dir)
    record = run.record
    assert record.weights_sha256 == frozen.weights_sha256(run.best)
    assert record.weights_sha256 != sha256_file(run.best / "model.safetensors")
    assert record.efficiency.params_total - record.efficiency.params_trainable == 240 + 9

    again = evaluate(tmp_path / "again", f"checkpoint={run_dir}")
    assert (again.weights_sha256, again.overall) == (record.weights_sha256, record.overall)
    build[0] = lambda _: ImageFirst(seed=1)
    with pytest.raises(UserError, match="frozen part 'backbone', which has other weights here"):
        evaluate(tmp_path / "other", f"checkpoint={run_dir}")
    build[0] = lambda _: ImageFirst()
    harness.bench(parsed(*overrides, "force=true", "trainer.full_checkpoints=true"), shown)
    build[0] = lambda _: ImageFirst(seed=1)
    evaluate(tmp_path / "other", f"checkpoint={run_dir}")  # the frozen part comes with the checkpoint now


def test_weights_that_changed_while_they_were_frozen_are_found(fake_root, tmp_path, monkeypatch):
    """When the best checkpoint is loaded after training; a record of it could not be repeated."""

    class Drifting(ImageFirst):
        def encode_image(self, views):
            self.backbone.conv.weight.data += 1e-3
            return super().encode_image(views)

    monkeypatch.setattr(harness, "build_model", lambda _: Drifting())
    config = parsed("model=lavt", *tiny_overrides(tmp_path, fake_root), "controls=false")
    with pytest.raises(UserError, match="frozen part 'backbone', which has other weights here"):
        harness.bench(config, Terminal(file=io.StringIO()))


def test_probes_join_the_record_of_a_finished_run_and_change_no_hash(finished, tmp_path):
    folder = shutil.copytree(finished.run.path, tmp_path / "runs" / finished.run.path.name)
    own = finished.run.record
    assert own.probes is None
    record = evaluate(tmp_path / "leaderboards", f"checkpoint={folder}", "probes=[flip,{name: typo, k: 2},negation]")
    assert (record.run_id, record.train_hash, record.eval_hash) == (own.run_id, own.train_hash, own.eval_hash)
    assert (record.overall, record.settings) == (own.overall, own.settings)
    assert list(record.probes) == ["flip", "typo"], "the truth of a negation is not known here"
    assert record.probes["flip"].n == 3 * record.n
    assert record.probes["typo"].predictions == 2 * record.n
    run = RunFolder.open(folder)
    assert run.record.probes == record.probes
    assert run.probes("test").is_file()
    assert (tmp_path / "leaderboards" / "rrsisd_probes.csv").is_file()


def test_a_wrong_probe_stops_before_the_data_is_opened(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(OpenData, "open", lambda *_: pytest.fail("the data was opened"))
    with pytest.raises(UserError, match=r"probes\[0\]\.name"):
        evaluate(tmp_path, f"checkpoint={finished.run.path}", "probes=[flipp]")


def test_the_data_that_released_weights_have_seen_give_a_leakage_note(finished, tmp_path, monkeypatch):
    file = tmp_path / "released.pth"
    file.write_bytes(b"weights")
    config = finished.run.config
    saved = evaluation.checkpoint.load(finished.run.weights)
    model = building.restore_model(config.model, saved, "")
    monkeypatch.setattr(evaluation, "load_official", lambda *_, **__: model)
    cards = ("+model.card.weights_trained_on=[risbench,rrsisd]", "+model.card.trained_on=[SAMRS]")
    kept = ("model", "size", "data", "vision", "text", "model.args", "trainer")
    overrides = [name for name in finished.overrides if name.lstrip("+").startswith(kept)]
    record = evaluate(tmp_path / "boards", *overrides, *cards, f"checkpoint=official:{file}",
                      f"text.tokenizer={finished.run.vocabulary}", f"runs={tmp_path / 'runs'}")  # fmt: skip
    assert record.trained_on == ["SAMRS", "risbench", "rrsisd"]
    assert [note for note in record.notes if "leakage" in note] == [
        "leakage: trained on SAMRS, which shares images of DIOR with rrsisd",
        "leakage: trained on risbench, which shares images of DIOR with rrsisd",
    ]
    assert finished.run.record.trained_on is None, "the released weights are not those of a run that was trained here"
