"""No-target and multi-target expressions from the files to the tables: what trivial models score, exactly."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from rrsis_bench import cli
from rrsis_bench.config.protocol import Protocol
from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.record import store
from rrsis_bench.results.render.terminal import board as show
from tests.fakes.nwpu import HEIGHT, WIDTH, write_fake_nwpu
from tests.fakes.records import LAVT, NATIVE, flat, record_of


class Constant(Segmenter):
    """Answers every expression with the same logit everywhere."""

    def __init__(self, logit: float):
        super().__init__()
        self.views, self.max_tokens, self.logit = {"image": 16}, 20, logit
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, views, text):  # noqa: ARG002 - it reads no words
        return SegmenterOutput(torch.full((len(views["image"]), 4, 4), self.logit))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Five test pictures of three expressions in each of two languages: a third of them denotes nothing."""
    folder = tmp_path_factory.mktemp("nwpu")
    write_fake_nwpu(folder, (1, 1, 5))
    return folder


def counts(root: Path, protocol: Protocol, logit: float) -> CountsTable:
    dataset = open_split("nwpu_refer", root, "test", {"language": "all"})
    text = TextPipeline(build_wordpiece([sample.expression for sample in dataset], 300), 20)
    views = ViewDataset(dataset, {"image": 16}, text, native_masks=True)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return predict_and_count(Constant(logit), views, protocol, fabric, batch_size=4)


def stored(tmp_path: Path, root: Path, protocol: Protocol, logit: float):
    table = counts(root, protocol, logit)
    record = record_of(table, protocol=protocol, data="nwpu_refer", resamples=0)
    return store.read(store.write(tmp_path, record, table))


def test_a_model_that_always_predicts_empty(tmp_path, root):
    """ReLA's rule: N-acc 100, T-acc 0, gIoU the share of no-target samples, cIoU and Pr 0; in the stored record."""
    record = stored(tmp_path, root, NATIVE, -1.0)
    none = sum(sample.n_targets == 0 for sample in open_split("nwpu_refer", root, "test", {"language": "all"}))
    made = flat(record.overall)
    assert (record.n, none, made.n_targeted) == (30, 10, 20)
    assert (made.nacc, made.tacc, made.miou, made.oiou) == (100.0, 0.0, 100.0 * none / record.n, 0.0)
    assert (made.miou_targeted, made.pr50, made.pr90) == (0.0, 0.0, 0.0)
    assert {name: (group.n, group.value("miou")) for name, group in record.per_target.items()} == {
        "single": (10, 0.0), "multi": (10, 0.0), "no_target": (10, 100.0)
    }  # fmt: skip
    assert {name: group.n for name, group in record.per_language.items()} == {"en": 15, "zh": 15}
    assert record.per_category["no target"].value("miou") == 100.0


def test_the_same_model_under_the_lavt_rule(tmp_path, root):
    """Every empty union scores 0; N-acc and T-acc are what they are."""
    made = flat(stored(tmp_path, root, LAVT, -1.0).overall)
    assert (made.miou, made.oiou, made.pr50, made.nacc, made.tacc) == (0.0, 0.0, 0.0, 100.0, 0.0)


def test_a_model_that_always_predicts_everything(tmp_path, root):
    """False positives score 0 and their pixels join the union; Pr@X counts targeted samples only."""
    record = stored(tmp_path, root, NATIVE, 1.0)
    masks = [sample.read_mask() for sample in open_split("nwpu_refer", root, "test", {"language": "all"})]
    assert (record.value("nacc"), record.value("tacc")) == (0.0, 100.0)
    assert record.overall.intersection == sum(int(mask_HW.sum()) for mask_HW in masks)
    assert record.overall.union == len(masks) * HEIGHT * WIDTH
    assert record.value("miou") == pytest.approx(100 * np.mean([mask_HW.mean() for mask_HW in masks]), rel=1e-12)
    assert record.per_target["no_target"].value("miou") == 0.0
    assert record.per_target["no_target"].value("pr50") is None


def test_the_splits_are_shown_and_the_record_is_audited(tmp_path, root, capsys, monkeypatch):
    stored(tmp_path, root, NATIVE, -1.0)
    assert store.audit(tmp_path) == 1
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["leaderboard", "nwpu_refer", "--by", "targets", "--leaderboards", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for word in ("single", "multi", "no_target", "n=10", "N-acc", "T-acc", "33.3", "100.0"):
        assert word in shown
    assert cli.main(["leaderboard", "nwpu_refer", "--by", "language", "--leaderboards", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for word in ("en", "zh", "n=15", "33.3"):
        assert word in shown


def test_a_dataset_of_one_class_says_so(tmp_path):
    from tests.fakes.records import put

    put(tmp_path)
    console = Terminal(file=io.StringIO(), width=120)
    rows = rank(store.read_all(tmp_path), tmp_path)
    show.breakdown(console, rows, "language")
    assert "all samples are of one class" in console.file.getvalue()
    assert "lavt" in console.file.getvalue()
