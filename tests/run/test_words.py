"""A run of a model with words: GloVe's vectors by name, and the source of the heads in its record and label."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from rrsis_bench.config import label
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.run import bench as harness
from rrsis_bench.train import checkpoint
from tests.fakes.config import parsed, tiny_overrides


@pytest.fixture(autouse=True)
def quick_label(monkeypatch):
    """The search for a text backbone of another name composes every file of conf/text, which takes seconds."""
    monkeypatch.setattr(label, "_backbones", lambda *_: [])


def run(tmp_path: Path, root: Path, *overrides: str) -> tuple[str, Record]:
    """Bench the narrow LSCM on the tree at `root`; returns (what was printed, the record)."""
    narrow = [entry for entry in tiny_overrides(tmp_path, root) if not entry.startswith(("vision.", "text."))]
    words = ("text.hidden=8", "text.width=8", "vision.layers=[1,1,1,1]", "model.args.width=8", "controls=false")
    config = parsed("model=lscm", *narrow, *words, "train.epochs=1", *overrides)
    console = Terminal(file=io.StringIO(), width=400)
    harness.bench(config, console)
    (record,) = store.read_all(tmp_path / "leaderboards")
    return console.file.getvalue(), record


def test_a_run_starts_from_glove_and_notes_the_source_of_its_heads(tmp_path, fake_root) -> None:
    file = tmp_path / "glove.840B.8d.txt"
    file.write_text("the 100 100 100 100 100 100 100 100\nof 100 100 100 100 100 100 100 100\nzzz 0 0 0 0 0 0 0 0\n")
    shown, record = run(tmp_path, fake_root, f"text.weights=glove:{file}", "model.args.parser=chain")
    assert "words start from glove:" in shown
    assert record.init_weights["text"] == sha256_file(file)
    assert "heads of words by chain" in record.notes
    assert "parser=chain" in record.variant
    (folder,) = (tmp_path / "runs").glob("lscm-*")
    vocabulary = (folder / "vocab.txt").read_text().split("\n")
    table = checkpoint.load(next((folder / "checkpoints").iterdir())).tensors["model"]["words.embedding.weight"]
    assert float(table[vocabulary.index("the")].min()) > 90
    assert float(table.abs().median()) < 3


def test_a_run_without_its_parser_stops_before_training(tmp_path, fake_root, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=r"rrsis-bench\[parse\]"):
        run(tmp_path, fake_root)
    assert not list((tmp_path / "runs").glob("*/checkpoints/*"))
