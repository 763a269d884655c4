"""Every registered model on two processes: the losses of one, with DDP and with shares of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from rrsis_bench import registry
from rrsis_bench.train import loop
from rrsis_bench.train.loop import Trainer
from rrsis_bench.train.rng import seed_everything
from tests.fakes.config import compose, parsed
from tests.fakes.toy import make_trainer
from tests.fakes.world import in_world
from tests.models.conftest import build_tiny, tiny
from tests.reliability.test_resume_models import views_of
from tests.run.test_resume import final
from tests.train.test_ranks import losses

STEPS = 6
# Slow and without AdamW, which amplify rounding errors: the batch norms of these models see few values.
SGD = {"name": "sgd", "lr": 2e-4, "weight_decay": 0.01}


def trainer_of(root: Path, run_dir: Path, name: str, devices: int, strategy: str, epochs: int) -> Trainer:
    """A trainer of the model with its own recipe's loss, without dropout and augmentation."""
    composed = compose(f"model={name}", "data=custom", "size=tiny")
    recipe = composed["train"]
    changes = ["model.args.parser=chain"] if "parser" in composed["model"]["args"] else []
    config = parsed(f"model={name}", "data=custom", *tiny(name), *changes)
    seed_everything(0)
    model = build_tiny(name, *changes).double()  # in float32 their batch norms amplify rounding errors
    for module in model.modules():
        if isinstance(module, nn.Dropout):  # other processes draw other numbers
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    names = ("loss", "clip_norm", "align_corners", "freeze")
    options = {key: recipe[key] for key in names} | {"batch_size": 4, "epochs": epochs, "log_every": 1}
    options |= {"schedule": {"name": "constant", "warmup_steps": 0}, "optimizer": SGD}
    data = views_of(root, run_dir.parent / f"views-{strategy}", config, model)
    data.augment = type(data.augment)([], len(data), 0)
    return make_trainer(
        root, run_dir, model=model, data=data, validate=lambda _: {"miou": 0.0}, devices=devices, strategy=strategy,
        **options,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def each_expression_with_its_own_image(monkeypatch):
    """An image of two processes counts twice in the batch norms of an encoder; see `rrsis_bench.train.parallel`."""
    monkeypatch.setattr(loop, "distinct_images", lambda images: (list(range(len(images))),) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.entries()))
def test_two_processes_train_as_one(fake_root, tmp_path, name):
    def call(devices, strategy, epochs=STEPS // 2):
        trainer_of(fake_root, tmp_path / f"{strategy}{devices}", name, devices, strategy, epochs).fit()

    call(1, "ddp")
    one = losses(tmp_path / "ddp1")
    for strategy in ("ddp", "fsdp"):
        in_world(2, lambda _, strategy=strategy: call(2, strategy), tmp_path / "logs")
    two, shares = losses(tmp_path / "ddp2"), losses(tmp_path / "fsdp2")
    assert len(one) == STEPS
    assert two == pytest.approx(one, abs=1e-5)
    assert shares == pytest.approx(two, abs=1e-5)
    a, b = final(tmp_path / "ddp2"), final(tmp_path / "fsdp2")
    assert a.state["frozen"] == b.state["frozen"]
    assert {part: set(tensors) for part, tensors in a.tensors.items()} == {p: set(t) for p, t in b.tensors.items()}
    (tmp_path / "fsdp2").rename(tmp_path / "ddp1-continued")
    trainer = trainer_of(fake_root, tmp_path / "ddp1-continued", name, 1, "ddp", STEPS // 2 + 1)
    trainer.fit()
    assert trainer.state.step == STEPS + 2, "a single process loads the checkpoint"
