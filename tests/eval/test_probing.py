"""The probes' questions through the real evaluation: one encoding per image, resume, processes, memory, protocols."""

from __future__ import annotations

import csv
import gzip
import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from rrsis_bench.console import Terminal
from rrsis_bench.data.pixels import rle
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_words
from rrsis_bench.errors import UserError
from rrsis_bench.eval.probes.probe import turned, turned_back
from rrsis_bench.eval.probing import Inquiry, bind, load, to_csv_gz
from rrsis_bench.eval.scoring import Keep, score_split
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from tests.eval.test_progress import LAVT, NATIVE, Greedy, Killed
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import TOKENS, Toy, machine, views_of
from tests.fakes.world import in_world

NAMES = ("flip", "absent", "typo", "negation")


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def ask(model, root, fabric, *, names=NAMES, folder=None, protocol=NATIVE, batch_size=3, controls=False):
    data = views_of(root, native_masks=True)
    return score_split(
        model, data.dataset, data._pipeline, protocol, fabric, batch_size=batch_size, num_workers=0, controls=controls,
        console=Terminal(file=io.StringIO()), probes=bind(names), keep=Keep(folder, {"w": 1}) if folder else None,
    )  # fmt: skip


class Sided(Toy):
    """A toy whose logits fall on both sides of zero, so that its masks differ with image and text."""

    def forward(self, views, text):
        logits_BSS = super().forward(views, text).logits
        return SegmenterOutput(logits_BSS - logits_BSS.mean(dim=(1, 2), keepdim=True))


class Bright(Segmenter):
    """Marks bright pixels, whatever the text is: a model that ignores it."""

    def __init__(self):
        super().__init__()
        self.views, self.max_tokens = {"image": 64}, TOKENS
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, views, text):  # noqa: ARG002
        return SegmenterOutput((views["image"].float().mean(1) - 110) * self.scale)


@pytest.mark.parametrize("protocol", [NATIVE, LAVT], ids=["native", "lavt"])
def test_a_model_of_single_pixels_is_consistent_and_ignores_the_text(fake_root, fabric, protocol):
    scores = ask(Bright(), fake_root, fabric, protocol=protocol)
    flip, absent, typo = (scores.probes[name] for name in ("flip", "absent", "typo"))
    assert flip.scores["consistency"].value == 100
    assert typo.scores["agreement"].value == 100
    assert absent.scores["false_positives"].value == 100
    rows = {row.sample_id: Fraction(row.intersection, row.union) for row in scores.table}
    given = {line.sample_id: line.value for line in scores.cases if (line.probe, line.figure) == ("flip", "given_miou")}
    assert given == {name: rows[name] for name in given}, "the integers of the split and of the probe agree"
    assert "negation" not in scores.probes
    assert "synthetic" in scores.skipped["negation"]


def test_each_image_and_each_turned_image_is_encoded_once(fake_root, fabric):
    model = ImageFirst()
    ask(model, fake_root, fabric, names=())
    images = sum(model.encoded)
    assert images == 4
    model.encoded.clear()
    scores = ask(model, fake_root, fabric, names=("flip", "absent", "typo", "paraphrase"))
    assert sum(model.encoded) == images + 4 * images, "the split, then the images as they are and in three turns"
    assert sum(probe.predictions for probe in scores.probes.values()) > 30


def test_killed_anywhere_the_probes_continue(fake_root, fabric, tmp_path):
    torch.manual_seed(0)
    model = Sided()
    whole = ask(model, fake_root, fabric, folder=tmp_path / "whole")

    class Counting(Sided):
        calls, dies_after = 0, 1000

        def forward(self, views, text):
            if Counting.calls == Counting.dies_after:
                raise Killed
            Counting.calls += 1
            return super().forward(views, text)

    torch.manual_seed(0)
    model = Counting()
    ask(model, fake_root, fabric)
    total, Counting.calls = Counting.calls, 0
    for stop in (2, 4, 9, total - 1):
        folder, Counting.calls, Counting.dies_after = tmp_path / str(stop), 0, stop
        with pytest.raises(Killed):
            ask(model, fake_root, fabric, folder=folder)
        Counting.dies_after = 1000
        again = ask(model, fake_root, fabric, folder=folder)
        assert Counting.calls == total, "no batch is predicted twice"
        assert again.probes == whole.probes
        assert again.cases == whole.cases


def test_other_questions_do_not_take_over_the_answers(fake_root, fabric, tmp_path):
    torch.manual_seed(0)
    model = Sided()
    ask(model, fake_root, fabric, folder=tmp_path, names=("typo",))
    other = ask(model, fake_root, fabric, folder=tmp_path, names=("flip",))
    assert other.probes == ask(model, fake_root, fabric, names=("flip",)).probes


