"""A run that was stopped and resumed ends bit for bit where the uninterrupted one does."""

from __future__ import annotations

import io
import json
import os
import random
import signal

import numpy as np
import pytest
import torch

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.stop import Interrupted, StopRequest
from rrsis_bench.train import checkpoint
from rrsis_bench.train.rng import seed_everything
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import Toy, make_trainer, views_of

# Eight samples, two to a step: four steps per epoch, three epochs.
RECIPE = {"batch_size": 2, "epochs": 3, "log_every": 1}


def trainer_of(root, run_dir, **options):
    """With everything that draws random numbers: dropout, augmentation, NumPy and Python in the validation."""
    seed_everything(0)
    data = views_of(root, augment=[{"name": "black_boxes", "share": 0.5}], seed=0)

    def validate(model):
        drawn = random.random() + float(np.random.rand())  # noqa: NPY002
        return {"miou": float(model.words.weight.detach().abs().sum()) + drawn}

    return make_trainer(root, run_dir, model=Toy(dropout=0.3), data=data, validate=validate, **(RECIPE | options))


def at_step(trainer, step: int, action) -> None:
    """Call `action` once, right after optimiser step `step` was logged."""
    write = trainer.events.write

    def spy(event, **values):
        write(event, **values)
        if event == "train" and values["step"] == step:
            action()

    trainer.events.write = spy


def final(run_dir) -> checkpoint.Checkpoint:
    return checkpoint.latest(run_dir / "checkpoints")[0]


def assert_equal(one: checkpoint.Checkpoint, two: checkpoint.Checkpoint) -> None:
    assert one.step == two.step
    for part in ("model", "optimizer", "rng"):
        assert set(one.tensors[part]) == set(two.tensors[part])
        for name, tensor in one.tensors[part].items():
            assert torch.equal(tensor, two.tensors[part][name]), f"{part} {name}"
    for key in ("optimizer", "rng"):
        assert one.state[key] == two.state[key]
    progress = [{**found.state["progress"], "seconds": None} for found in (one, two)]
    assert progress[0] == progress[1]


@pytest.fixture(scope="module")
def straight(fake_root, tmp_path_factory):
    """The uninterrupted run."""
    run_dir = tmp_path_factory.mktemp("straight")
    best = trainer_of(fake_root, run_dir).fit()
    return best, final(run_dir)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [6, 8], ids=["mid-epoch", "last step of an epoch"])
def test_stopped_by_a_signal(fake_root, tmp_path, straight, step, workers):
    with StopRequest() as stop:
        trainer = trainer_of(fake_root, tmp_path, stop=stop, num_workers=workers)
        at_step(trainer, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted) as caught:
            trainer.fit()
    assert caught.value.exit_code == 143
    assert final(tmp_path).step == step
    resumed = trainer_of(fake_root, tmp_path, num_workers=workers)
    torch.rand(17)  # a new process has drawn other numbers by now
    best = resumed.fit()
    assert best.name == straight[0].name
    assert_equal(final(tmp_path), straight[1])


def straight_and_stopped(root, tmp_path, **recipe):
    """Train an `ImageFirst` to its end, and another to step 6; the second's trainer, anew and not yet resumed."""
    make_trainer(root, tmp_path / "straight", model=ImageFirst(), **recipe).fit()
    with StopRequest() as stop:
        trainer = make_trainer(root, tmp_path / "stopped", model=ImageFirst(), stop=stop, **recipe)
        at_step(trainer, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            trainer.fit()
    return make_trainer(root, tmp_path / "stopped", model=ImageFirst(), **recipe)


def test_batches_by_picture_go_on_where_they_stood(fake_root, tmp_path):
    straight_and_stopped(fake_root, tmp_path, **RECIPE, group_by_image=True).fit()
    assert_equal(final(tmp_path / "stopped"), final(tmp_path / "straight"))


def test_a_model_with_a_frozen_part(fake_root, tmp_path):
    """Its checkpoints lack the frozen weights; statistics that move without gradients are in them."""
    resumed = straight_and_stopped(fake_root, tmp_path, **RECIPE)
    assert int(resumed.raw_model.backbone.norm.num_batches_tracked) == 0
    resumed.fit()
    one, two = final(tmp_path / "straight"), final(tmp_path / "stopped")
    assert_equal(one, two)
    assert int(one.tensors["model"]["backbone.norm.num_batches_tracked"]) == 12
    assert "backbone.conv.weight" not in one.tensors["model"]


def test_killed_between_checkpoints_within_an_epoch(fake_root, tmp_path, straight):
    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    trainer = trainer_of(fake_root, tmp_path, checkpoint_every=2)
    at_step(trainer, 7, kill)
    with pytest.raises(Killed):
        trainer.fit()
    assert final(tmp_path).step == 6
    trainer_of(fake_root, tmp_path).fit()
    assert_equal(final(tmp_path), straight[1])


def test_stopped_during_validation_loses_no_step(fake_root, tmp_path, straight):
    trainer = trainer_of(fake_root, tmp_path)
    score, rounds = trainer.validate, []

    def interrupted(model):
        rounds.append(1)
        if len(rounds) == 2:
            raise Interrupted(signal.SIGINT)
        return score(model)

    trainer.validate = interrupted
    with pytest.raises(Interrupted):
        trainer.fit()
    assert final(tmp_path).step == 8, "both trained epochs are kept"
    trainer_of(fake_root, tmp_path).fit()
    assert_equal(final(tmp_path), straight[1])


def test_a_torn_checkpoint_costs_the_steps_since_the_one_before(fake_root, tmp_path, straight):
    trainer_of(fake_root, tmp_path).fit()
    torn = checkpoint.folder(tmp_path / "checkpoints", 12) / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-40])
    shown = Terminal(file=io.StringIO(), width=200)
    resumed = trainer_of(fake_root, tmp_path, console=shown)
    assert straight[0].name != "step-00000012", "a damaged best checkpoint is another case, see below"
    resumed.fit()
    assert "step-00000012 is damaged (optimizer.safetensors does not match its sha256)" in shown.file.getvalue()
    assert_equal(final(tmp_path), straight[1])


