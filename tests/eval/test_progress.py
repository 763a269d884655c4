"""An evaluation that is stopped anywhere continues: every sample is scored once, and the integers do not change."""

from __future__ import annotations

import io
import json

import pytest
import torch
from lightning.fabric import Fabric

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.progress import ScoringProgress
from rrsis_bench.eval.scoring import Keep, score_split
from tests.fakes.config import parsed
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import Toy, views_of

NATIVE, LAVT = (parsed(f"protocol={name}").protocol for name in ("native", "lavt"))
SCATTERED = [0, 2, 4, 6, 1, 3, 5, 7]  # two expressions per image


class Killed(BaseException):
    """Ends a process in the tests."""


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def predict(model, data, fabric, path, *, kill_after=None, protocol=NATIVE, batch_size=3, saved=None):
    """Predict with progress in `path`; `saved` collects (sample id, mask), `kill_after` counts batches."""
    batches = 0

    def on_batch(_):
        nonlocal batches
        batches += 1
        if batches == kill_after:
            raise Killed

    return predict_and_count(
        model,
        data,
        protocol,
        fabric,
        batch_size=batch_size,
        indices=SCATTERED,
        on_batch=on_batch,
        on_mask=None if saved is None else lambda sample, mask: saved.append((sample.sample_id, mask)),
        progress=ScoringProgress(path, {"pass": "test", "saving": saved is not None}),
    )


@pytest.mark.parametrize("make", [Toy, ImageFirst])
@pytest.mark.parametrize("protocol", [NATIVE, LAVT], ids=["native", "lavt"])
def test_killed_after_any_batch(fake_root, fabric, tmp_path, make, protocol):
    torch.manual_seed(0)
    model, data = make(), views_of(fake_root, native_masks=True)
    masks = []
    whole = predict(model, data, fabric, tmp_path / "whole", protocol=protocol, saved=masks)
    for stop in (1, 2, 3):
        path, collected = tmp_path / f"killed-{stop}", []
        with pytest.raises(Killed):
            predict(model, data, fabric, path, kill_after=stop, protocol=protocol, saved=[])
        done = len(ScoringProgress(path, {"pass": "test", "saving": True}).scored)
        assert 3 * stop - 3 <= done <= min(8, 3 * stop), "at most one batch is repeated"
        again = predict(model, data, fabric, path, protocol=protocol, saved=collected)
        assert again.to_csv_gz() == whole.to_csv_gz()
        assert [name for name, _ in collected] == [name for name, _ in masks]
        assert all((a == b).all() for (_, a), (_, b) in zip(collected, masks, strict=True))


def test_a_batch_is_not_predicted_twice(fake_root, fabric, tmp_path):
    model, data = ImageFirst(), views_of(fake_root, native_masks=True)
    predict(model, data, fabric, tmp_path / "p")
    model.encoded.clear()
    predict(model, data, fabric, tmp_path / "p")
    assert model.encoded == []


def test_a_damaged_or_torn_line_is_scored_again(fake_root, fabric, tmp_path):
    torch.manual_seed(0)
    model, data, path = Toy(), views_of(fake_root, native_masks=True), tmp_path / "p"
    whole = predict(model, data, fabric, path)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 4
    strange = json.loads(lines[2])
    strange["rows"][0][-1] = "many"
    for damaged in (
        content[:-5],
        content[: len(lines[0]) + 7],
        lines[0] + b"{}\n" + lines[1],
        b"".join(lines[:2]) + json.dumps(strange).encode() + b"\n" + lines[3],
        lines[0] + lines[2],
        b"another identity\n" + lines[1],
    ):
        path.write_bytes(damaged)
        assert predict(model, data, fabric, path).to_csv_gz() == whole.to_csv_gz()
        assert len(ScoringProgress(path, {"pass": "test", "saving": False}).scored) == 8


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file.*could not be written"):
        ScoringProgress(tmp_path / "file" / "p", {})


class Greedy(Toy):
    """Runs out of memory with more than two samples."""

    def __init__(self, most: int = 2):
        super().__init__()
        self.most = most
        self.sizes: list[int] = []

    def forward(self, views, text):
        self.sizes.append(len(views["image"]))
        if self.sizes[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(views, text)


def score(model, data, fabric, batch_size, keep=None, console=None):
    return score_split(
        model, data.dataset, data._pipeline, NATIVE, fabric, batch_size=batch_size, num_workers=0, controls=True,
        console=console or Terminal(file=io.StringIO()), keep=keep,
    )  # fmt: skip


def test_out_of_memory_halves_the_batch(fake_root, fabric, tmp_path):
    data, out = views_of(fake_root, native_masks=True), io.StringIO()
    torch.manual_seed(0)
    model = Greedy()
    halved = score(model, data, fabric, 8, Keep(tmp_path, {}), Terminal(file=out, width=300))
    assert model.sizes[:3] == [8, 4, 2]
    assert set(model.sizes[2:]) <= {1, 2}, "the controls start with the size that fits"
    assert "trainer.eval_batch_size=2" in out.getvalue()
    model.most = 8
    at_that_size = score(model, data, fabric, 2)
    assert halved.table.to_csv_gz() == at_that_size.table.to_csv_gz()
    assert halved.controls == at_that_size.controls


def test_one_sample_that_does_not_fit_is_an_error(fake_root, fabric):
    with pytest.raises(UserError, match=r"One sample of split 'train' does not fit"):
        score(Greedy(most=0), views_of(fake_root, native_masks=True), fabric, 4)
