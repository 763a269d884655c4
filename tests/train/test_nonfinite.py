"""A loss or gradient that is not finite stops the run before the update and names the samples."""

from __future__ import annotations

import json

import pytest
import torch

from rrsis_bench.train import checkpoint
from rrsis_bench.train.loop import NonFiniteLoss
from rrsis_bench.train.rng import epoch_order
from tests.fakes.toy import Toy, make_trainer


class Failing(Toy):
    """Its forward pass number `at` (from 1) returns `value`; remembers its weights before that pass."""

    def __init__(self, at: int, value: float):
        super().__init__()
        self.at, self.value, self.calls, self.before = at, value, 0, {}

    def forward(self, views, text):
        output = super().forward(views, text)
        self.calls += 1
        if self.calls == self.at:
            self.before = {name: tensor.clone() for name, tensor in self.state_dict().items()}
            output.logits = output.logits * self.value
        return output


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("log_every", [1, 100], ids=["log step", "no log step"])
def test_loss_stops_before_the_update_and_names_the_samples(fake_root, tmp_path, value, log_every):
    torch.manual_seed(0)
    model = Failing(at=3, value=value)
    trainer = make_trainer(fake_root, tmp_path, model=model, log_every=log_every)
    with pytest.raises(NonFiniteLoss) as caught:
        trainer.fit()
    wrong = [trainer.data.dataset[index].sample_id for index in epoch_order(8, 0, 1)[:4]]
    assert "The loss became" in str(caught.value)
    assert "at step 2, before the update" in str(caught.value)
    assert all(sample_id in str(caught.value) for sample_id in wrong)
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert (report["sample_ids"], report["step"], report["quantity"]) == (wrong, 2, "loss")
    assert all(torch.equal(tensor, model.before[name]) for name, tensor in model.state_dict().items())
    kept = checkpoint.latest(tmp_path / "checkpoints")[0]
    assert kept.step == 2
    assert all(torch.isfinite(tensor).all() for tensor in kept.tensors["model"].values())


def test_all_samples_of_an_accumulated_step_are_named(fake_root, tmp_path):
    torch.manual_seed(0)
    trainer = make_trainer(fake_root, tmp_path, model=Failing(at=2, value=float("nan")), batch_size=2, accumulate=4)
    with pytest.raises(NonFiniteLoss):
        trainer.fit()
    order = epoch_order(8, 0, 0)
    named = json.loads((tmp_path / "nonfinite.json").read_text())["sample_ids"]
    assert named == [trainer.data.dataset[index].sample_id for index in order[:4]]


def test_a_gradient_stops_before_the_update_and_is_named(fake_root, tmp_path):
    torch.manual_seed(0)
    model = Toy()
    model.pixels.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = make_trainer(fake_root, tmp_path, model=model, clip_norm=None)
    with pytest.raises(NonFiniteLoss, match="The gradient norm became"):
        trainer.fit()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    norms = json.loads((tmp_path / "nonfinite.json").read_text())["grad_norms"]
    assert [name for name, norm in norms.items() if norm != norm or norm == float("inf")] == ["pixels.weight"]


def test_a_non_finite_auxiliary_loss_counts(fake_root, tmp_path):
    class Auxiliary(Toy):
        def forward(self, views, text):
            output = super().forward(views, text)
            output.aux_losses = {"extra": output.logits.sum() * float("nan")}
            return output

    with pytest.raises(NonFiniteLoss):
        make_trainer(fake_root, tmp_path, model=Auxiliary()).fit()