def test_memory_that_runs_out(fake_root, fabric):
    torch.manual_seed(0)
    halved = ask(Greedy(), fake_root, fabric, batch_size=8)
    torch.manual_seed(0)
    assert halved.probes == ask(Greedy(), fake_root, fabric, batch_size=2).probes


@pytest.mark.parametrize("make", [Sided, ImageFirst])
def test_two_processes_give_the_same_figures(fake_root, tmp_path, make):
    from rrsis_bench.run.model import build_fabric

    def score(size, folder):
        torch.manual_seed(0)
        found = ask(make(), fake_root, build_fabric(machine(devices=size)), folder=folder)
        return found.probes, found.cases

    alone = score(1, tmp_path / "one")
    main, other = in_world(2, lambda _: score(2, tmp_path / "two"), tmp_path / "logs")
    assert main == alone
    assert other == ({}, []), "process 0 compares"


def test_masks_turn_back():
    mask_HW = np.random.default_rng(0).random((5, 8)) < 0.5
    for turn in (None, "mirror", "upside", "quarter"):
        assert (turned_back(turned(mask_HW, turn), turn) == mask_HW).all()
    assert turned(mask_HW, "quarter").shape == (8, 5)
    assert (turned(mask_HW, "quarter")[0] == mask_HW[:, -1]).all(), "the right side becomes the top"


def test_the_file_of_comparisons(fake_root, fabric):
    scores = ask(Bright(), fake_root, fabric)
    packed = to_csv_gz(scores.cases)
    assert packed == to_csv_gz(scores.cases)
    lines = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
    values = [Fraction(line["value"]) for line in lines if (line["probe"], line["figure"]) == ("typo", "worst_miou")]
    assert 100 * float(sum(values) / len(values)) == scores.probes["typo"].scores["worst_miou"].value


def test_wrong_entries_are_sentences():
    for entries, message in (
        (["flips"], r"probes\[0\].name.*flips.*flip"),
        ([{"name": "typo", "k": 0}], r"probes\[0\].k"),
        (["flip", {"name": "flip"}], "more than one entry 'flip'"),
    ):
        with pytest.raises(UserError, match=message):
            bind(entries)


def test_a_probe_of_an_installed_package_is_found(monkeypatch, fake_root):
    from rrsis_bench.eval import probing
    from rrsis_bench.eval.probes.probe import PROBES, Case, Figure, Probe, Question

    class Point:
        """An entry point whose module adds a probe."""

        def load(self):
            @PROBES.add("shout")
            class Shout(Probe):
                figures = (Figure("empty", "Empty", "share of empty masks"),)

                def cases(self, subject):
                    for index, sample in enumerate(subject.samples):
                        yield Case(index, (Question(index, sample.expression.upper()),))

                def measure(self, case, answers):  # noqa: ARG002
                    return {"empty": Fraction(int(not answers.masks[0].any()))}

    monkeypatch.setattr(probing, "entry_points", lambda group: [Point()] if group == "rrsis_bench.probes" else [])
    monkeypatch.setattr(PROBES, "_targets", dict(PROBES._targets))
    load.cache_clear()
    try:
        data = views_of(fake_root).dataset
        inquiry = Inquiry(data, bind(["shout"]))
        empty = rle.encode(np.zeros((64, 64), bool))
        given = {data[index].sample_id: empty for index in range(len(data))}
        answers = {inquiry[index].sample_id: empty for index in range(len(inquiry))}
        assert inquiry.compare(given, answers)[0]["shout"].scores["empty"].value == 100
    finally:
        load.cache_clear()


def test_words_that_the_vocabulary_does_not_know_are_asked_for(fake_root, fabric):
    """A vocabulary of words refuses unknown ones in the data. In a probe a typing error is one, and is read as such."""
    data = views_of(fake_root, native_masks=True)
    texts = [data.dataset[index].expression for index in range(len(data))]
    text = TextPipeline(build_words(texts, 300), TOKENS)
    with pytest.raises(UserError, match="does not know"):
        text(["shhip", "tnnis court"])
    assert (text.lenient()(texts)["input_ids"] == text(texts)["input_ids"]).all()
    scores = score_split(
        Sided(), data.dataset, text, NATIVE, fabric, batch_size=3, num_workers=0, controls=False,
        console=Terminal(file=io.StringIO()), probes=bind(["typo", "absent"]),
    )  # fmt: skip
    assert scores.probes["typo"].n == len(data.dataset)
