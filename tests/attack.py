"""Attempts to get a wrong row ranked: ``make attack`` prints what happened to each of them.

Every attempt does what a careless or dishonest user could do, then looks for a ranked row that claims something wrong.
An attempt ends as refused (an error), unranked (with the reason), noted (the row says it) or RANKED, a defect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.table import Table

from rrsis_bench.config import compose as composing
from rrsis_bench.config import label as labelling
from rrsis_bench.config.compose import compose_config
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board.rows import BoardRow, rank
from rrsis_bench.results.record import store
from rrsis_bench.results.record.identity import attestation
from rrsis_bench.results.record.schema import Attempt
from rrsis_bench.results.render import text as formats
from rrsis_bench.run import bench as harness
from rrsis_bench.run import evaluate as evaluation
from rrsis_bench.run import plan, provenance
from rrsis_bench.run import record as recording
from rrsis_bench.run import score as scoring
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.stop import Interrupted
from rrsis_bench.train import checkpoint, loop
from rrsis_bench.train.saving import TrainingCheckpoints, TrainState
from tests.config.test_registry import plugin
from tests.fakes.config import CONF, tiny_overrides
from tests.fakes.records import control, put, random_table, record_of
from tests.fakes.rrsisd import write_fake_rrsisd

CLEAN, DIRTY = ("c" * 40, False), ("d" * 40, True)
NET = """import torch
from torch import nn
from rrsis_bench.interfaces import {base}, SegmenterOutput
from {package}.head import finish
class Net({base}):
    def __init__(self, views, max_tokens, width):
        super().__init__()
        self.views, self.max_tokens = views, max_tokens
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))
    def encode_image(self, views):
        return {{'maps': self.layers(views['image'].float() / 255)}}
    def decode(self, encoded, text):
        return SegmenterOutput(finish(encoded['maps'][:, 0], self.training))
"""
FORWARD = """    def forward(self, views, text):
        return self.decode(self.encode_image(views), text)
"""
_numbers = itertools.count()


class Lab:
    """A folder with a fake dataset, a model in a package of its own, runs and leaderboards."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch):
        self.path, self.patch, self.git = path, patch, CLEAN
        self.data = write_fake_rrsisd(path / "data")
        self.package = f"rrsis_attacked{next(_numbers)}"
        self.site = plugin(path, "edited", package=self.package) / self.package
        self.model()
        (self.site / "head.py").write_text("def finish(logits, training):\n    return logits\n")
        (self.site / "conf" / "model" / "edited.yaml").write_text(
            "name: edited\ncard: {title: A plugin}\n"
            "args: {views: {image: '${size.image}'}, max_tokens: '${size.max_tokens}', width: 4}\n"
        )
        patch.syspath_prepend(self.site.parent)
        patch.setattr(plan, "git_state", lambda *_: self.git)
        patch.setattr(scoring, "git_state", lambda *_: self.git)
        self.root = path / "leaderboards"
        self.overrides = ["model=edited", *tiny_overrides(path, self.data.root), "controls=false"]
        self.shown = Terminal(file=io.StringIO(), width=300)

    def model(self, base: str = "Segmenter") -> None:
        """Write the model's file."""
        forward = FORWARD if base == "Segmenter" else ""
        (self.site / "net.py").write_text(NET.format(package=self.package, base=base) + forward)

    def finish(self, expression: str) -> None:
        """Make the model return `expression` of its logits when it is evaluated after training."""
        (self.site / "head.py").write_text(
            f"import torch\ndef finish(logits, training):\n    return logits if training else {expression}\n"
        )

    def bench(self, *overrides: str) -> str:
        """Run `bench`; return what it printed."""
        before = len(self.shown.file.getvalue())
        harness.bench(compose_config([*self.overrides, *overrides]), self.shown)
        return self.shown.file.getvalue()[before:]

    def evaluate(self, weights: Path, *overrides: str) -> None:
        """Run `evaluate`."""
        typed = [f"checkpoint={weights}", "controls=false", f"leaderboards={self.root}", *overrides]
        evaluation.evaluate(compose_config(typed), self.shown, typed)

    def interrupt(self) -> None:
        """Train one epoch, then stop."""
        save = TrainingCheckpoints.save

        def stop_after(checkpoints: TrainingCheckpoints, state: TrainState) -> None:
            save(checkpoints, state)
            raise Interrupted(signal.SIGTERM)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainingCheckpoints, "save", stop_after)
            with contextlib.suppress(Interrupted):
                self.bench()

    @property
    def run(self) -> RunFolder:
        """The first run's folder."""
        return RunFolder.open(min((self.path / "runs").glob("edited-*"), key=lambda path: len(path.name)))

    def rows(self) -> list[BoardRow]:
        """All rows of the leaderboards."""
        return rank(store.read_all(self.root), self.root)

    def fresh(self) -> None:
        """Empty the leaderboards, as on a machine that has only the run's folder."""
        shutil.rmtree(self.root)


