"""Provenance belongs to the weights: what trained them, in every attempt, decides whether their row is ranked."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from rrsis_bench import registry
from rrsis_bench.errors import UserError
from rrsis_bench.results.board import rows as board
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.run import bench as harness
from rrsis_bench.run import evaluate as evaluation
from rrsis_bench.run import plan
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.stop import Interrupted
from rrsis_bench.train import checkpoint, loop
from tests.config.test_registry import plugin
from tests.fakes.config import tiny_overrides

CLEAN = ("c" * 40, False)
NET = """from torch import nn
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from {package}.head import head
class Net(Segmenter):
    def __init__(self, views, max_tokens, width):
        super().__init__()
        self.views, self.max_tokens = views, max_tokens
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), head(width))
    def forward(self, views, text):
        return SegmenterOutput(self.layers(views['image'].float() / 255)[:, 0])
"""
_numbers = itertools.count()


@pytest.fixture
def toy(tmp_path, fake_root, monkeypatch):
    """A model in a package of its own, whose files a test may edit, and a clean tree."""
    package = f"rrsis_edited{next(_numbers)}"
    site = plugin(tmp_path, "edited", package=package)
    (site / package / "net.py").write_text(NET.format(package=package))
    (site / package / "head.py").write_text(
        "from torch import nn\ndef head(width):\n    return nn.Conv2d(width, 1, 1)\n"
    )
    (site / package / "conf" / "model" / "edited.yaml").write_text(
        "name: edited\ncard: {title: A plugin}\n"
        "args: {views: {image: '${size.image}'}, max_tokens: '${size.max_tokens}', width: 4}\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(plan, "git_state", lambda *_: CLEAN)
    yield SimpleNamespace(
        path=tmp_path,
        overrides=["model=edited", *tiny_overrides(tmp_path, fake_root), "controls=false"],
        head=site / package / "head.py",
    )
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


def bench(toy: SimpleNamespace, *overrides: str) -> str:
    console = Console(file=io.StringIO(), width=250)
    harness.bench(parsed_anew(*toy.overrides, *overrides), console)
    return console.file.getvalue()


def parsed_anew(*overrides: str):
    """As `parsed`, without its cache: the plugin's folder is another one in every test."""
    from rrsis_bench.config.compose import compose_config

    return compose_config(overrides)


def ranked(root: Path) -> dict[str, str]:
    """Run id -> why its row is not ranked."""
    return {row.head.run_id: row.reason for row in board.rank(store.read_all(root), root)}


def records(toy: SimpleNamespace) -> list[Record]:
    return store.read_all(toy.path / "leaderboards")


def interrupted(monkeypatch: pytest.MonkeyPatch, toy: SimpleNamespace, git: tuple[str, bool]) -> None:
    """Train one epoch at `git`, then stop."""
    with monkeypatch.context() as patch:
        patch.setattr(plan, "git_state", lambda *_: git)
        save = loop.Trainer._save

        def stop_after(self):
            save(self)
            raise Interrupted(signal.SIGTERM)

        patch.setattr(loop.Trainer, "_save", stop_after)
        with pytest.raises(Interrupted):
            bench(toy)


def test_a_dirty_attempt_leaves_its_mark_on_the_row(toy, monkeypatch):
    """Bug: trained on edited code, interrupted, continued on a clean tree: the row was clean and ranked."""
    interrupted(monkeypatch, toy, ("a" * 40, True))
    bench(toy)
    (record,) = records(toy)
    assert record.git_dirty is True
    assert [(attempt.git_sha[0], attempt.git_dirty) for attempt in record.attempts] == [("a", True), ("c", False)]
    assert any("several commits: aaaaaaaaaaaa, cccccccccccc" in note for note in record.notes)
    assert ranked(toy.path / "leaderboards") == {record.run_id: "dirty tree"}


