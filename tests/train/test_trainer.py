"""The loop does what the recipe says: steps, groups of batches, selection, frozen parts."""

from __future__ import annotations

import json

import pytest
import torch

from rrsis_bench.interfaces import SegmenterOutput
from rrsis_bench.train import checkpoint
from rrsis_bench.train.loop import Trainer
from tests.fakes.toy import Toy, make_trainer


def first_gradient(trainer: Trainer) -> list[torch.Tensor]:
    """Will hold the gradient of the first step: AdamW hides its scale, clipping and other optimisers do not."""
    found: list[torch.Tensor] = []
    step = trainer._step

    def spy(parts):
        if not found:
            found.append(trainer.raw_model.pixels.weight.grad.clone())
        step(parts)

    trainer._step = spy
    return found


def test_two_batches_of_four_equal_one_of_eight(fake_root, tmp_path):
    options = {"clip_norm": None, "optimizer": {"lr": 1e-3}, "epochs": 3}
    whole = make_trainer(fake_root, tmp_path / "whole", batch_size=8, **options)
    halves = make_trainer(fake_root, tmp_path / "halves", batch_size=4, accumulate=2, **options)
    gradients = [first_gradient(trainer) for trainer in (whole, halves)]
    whole.fit()
    halves.fit()
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=0, atol=1e-6)
    assert whole.state.step == halves.state.step == 3
    for (name, a), b in zip(whole.raw_model.named_parameters(), halves.raw_model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5, msg=name)
    torch.manual_seed(0)
    start = Toy()
    assert not torch.allclose(start.words.weight, whole.raw_model.words.weight, atol=1e-4), "nothing was trained"


def test_an_epochs_last_group_may_be_smaller(fake_root, tmp_path):
    trainer = make_trainer(fake_root, tmp_path, batch_size=2, accumulate=3, epochs=2)
    trainer.fit()
    assert (trainer.total_steps, trainer.state.step) == (4, 4)


def test_a_smaller_last_group_is_averaged_over_its_own_size(fake_root, tmp_path):
    """Four batches in groups of three and one: the second step equals a step on that batch alone."""
    options = {"batch_size": 2, "epochs": 1, "clip_norm": None, "schedule": {"name": "constant", "warmup_steps": 0}}
    seen: dict[int, float] = {}
    for accumulate in (1, 3):
        trainer = make_trainer(
            fake_root, tmp_path / str(accumulate), accumulate=accumulate, optimizer={"lr": 1e-12}, **options
        )
        step = trainer._step

        def spy(parts, trainer=trainer, step=step, accumulate=accumulate):
            seen[accumulate] = float(trainer.raw_model.pixels.weight.grad.abs().sum())
            step(parts)

        trainer._step = spy
        trainer.fit()
    assert seen[3] == pytest.approx(seen[1], rel=1e-4)


def test_validation_comes_every_nth_epoch_and_at_the_end(fake_root, tmp_path):
    trainer = make_trainer(fake_root, tmp_path, epochs=5, eval_every=2)
    trainer.fit()
    assert [entry["epoch"] for entry in trainer.state.history] == [2, 4, 5]


def test_the_best_of_the_validations_is_returned_and_kept(fake_root, tmp_path):
    scores = iter([1.0, 8.0, 3.0, 2.0, 4.0])
    trainer = make_trainer(fake_root, tmp_path, epochs=5, validate=lambda _: {"miou": next(scores)})
    best = trainer.fit()
    assert best.name == "step-00000004"
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000008", "step-00000010"]


def test_frozen_parameters_stay_as_they_were(fake_root, tmp_path):
    torch.manual_seed(0)
    start = Toy()
    trainer = make_trainer(fake_root, tmp_path, freeze=["words.*", "head.bias"])
    trainer.fit()
    moved = {
        name
        for (name, before), after in zip(start.named_parameters(), trainer.raw_model.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert moved == {"pixels.weight", "pixels.bias", "norm.weight", "norm.bias", "head.weight"}


def test_auxiliary_losses_are_added(fake_root, tmp_path):
    class Pulled(Toy):
        def forward(self, views, text):
            output = super().forward(views, text)
            return SegmenterOutput(output.logits.detach() * 0, {"pull": self.words.weight.square().sum()})

    torch.manual_seed(0)
    model = Pulled()
    before = float(model.words.weight.detach().square().sum())
    make_trainer(fake_root, tmp_path, model=model, optimizer={"weight_decay": 0.0}).fit()
    assert float(model.words.weight.detach().square().sum()) < before


def test_the_loss_falls_and_the_rate_follows_the_schedule(fake_root, tmp_path):
    make_trainer(
        fake_root, tmp_path, epochs=20, log_every=1, optimizer={"lr": 2e-2}, schedule={"warmup_steps": 2}
    ).fit()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    train = [event for event in events if event["event"] == "train"]
    losses = [event["loss"] for event in train]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    rates = [event["lr"] for event in train]
    assert rates[:3] == pytest.approx([0.01, 0.02, 0.02])
    assert rates[-1] < 1e-4


def test_a_split_smaller_than_a_batch_is_one_smaller_batch(fake_root, tmp_path):
    trainer = make_trainer(fake_root, tmp_path, batch_size=100, epochs=2)
    trainer.fit()
    assert trainer.state.step == 2


def test_checkpoints_hold_no_optimizer_of_frozen_parts(fake_root, tmp_path):
    best = make_trainer(fake_root, tmp_path, epochs=1, freeze=["words.*"]).fit()
    sizes = {tuple(tensor.shape) for tensor in checkpoint.load(best).tensors["optimizer"].values()}
    assert (300, 8) not in sizes