ATTEMPTS: list[tuple[str, Callable[[Lab], str]]] = []


def attempt(what: str) -> Callable[[Callable[[Lab], str]], Callable[[Lab], str]]:
    """Register an attempt under its description."""

    def add(function: Callable[[Lab], str]) -> Callable[[Lab], str]:
        ATTEMPTS.append((what, function))
        return function

    return add


def unranked(rows: list[BoardRow]) -> str:
    """Say why no row is ranked; a ranked one is a defect."""
    bad = [row for row in rows if row.rank is not None]
    return f"RANKED {bad[0].head.run_id}" if bad or not rows else "unranked: " + "; ".join(row.reason for row in rows)


def said(found: bool, text: str) -> str:
    """Say that a message or a note tells the reader."""
    return f"noted: {text}" if found else "RANKED without a word"


# Provenance belongs to the weights


@attempt("evaluate a run that was selected on test")
def _(lab: Lab) -> str:
    lab.bench("protocol.selection_split=test")
    lab.fresh()
    lab.evaluate(lab.run.path)
    return unranked(lab.rows())


@attempt("evaluate a run that was trained with limit.train=4")
def _(lab: Lab) -> str:
    lab.bench("limit.train=4")
    lab.fresh()
    lab.evaluate(lab.run.path)
    return unranked(lab.rows())


@attempt("evaluate a hand-picked step folder of a run")
def _(lab: Lab) -> str:
    lab.bench()
    lab.fresh()
    other = next(path for path in sorted(lab.run.path.glob("checkpoints/step-*")) if path != lab.run.best)
    lab.evaluate(other)
    return unranked(lab.rows())


@attempt("evaluate a step folder that was copied out of its run")
def _(lab: Lab) -> str:
    lab.bench()
    lab.fresh()
    bare = shutil.copytree(lab.run.best, lab.path / "weights" / "step-00000002")
    vocabulary = shutil.copy(lab.run.vocabulary, lab.path / "vocab.txt")
    keep = [name for name in lab.overrides if not name.startswith(("train.", "leaderboards", "controls"))]
    lab.evaluate(bare, *keep, f"text.tokenizer={vocabulary}")
    return unranked(lab.rows())


@attempt("put a hand-picked checkpoint under the name of the selected one")
def _(lab: Lab) -> str:
    lab.bench()
    lab.fresh()
    best = lab.run.best
    other = next(path for path in sorted(lab.run.path.glob("checkpoints/step-*")) if path != best)
    shutil.rmtree(best)
    shutil.copytree(other, best)
    lab.evaluate(lab.run.path)
    return unranked(lab.rows())


@attempt("put another training's checkpoint into a run")
def _(lab: Lab) -> str:
    lab.bench("limit.train=4")
    limited = lab.run.best
    shutil.rmtree(lab.path / "elsewhere", ignore_errors=True)
    kept = shutil.copytree(limited, lab.path / "elsewhere" / limited.name)
    shutil.rmtree(lab.path / "runs")
    lab.bench()
    lab.fresh()
    best = lab.run.best
    shutil.rmtree(best)
    shutil.copytree(kept, best)
    lab.evaluate(lab.run.path)
    return unranked(lab.rows())