def test_an_evaluation_copies_the_attempts_of_the_training(toy, monkeypatch):
    """Bug: evaluate of a dirty training on a clean tree came out clean."""
    interrupted(monkeypatch, toy, ("a" * 40, True))
    bench(toy)
    (own,) = records(toy)
    (run,) = (toy.path / "runs").glob("edited-*")
    out = toy.path / "evaluated"
    typed = [f"checkpoint={run}", "protocol=lavt", "controls=false", f"leaderboards={out}"]
    evaluation.evaluate(parsed_anew(*typed), Console(file=io.StringIO()), typed)
    (record,) = store.read_all(out)
    assert (record.attempts, record.git_dirty, record.train_hash) == (own.attempts, True, own.train_hash)


def test_an_attempt_that_left_no_checkpoint_leaves_no_mark(toy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(plan, "git_state", lambda *_: ("a" * 40, True))
        patch.setattr(loop.Trainer, "fit", lambda _: (_ for _ in ()).throw(Interrupted(signal.SIGTERM)))
        with pytest.raises(Interrupted):
            bench(toy)
    bench(toy)
    (record,) = records(toy)
    assert (len(record.attempts), record.git_dirty) == (1, False)


def test_edited_code_is_not_continued(toy, monkeypatch):
    """Bug: a file that the model imports was edited between interruption and continuation; nobody noticed."""
    interrupted(monkeypatch, toy, CLEAN)
    toy.head.write_text(toy.head.read_text() + "# edited\n")
    with pytest.raises(UserError, match=r"head.*force=true"):
        bench(toy)
    bench(toy, "force=true")
    (record,) = records(toy)
    assert len(record.attempts) == 1


def test_a_finished_run_says_that_its_code_has_changed(toy):
    """Bug: ten broken edits of a model file each "passed", because the old table was shown."""
    bench(toy)
    assert "has changed since" not in bench(toy)
    toy.head.write_text("raise RuntimeError('broken')\n")
    shown = bench(toy)
    assert "head" in shown.partition("has changed since")[2]
    assert "force=true" in shown


def test_an_unrelated_file_is_no_change(toy):
    bench(toy)
    before = registry.load_class("edited")
    toy.head.with_name("unused.py").write_text("x = 1\n")
    assert "has changed since" not in bench(toy)
    assert registry.load_class("edited") is before


@pytest.fixture
def finished(toy) -> RunFolder:
    bench(toy)
    (run,) = (toy.path / "runs").glob("edited-*")
    return RunFolder.open(run)


def score(toy: SimpleNamespace, weights: Path) -> Record:
    out = toy.path / "scored"
    typed = [f"checkpoint={weights}", "controls=false", f"leaderboards={out}"]
    evaluation.evaluate(parsed_anew(*typed), Console(file=io.StringIO()), typed)
    (record,) = store.read_all(out)
    return record


def test_weights_put_in_the_place_of_the_selected_ones_are_not_selected(toy, finished):
    """A hand-picked checkpoint under the name of the selected one: selection unknown, unranked."""
    best = finished.best
    other = next(path for path in sorted(finished.path.glob("checkpoints/step-*")) if path != best)
    shutil.rmtree(best)
    shutil.copytree(other, best)
    record = score(toy, finished.path)
    assert (record.selection_split, record.selection_metric) == (None, None)
    assert any("not the checkpoint that the run selected" in note for note in record.notes)


def test_a_checkpoint_of_another_training_is_not_this_runs(toy, finished):
    saved = checkpoint.load(finished.best)
    saved.state["identity"]["train_hash"] = "0" * 64
    checkpoint.save(finished.path / "checkpoints", saved.step, saved.tensors, saved.state)
    record = score(toy, finished.path)
    assert record.selection_split is None
    assert any("belongs to another training" in note for note in record.notes)


def test_an_edited_configuration_is_noticed(toy, finished):
    """The run's file says that it was not limited, its train hash says otherwise."""
    file = finished.path / "config.yaml"
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 40"))
    record = score(toy, finished.path)
    assert record.selection_split is None
    assert any("config.yaml" in note for note in record.notes)


def test_the_record_stores_every_setting_that_affects_it(finished):
    record = finished.record
    assert record.settings["train.epochs"] == 2
    assert record.settings["protocol.strict"] is False
    assert json.loads(json.dumps(record.settings)) == record.settings
    assert "train.epochs=2" in record.variant