def test_a_finished_training_is_not_repeated(fake_root, tmp_path):
    first = trainer_of(fake_root, tmp_path).fit()
    again = trainer_of(fake_root, tmp_path)
    at_step(again, 13, lambda: pytest.fail("trained on"))
    assert again.fit() == first
    assert again.state.step == 12


def test_a_worse_epoch_after_resuming_does_not_replace_the_best(fake_root, tmp_path):
    scores = iter([5.0, 9.0])
    first = make_trainer(fake_root, tmp_path, validate=lambda _: {"miou": next(scores)}, **RECIPE)
    at_step(first, 9, lambda: setattr(first.stop, "_signum", signal.SIGTERM))
    with pytest.raises(Interrupted):
        first.fit()
    second = make_trainer(fake_root, tmp_path, validate=lambda _: {"miou": 7.0}, **RECIPE)
    best = second.fit()
    assert (second.state.best_score, second.state.best_step) == (9.0, 8)
    assert best == checkpoint.folder(tmp_path / "checkpoints", 8)
    assert checkpoint.load(best).state["progress"]["epoch"] == 2
    assert [entry["miou"] for entry in second.state.history] == [5.0, 9.0, 7.0]


def test_an_equal_score_does_not_replace_an_earlier_one(fake_root, tmp_path):
    trainer = make_trainer(fake_root, tmp_path, validate=lambda _: {"miou": 1.0}, **RECIPE)
    assert trainer.fit().name == "step-00000004"


def test_another_identity_is_refused_with_the_difference(fake_root, tmp_path):
    make_trainer(fake_root, tmp_path, epochs=1).fit()
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    other = make_trainer(fake_root, tmp_path, epochs=1, identity={"train_hash": "new", "seed": "0"})
    with pytest.raises(UserError, match=r"another run \(train_hash: same there, new now\).*force=true"):
        other.fit()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before


def test_a_damaged_best_checkpoint_is_refused(fake_root, tmp_path):
    scores = iter([9.0, 1.0, 1.0])
    best = make_trainer(fake_root, tmp_path, validate=lambda _: {"miou": next(scores)}, **RECIPE).fit()
    (best / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="step-00000004, the best checkpoint so far, is damaged: model.*force=true"):
        make_trainer(fake_root, tmp_path, **RECIPE).fit()


def test_events_tell_the_story(fake_root, tmp_path):
    with StopRequest() as stop:
        trainer = trainer_of(fake_root, tmp_path, stop=stop)
        at_step(trainer, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            trainer.fit()
    trainer_of(fake_root, tmp_path).fit()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "train"] == list(range(1, 13))
    assert [event["step"] for event in events if event["event"] == "resumed"] == [5]
    assert [event["epoch"] for event in events if event["event"] == "val"] == [1, 2, 3]


def test_a_signal_acts_at_once_unless_it_is_deferred():
    before = signal.getsignal(signal.SIGINT)  # a background shell starts its programs with the signal ignored
    with StopRequest() as stop, pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)
    with StopRequest() as stop, stop.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(Interrupted), stop.immediate():
            pass
        with pytest.raises(Interrupted) as caught:  # the second signal
            os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