@attempt("remove the limit from config.yaml of a limited run, and from its manifest")
def _(lab: Lab) -> str:
    lab.bench("limit.train=4")
    lab.fresh()
    config, manifest = lab.run.path / "config.yaml", lab.run.path / "manifest.json"
    config.write_text(config.read_text().replace("train: 4", "train: null"))
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"limit": {}}))
    lab.evaluate(lab.run.path)
    return unranked(lab.rows())


@attempt("one checkpoint as seed=1,2")
def _(lab: Lab) -> str:
    lab.bench()
    lab.evaluate(lab.run.path, "seed=1")
    return unranked(lab.rows())


@attempt("the record of one checkpoint again, under another seed")
def _(lab: Lab) -> str:
    for seed in (1, 2):
        put(lab.root, seed=seed, table_seed=0, weights_sha256="9" * 64)
    ranked = [row for row in lab.rows() if row.rank is not None]
    rest = [row.reason for row in lab.rows() if row.rank is None]
    return f"unranked: {rest[0]}" if [len(row.records) for row in ranked] == [1] else "RANKED as two seeds"


@attempt("a copied run folder, evaluated as another run")
def _(lab: Lab) -> str:
    lab.bench()
    shutil.copytree(lab.run.path, lab.path / "copies" / "edited-copy")
    lab.evaluate(lab.path / "copies" / "edited-copy", "trainer.precision=bf16-mixed")
    ranked = [row for row in lab.rows() if row.rank is not None]
    return f"unranked: {lab.rows()[-1].reason}" if len(ranked) == 1 else "RANKED twice"


@attempt("train on edited code, interrupt, continue on a clean tree")
def _(lab: Lab) -> str:
    lab.git = DIRTY
    lab.interrupt()
    lab.git = CLEAN
    lab.bench()
    return unranked(lab.rows())


@attempt("the same, then evaluate on a clean tree")
def _(lab: Lab) -> str:
    lab.git = DIRTY
    lab.interrupt()
    lab.git = CLEAN
    lab.bench()
    lab.fresh()
    lab.evaluate(lab.run.path, "protocol=lavt")
    return unranked(lab.rows())


@attempt("continue at another clean commit")
def _(lab: Lab) -> str:
    lab.git = ("a" * 40, False)
    lab.interrupt()
    lab.git = CLEAN
    lab.bench()
    (row,) = lab.rows()
    return said("several commits" in row.text("notes"), row.text("notes"))


@attempt("edit a file that the model imports between interruption and continuation")
def _(lab: Lab) -> str:
    lab.interrupt()
    lab.finish("logits + 100")
    lab.bench()
    return unranked(lab.rows())


@attempt("break the model's file after the run, then bench again")
def _(lab: Lab) -> str:
    lab.bench()
    (lab.site / "net.py").write_text("raise RuntimeError\n")
    shown = lab.bench()
    return said("has changed since" in shown and "force=true" in shown, "the code has changed since; force=true")


@attempt("edit the model's file, then evaluate the run")
def _(lab: Lab) -> str:
    lab.bench()
    lab.fresh()
    (lab.site / "head.py").write_text((lab.site / "head.py").read_text() + "# edited\n")
    lab.evaluate(lab.run.path)
    (row,) = lab.rows()
    return said("sources changed" in row.text("notes"), row.text("notes"))


# The dirty flag


