"""An average of the weights is what is validated, selected and saved, and it resumes exactly."""

from __future__ import annotations

import signal

import pytest
import torch

from rrsis_bench.stop import Interrupted
from rrsis_bench.train import checkpoint, frozen
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import make_trainer

EMA = {"callbacks": [{"name": "ema", "decay": 0.7}], "batch_size": 2, "epochs": 3, "log_every": 1}


def test_the_average_is_validated_and_saved_and_the_model_is_trained_as_without_it(fake_root, tmp_path):
    """A plain mean over the weights of every step, written out, is the saved model."""
    weights, validated = [], []

    def validate(model):
        validated.append(model.head.weight.detach().clone())
        return {"miou": float(len(validated))}

    trainer = make_trainer(fake_root, tmp_path / "ema", validate=validate, **EMA)
    step = trainer._step

    def spy(parts):
        step(parts)
        weights.append(trainer.raw_model.head.weight.detach().clone())

    trainer._step = spy
    best = checkpoint.load(trainer.fit())
    expected = weights[0]
    averages = [expected]
    for weight in weights[1:]:
        expected = 0.7 * expected + 0.3 * weight
        averages.append(expected)
    for found, wanted in zip(validated, averages[3::4], strict=True):
        torch.testing.assert_close(found, wanted)
    assert torch.equal(best.tensors["model"]["head.weight"], validated[-1])
    assert torch.equal(best.tensors["training"]["head.weight"], weights[-1])
    plain = make_trainer(fake_root, tmp_path / "plain", **(EMA | {"callbacks": []}))
    plain.fit()
    assert torch.equal(plain.raw_model.head.weight, weights[-1])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("stop_at", [1, 6])
def test_a_stopped_average_ends_where_the_uninterrupted_one_does(fake_root, tmp_path, stop_at, full):
    def trainer_of(name):
        torch.manual_seed(0)
        return make_trainer(fake_root, tmp_path / name, model=ImageFirst(), full_checkpoints=full, **EMA)

    trainer_of("straight").fit()
    stopped = trainer_of("stopped")
    step = stopped._step

    def spy(parts):
        step(parts)
        if stopped.state.step == stop_at:
            stopped.stop._signum = signal.SIGTERM

    stopped._step = spy
    with pytest.raises(Interrupted):
        stopped.fit()
    trainer_of("stopped").fit()
    one, two = (checkpoint.latest(tmp_path / name / "checkpoints")[0] for name in ("straight", "stopped"))
    assert one.step == two.step == 12
    for part in ("model", "training", "optimizer", "callbacks"):
        assert one.tensors[part].keys() == two.tensors[part].keys()
        assert all(torch.equal(tensor, two.tensors[part][key]) for key, tensor in one.tensors[part].items()), part
    model = ImageFirst()
    frozen.load(model, two)
    assert torch.equal(model.head.weight, two.tensors["model"]["head.weight"])
