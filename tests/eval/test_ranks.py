"""Evaluation over several processes: every sample is scored once, with the integers of a single process."""

from __future__ import annotations

import io
import os

import pytest
import torch

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.eval.scoring import Keep, score_split
from rrsis_bench.run.data import FirstSamples
from rrsis_bench.run.model import build_fabric
from tests.eval.test_progress import NATIVE
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import Toy, machine, views_of
from tests.fakes.world import in_world, log, start

SAMPLES = 7  # which neither 2 nor 3 divides


class Counting(Toy):
    """Counts the samples that it sees; on one rank it may run out of memory or die."""

    def __init__(self, most: int = 100, dies_after: int = 100):
        super().__init__()
        self.seen, self.most, self.dies_after = 0, most, dies_after

    def forward(self, views, text):
        if len(views["image"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.seen >= self.dies_after:
            os._exit(9)
        self.seen += len(views["image"])
        return super().forward(views, text)


class CountingImages(ImageFirst):
    """Counts the images that it encodes."""

    seen = 0

    def encode_image(self, views):
        self.seen += len(views["image"])
        return super().encode_image(views)


def score(model, root, folder, size, *, batch_size=2):
    """Everything that a pass over the samples gives: integers, controls, predictions, samples seen, output."""
    data, out = views_of(root, native_masks=True), io.StringIO()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    scores = score_split(
        model, FirstSamples(data.dataset, SAMPLES), data._pipeline, NATIVE, build_fabric(machine(devices=size)),
        batch_size=batch_size, num_workers=0, controls=True, console=Terminal(file=out, width=300),
        save=folder / "predictions.jsonl", keep=Keep(folder / "evaluation", {"weights": "w"}),
    )  # fmt: skip
    return {
        "integers": scores.table.to_csv_gz(),
        "controls": repr(scores.controls),
        "seen": getattr(model, "seen", 0),
        "out": out.getvalue(),
    }


def lines(folder):
    return (folder / "predictions.jsonl").read_bytes()


@pytest.mark.parametrize("make", [Counting, CountingImages])
@pytest.mark.parametrize("size", [2, 3])
def test_each_sample_once_and_the_same_integers(fake_root, tmp_path, make, size):
    # Two samples show an image, so that batches of three share images.
    alone = score(make(), fake_root, tmp_path / "alone", 1, batch_size=3)
    found = in_world(size, lambda _: score(make(), fake_root, tmp_path / "many", size, batch_size=3), tmp_path / "logs")
    assert {one["integers"] for one in found} == {alone["integers"]}
    assert {one["controls"] for one in found} == {alone["controls"]}
    assert sum(one["seen"] for one in found) == alone["seen"]
    assert lines(tmp_path / "many") == lines(tmp_path / "alone")


def test_memory_of_one_process_halves_the_batch_of_all(fake_root, tmp_path):
    alone = score(Counting(), fake_root, tmp_path / "alone", 1, batch_size=2)

    def call(rank):
        return score(Counting(most=2 if rank else 100), fake_root, tmp_path / "many", 2, batch_size=4)

    found = in_world(2, call, tmp_path / "logs")
    assert {one["integers"] for one in found} == {alone["integers"]}
    assert "trainer.eval_batch_size=2" in found[0]["out"]


@pytest.mark.parametrize("size", [1, 3])
def test_a_killed_process_ends_the_others_and_another_world_size_continues(fake_root, tmp_path, size):
    alone = score(Counting(), fake_root, tmp_path / "alone", 1)

    def dies(rank):
        return score(Counting(dies_after=2 if rank else 100), fake_root, tmp_path / "many", 2)

    processes = start(2, dies, tmp_path / "logs")
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [1, 9]
    assert "peer" in log(tmp_path / "logs", 0), "the connection is lost"

    def again(rank):  # noqa: ARG001
        return score(Counting(), fake_root, tmp_path / "many", size)

    found = [again(0)] if size == 1 else in_world(size, again, tmp_path / "again")
    assert {one["integers"] for one in found} == {alone["integers"]}
    assert sum(one["seen"] for one in found) == alone["seen"] - 6, "two batches of rank 0 and one of rank 1 are kept"
    assert lines(tmp_path / "many") == lines(tmp_path / "alone")


def test_an_error_in_one_process_is_raised_in_all(fake_root, tmp_path):
    class Fails(Counting):
        def forward(self, views, text):  # noqa: ARG002
            raise UserError("sample 3 cannot be read")

    def call(rank):
        with pytest.raises(UserError, match="sample 3 cannot be read"):
            score(Fails() if rank else Counting(), fake_root, tmp_path / "many", 2)

    in_world(2, call, tmp_path / "logs")