def _repository(lab: Lab) -> tuple[Path, Callable[..., None]]:
    root = lab.path / "checkout"
    root.mkdir()

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)

    git("init", "-q")
    (root / "code.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return root, git


def _state(root: Path, sources: tuple[Path, ...] = ()) -> str:
    sha, dirty = provenance.git_state(root, sources)
    return "RANKED as clean" if dirty is False else f"unranked: {'no git revision' if sha is None else 'dirty tree'}"


@attempt("an edited file under assume-unchanged")
def _(lab: Lab) -> str:
    root, git = _repository(lab)
    git("update-index", "--assume-unchanged", "code.py")
    (root / "code.py").write_text("x = 2\n")
    return _state(root)


@attempt("an edited file under skip-worktree")
def _(lab: Lab) -> str:
    root, git = _repository(lab)
    git("update-index", "--skip-worktree", "code.py")
    (root / "code.py").write_text("x = 2\n")
    return _state(root)


@attempt("a new file under status.showUntrackedFiles=no")
def _(lab: Lab) -> str:
    root, git = _repository(lab)
    git("config", "status.showUntrackedFiles", "no")
    (root / "new.py").write_text("x = 2\n")
    return _state(root)


@attempt("a model file that .git/info/exclude hides")
def _(lab: Lab) -> str:
    root, _git = _repository(lab)
    (root / ".git" / "info" / "exclude").write_text("new.py\n")
    (root / "new.py").write_text("x = 2\n")
    return _state(root, (root / "new.py",))


@attempt("GIT_DIR of a clean repository in the environment")
def _(lab: Lab) -> str:
    root, _git = _repository(lab)
    (root / "code.py").write_text("x = 2\n")
    other = lab.path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    lab.patch.setenv("GIT_DIR", str(other / ".git"))
    lab.patch.setenv("GIT_WORK_TREE", str(other))
    return _state(root)


@attempt("a package below another, clean repository")
def _(lab: Lab) -> str:
    root, _git = _repository(lab)
    (root / "vendored").mkdir()
    return _state(root / "vendored")


# Configuration that nobody typed, and settings of the evaluation


@contextlib.contextmanager
def _conf(lab: Lab) -> Iterator[Path]:
    conf = shutil.copytree(CONF, lab.path / "conf")
    for module in (composing, labelling):
        lab.patch.setattr(module, "CONF", conf)
    labelling._composed.cache_clear()
    yield conf
    labelling._composed.cache_clear()


@attempt("halve the learning rate in the git-ignored conf/local")
def _(lab: Lab) -> str:
    with _conf(lab) as conf:
        (conf / "local").mkdir()
        (conf / "local" / "default.yaml").write_text("# @package _global_\ntrain: {optimizer: {lr: 0.0123}}\n")
        lab.bench()
    (row,) = lab.rows()
    return said("train.optimizer.lr=0.0123" in row.label, "label says train.optimizer.lr=0.0123")


@attempt("change how the data is read in conf/local")
def _(lab: Lab) -> str:
    with _conf(lab) as conf:
        (conf / "local").mkdir()
        (conf / "local" / "default.yaml").write_text("# @package _global_\nphrase_matching: word_index\n")
        lab.bench()
    (row,) = lab.rows()
    return said("phrase_matching=word_index" in row.label, "label says phrase_matching=word_index")


@attempt("a plugin with a recipe for another model and a conf/local")
def _(lab: Lab) -> str:
    for name in ("recipe/lavt/tiny.yaml", "local/default.yaml"):
        (lab.site / "conf" / name).parent.mkdir(parents=True)
        (lab.site / "conf" / name).write_text("{}\n")
    lab.bench()
    return unranked(lab.rows())


@attempt("bench with protocol.strict=true after bench")
def _(lab: Lab) -> str:
    lab.bench()
    lab.bench("protocol.strict=true")
    strict = {row.head.protocol.strict for row in lab.rows()}
    return said(strict == {True, False}, "scored again; a row of its own, with the setting in its label")


@attempt("bench after bench limit.test=2")
def _(lab: Lab) -> str:
    lab.bench("limit.test=2")
    lab.bench()
    found = {row.head.n: row.rank for row in lab.rows()}
    return said(found == {2: None, 4: 1}, "scored again on all samples; the limited row stays unranked")


# Predictions that are none


@attempt("a model that returns NaN everywhere")
def _(lab: Lab) -> str:
    lab.finish("logits * float('nan')")
    lab.bench()
    return unranked(lab.rows())


@attempt("NaN from a model that encodes images first")
def _(lab: Lab) -> str:
    lab.model("ImageFirstSegmenter")
    lab.finish("logits * float('nan')")
    lab.bench()
    return unranked(lab.rows())


@attempt("infinity in one pixel")
def _(lab: Lab) -> str:
    lab.finish("torch.where(torch.arange(logits.shape[-1]) == 0, float('inf'), logits)")
    lab.bench()
    return unranked(lab.rows())


@attempt("NaN in the weights of a checkpoint")
def _(lab: Lab) -> str:
    lab.bench()
    lab.fresh()
    saved = checkpoint.load(lab.run.best)
    next(iter(saved.tensors["model"].values())).flatten()[0] = float("nan")
    checkpoint.save(lab.run.path / "checkpoints", saved.step, saved.tensors, saved.state)
    lab.evaluate(lab.run.path)
    return unranked(lab.rows())


# Data


def _images(lab: Lab) -> tuple[list[Path], list[Path]]:
    from rrsis_bench.data.formats import read_index

    rows = read_index("rrsisd", lab.data.root, {}).rows
    return [Path(row.image) for row in rows["train"]], sorted({Path(row.image) for row in rows["test"]})


@attempt("training images as test images, byte by byte")
def _(lab: Lab) -> str:
    train, test = _images(lab)
    for path in test:
        shutil.copy(train[0], path)
    lab.bench()
    return unranked(lab.rows())


@attempt("training images as test images, in another file format")
def _(lab: Lab) -> str:
    train, test = _images(lab)
    for path in test:
        Image.open(train[0]).convert("RGB").save(path, format="PNG")
    lab.bench()
    return unranked(lab.rows())


@attempt('data.name="my data", noticed after training only')
def _(lab: Lab) -> str:
    lab.patch.setattr(loop.Trainer, "fit", lambda _: sys.exit("trained"))
    lab.bench("data.name='my data'")
    return unranked(lab.rows())


@attempt("results on private data in the tracked tables")
def _(lab: Lab) -> str:
    lab.patch.setattr(recording, "CHECKOUT", lab.path)
    config = dataclasses.replace(
        compose_config(["data=custom"]), leaderboards=str(lab.root), runs=str(lab.path / "runs")
    )
    table = random_table(40)
    recording.publish(config, [(record_of(table, data="custom"), table)], lab.shown)
    return said(not lab.root.exists(), "kept in runs/leaderboards; data.publish=true enters them")


@attempt("the run's own masks, scored as those of another system")
def _(lab: Lab) -> str:
    lab.bench("predictions=save")
    config = scoring.configure(
        "rrsisd", "native", ["data.counts={train: 8, val: 4, test: 4}"],
        {"data.root": lab.data.root, "leaderboards": lab.root, "runs": lab.path / "runs"},
    )  # fmt: skip
    scoring.score(config, lab.shown, name="theirs", predictions=lab.run.predictions("test"), selected_on="val")
    theirs = [row for row in lab.rows() if row.head.model == "theirs"]
    return unranked(theirs)


# Records edited afterwards


def _edited(lab: Lab, change: Callable[[dict[str, Any]], Any], **fields: Any) -> str:
    """Store a record, change its JSON, then read the table."""
    record = put(lab.root, **fields)
    path = store.record_path(lab.root, record.data, record.model, record.run_id)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    store.audit(lab.root)
    return unranked(lab.rows())


_DIRTY_ATTEMPT = Attempt("2026-01-01T00:00:00Z", "d" * 40, True, None, {}, "cpu", None)
_EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]] = {
    "raise mIoU in a record": (lambda r: r["overall"]["scores"]["miou"].update(value=99.0), {}),
    "raise mIoU and all bounds in a record": (
        lambda r: r["overall"]["scores"]["miou"].update(value=r["overall"]["scores"]["miou"]["value"] + 0.5), {},
    ),
    "clear the dirty flag of a record": (
        lambda r: r.update(git_dirty=False), {"git_dirty": True, "attempts": [_DIRTY_ATTEMPT]},
    ),
    "clear the limit of a record": (
        lambda r: r.update(limit=None), {"limit": {"train": 8}, "settings": {"limit.train": 8}},
    ),
    "change the seed of a record": (lambda r: r.update(seed=7), {}),
    "shorten the commit of a record": (lambda r: r.update(git_sha="cafe"), {}),
    "change the epochs of a record": (lambda r: r.update(epochs=3), {"settings": {"train.epochs": 12}}),
    "a language control above 100": (
        lambda r: r["control"]["shuffled_text"]["scores"]["miou"].update(value=140),
        {"control": {"shuffled_text": control(50)}},
    ),
    "move the record to another model's folder": (lambda r: r.update(model="csinet"), {}),
}  # fmt: skip


