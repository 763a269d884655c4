"""Training over several processes equals the training of a single one, and their checkpoints are the same files."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from torch import nn

from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Contract, SegmenterOutput
from rrsis_bench.stop import Interrupted, StopRequest
from rrsis_bench.train import checkpoint
from rrsis_bench.train.sharding import is_supported
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import SIDE, Toy, make_trainer
from tests.fakes.world import in_world

# A sum over the batch, a mean weighted by the batch's pixels, and a mean over samples.
LOSS = [
    {"name": "ce", "weight": 1.0, "class_weights": [0.9, 1.1]},
    {"name": "dice", "weight": 0.1, "reduction": "sum"},
    {"name": "foreground_dice", "weight": 0.1},
]
STEPS = {
    "batch_size": 4, "epochs": 10, "log_every": 1, "loss": LOSS, "eval_every": 5,
    "optimizer": {"lr": 2e-3, "weight_decay": 0.01,},
    "augment": [{"name": "hflip"}, {"name": "black_boxes", "share": 0.5}],
}  # fmt: skip


class Hard(Toy):
    """Batch norms, an auxiliary loss, side maps, a parameter without gradient, and one that gets a gradient of zero."""

    contract = Contract(dead_parameters=r"(unused|flat)\.")

    def __init__(self):
        super().__init__()
        self.maps = nn.BatchNorm2d(1)
        self.rows = nn.BatchNorm1d(8)
        self.frozen = nn.BatchNorm1d(8)
        self.unused = nn.Linear(2, 2)
        self.flat = nn.Linear(1, 1)

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, views, text):
        words = self.frozen(self.rows(self.norm(self.words(text["input_ids"]).mean(1))))
        image = views["image"].to(self.head.weight.dtype) / 255
        logits = self.maps(self.head(torch.relu(self.pixels(image)) * words[..., None, None]))[:, 0]
        logits = logits + 0 * self.flat.bias
        return SegmenterOutput(logits, {"words": words.square().mean()}, {"half": (0.5, logits[:, ::2, ::2])}, 0.7)


def losses(folder):
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return {event["step"]: event["loss"] for event in events if event["event"] == "train"}


def train(root, folder, devices, make=Hard, **options):
    torch.manual_seed(0)
    trainer = make_trainer(root, folder, model=make(), devices=devices, **{**STEPS, **options})
    trainer.fit()
    return {type(module).__name__ for module in trainer.raw_model.modules()}


def saved(folder):
    found, notes = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert not notes
    return found


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_of_half_a_batch_train_as_one_of_a_whole(fake_root, tmp_path, accumulate):
    options = {"accumulate": accumulate, "batch_size": 4 // accumulate}
    if accumulate == 1:  # AdamW follows the rounding errors of gradients that are zero, so that weights differ
        options["optimizer"] = {"name": "sgd", "lr": 0.01, "weight_decay": 0.01}
    train(fake_root, tmp_path / "one", 1, **options)
    kinds = in_world(2, lambda _: train(fake_root, tmp_path / "two", 2, **options), tmp_path / "logs")
    assert kinds[0] == {type(module).__name__ for module in Hard().modules()}, "batch norms are themselves again"
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 20
    assert two == pytest.approx(one, abs=1e-5)
    a, b = saved(tmp_path / "one"), saved(tmp_path / "two")
    assert {part: set(tensors) for part, tensors in a.tensors.items()} == {p: set(t) for p, t in b.tensors.items()}
    if accumulate == 1:
        for name, tensor in a.tensors["model"].items():
            torch.testing.assert_close(b.tensors["model"][name], tensor, atol=1e-5, rtol=1e-4)


def test_another_number_of_processes_continues(fake_root, tmp_path):
    """Stopped after 6 steps on two processes, continued on four, then on one."""
    train(fake_root, tmp_path / "straight", 1)
    folder = tmp_path / "moved"

    def some(devices, until):
        def call(rank):
            torch.manual_seed(0)
            stop = StopRequest()
            trainer = make_trainer(fake_root, folder, model=Hard(), devices=devices, stop=stop, **STEPS)
            step = trainer._step

            def spy(parts):
                step(parts)
                if trainer.state.step == until and rank == devices - 1:
                    os.kill(os.getpid(), signal.SIGTERM)

            trainer._step = spy
            with stop, pytest.raises(Interrupted):
                trainer.fit()
            return trainer.state.step

        return call

    assert in_world(2, some(2, 6), tmp_path / "logs") == [6, 6], "a signal to one process stops both"
    assert in_world(4, some(4, 11), tmp_path / "logs") == [11] * 4
    train(fake_root, folder, 1)
    assert losses(folder) == pytest.approx(losses(tmp_path / "straight"), abs=1e-5)


def test_dropout_resumes_exactly_on_the_same_processes(fake_root, tmp_path):
    def both(rank):
        for name, epochs in (("straight", (4,)), ("resumed", (2, 4))):
            for last in epochs:
                torch.manual_seed(0)
                options = {"batch_size": 4, "log_every": 1, "schedule": {"name": "constant", "warmup_steps": 0}}
                trainer = make_trainer(
                    fake_root, tmp_path / name, model=Toy(dropout=0.5), devices=2, epochs=last, **options
                )
                torch.manual_seed(rank)  # the checkpoint holds the generators of process 0
                trainer.fit()

    in_world(2, both, tmp_path / "logs")
    assert losses(tmp_path / "straight") == losses(tmp_path / "resumed")
    a, b = saved(tmp_path / "straight"), saved(tmp_path / "resumed")
    assert all(torch.equal(tensor, b.tensors["model"][name]) for name, tensor in a.tensors["model"].items())


def test_a_loss_that_is_not_finite_ends_all_processes_with_one_message(fake_root, tmp_path):
    class Broken(Toy):
        def forward(self, views, text):
            output = super().forward(views, text)
            return SegmenterOutput(output.logits * (float("nan") if os.environ["RANK"] == "1" else 1))

    def call(rank):  # noqa: ARG001
        with pytest.raises(UserError) as caught:
            make_trainer(fake_root, tmp_path / "run", model=Broken(), devices=2).fit()
        return str(caught.value), caught.value.status

    messages = set(in_world(2, call, tmp_path / "logs"))
    assert len(messages) == 1
    assert next(iter(messages))[1] == "nan"
    assert len(json.loads((tmp_path / "run" / "nonfinite.json").read_text())["sample_ids"]) == 4


def test_a_parameter_without_gradient_is_named(fake_root, tmp_path):
    class Undeclared(Hard):
        contract = Contract()

    def call(rank):  # noqa: ARG001
        with pytest.raises(UserError, match=r"unused\.weight, unused\.bias.*dead_parameters"):
            train(fake_root, tmp_path / "run", 2, Undeclared)

    in_world(2, call, tmp_path / "logs")


def test_samples_that_cannot_be_shared_are_refused(fake_root, tmp_path):
    def call(rank):  # noqa: ARG001
        with pytest.raises(UserError, match=r"8 training samples.*3 processes"):
            make_trainer(fake_root, tmp_path / "run", devices=3, batch_size=9)

    in_world(3, call, tmp_path / "logs")


VIEWS = {"image": torch.arange(3 * SIDE * SIDE, dtype=torch.uint8).view(1, 3, SIDE, SIDE)}
FSDP = {
    "batch_size": 4, "log_every": 1, "clip_norm": 0.1, "eval_every": 2,
    "schedule": {"name": "constant", "warmup_steps": 0},
}  # fmt: skip


@pytest.mark.skipif(not is_supported(), reason="an older torch, for which trainer.strategy=fsdp is refused")
def test_shares_of_the_weights_train_as_whole_ones(fake_root, tmp_path):
    """FSDP2 equals DDP, resumes, and its checkpoint continues in a single process."""

    def call(devices, epochs, strategy):
        def run(rank):  # noqa: ARG001
            torch.manual_seed(0)
            trainer = make_trainer(
                fake_root, tmp_path / strategy, model=ImageFirst(), devices=devices,
                validate=lambda model: {"miou": float(model.encode_image(VIEWS)["maps"].sum())},
                **FSDP | {"epochs": epochs, "strategy": strategy},
            )  # fmt: skip
            trainer.fit()
            return sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in trainer.raw_model.parameters())

        return run

    whole = in_world(2, call(2, 5, "ddp"), tmp_path / "logs")[0]
    shares = in_world(2, call(2, 3, "fsdp"), tmp_path / "logs")
    assert max(shares) < whole, "no process holds all weights"
    assert sum(shares) == whole
    in_world(2, call(2, 5, "fsdp"), tmp_path / "logs")
    assert losses(tmp_path / "fsdp") == pytest.approx(losses(tmp_path / "ddp"), abs=1e-5)
    a, b = saved(tmp_path / "ddp"), saved(tmp_path / "fsdp")
    assert a.state["frozen"] == b.state["frozen"]
    for part, tensors in a.tensors.items():
        assert {key: tensor.shape for key, tensor in tensors.items()} == {
            k: t.shape for k, t in b.tensors[part].items()
        }