def _edit(change: Callable[[dict[str, Any]], Any], fields: dict[str, Any]) -> Callable[[Lab], str]:
    return lambda lab: _edited(lab, change, **fields)


for _name, (_change, _fields) in _EDITS.items():
    attempt(_name)(_edit(_change, _fields))


@attempt("drop the hardest samples from the counts file, with a new sha256 and all scores derived again")
def _(lab: Lab) -> str:
    table = random_table(40)
    table.rows.sort(key=lambda row: -row.intersection / max(row.union, 1))
    del table.rows[30:]
    store.write(lab.root, record_of(table, n_expected=40), table)
    return unranked(lab.rows())


@attempt("beside a record, the counts file of a better one")
def _(lab: Lab) -> str:
    worse, better = put(lab.root, model="fianet", quality=0.2), put(lab.root, model="lavt", quality=0.9)
    places = [store.record_path(lab.root, r.data, r.model, r.run_id) for r in (worse, better)]
    contents = [json.loads(path.read_text()) for path in places]
    counts = places[0].with_name(contents[0]["counts"]["file"])
    shutil.copy(places[1].with_name(contents[1]["counts"]["file"]), counts)
    contents[0]["counts"]["sha256"] = sha256_file(counts)
    places[0].write_text(json.dumps(contents[0]))
    return unranked(lab.rows())


@attempt("keep 'verified by' on a record that was changed")
def _(lab: Lab) -> str:
    record = put(lab.root)
    (stored,) = store.read_all(lab.root)
    entry = {"attestation": attestation([stored]), "by": "authors", "date": "2026-01-09", "statement": "all"}
    (lab.root / "verified.json").write_text(json.dumps([entry]))
    store.write(lab.root, dataclasses.replace(record, wall_s=1.0), random_table(40), force=True)
    (row,) = lab.rows()
    return said(row.verified_by == (), "the row is no longer verified: its attestation changed")


@attempt("one good seed as if it were three")
def _(lab: Lab) -> str:
    put(lab.root, seed=4)
    (row,) = lab.rows()
    return said(f"| 1{formats.FEW} |" in formats.markdown([row]), f"Seeds column says 1{formats.FEW}")


@attempt("a table that was made before another process wrote its record")
def _(lab: Lab) -> str:
    put(lab.root, model="lavt")
    write, calls = leaderboards.write_files, []

    def interleaved(files: dict[Path, bytes]) -> None:
        if not calls:
            put(lab.root, model="fianet", table_seed=3)
        calls.append(1)
        write(files)

    lab.patch.setattr(leaderboards, "write_files", interleaved)
    leaderboards.regenerate(lab.root)
    return said("fianet" in (lab.root / "synthetic.csv").read_text(), "written again with the new record")


def outcome(function: Callable[[Lab], str]) -> str:
    """Run one attempt in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        lab = Lab(Path(folder), patch)
        try:
            return function(lab)
        except UserError as error:
            return "refused: " + " ".join(str(error).split())
        finally:
            for name in [name for name in sys.modules if name.startswith(lab.package)]:
                del sys.modules[name]


def main(wanted: str = "") -> int:
    """Run all attempts whose name holds `wanted`; print the table; return 1 if a wrong row was ranked."""
    os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", TOKENIZERS_PARALLELISM="false")
    console, table, wrong, started = Terminal(), Table("#", "attempt", "what happened"), 0, time.perf_counter()
    chosen = [(what, function) for what, function in ATTEMPTS if wanted in what]
    for number, (what, function) in enumerate(chosen, 1):
        found = outcome(function)
        wrong += found.startswith("RANKED")
        shown = found if len(found) < 150 else found[:147] + "..."
        style = "bold red" if found.startswith("RANKED") else ""
        table.add_row(str(number), what, shown, style=style)
    console.print(table)
    console.print(f"{len(chosen)} attempts, {wrong} wrong rows ranked, {time.perf_counter() - started:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
