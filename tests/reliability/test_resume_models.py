"""Every registered model continues bit for bit: weights, optimiser and generators after an interruption."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from rrsis_bench import registry
from rrsis_bench.config.schema import Config
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.run.data import expressions_of
from rrsis_bench.run.model import build_vocabulary, load_text
from rrsis_bench.stop import Interrupted, StopRequest
from rrsis_bench.train.loop import Trainer
from rrsis_bench.train.rng import seed_everything
from tests.fakes.config import compose, parsed
from tests.fakes.toy import make_trainer
from tests.models.conftest import build_tiny, tiny
from tests.run.test_resume import assert_equal, at_step, final

STOP, STEPS = 1, 4  # optimiser steps: the middle of the first of two epochs


def views_of(root: Path, folder: Path, config: Config, model: Segmenter) -> ViewDataset:
    train = open_split("rrsisd", root, "train")
    vocabulary = folder / "vocab.txt"
    build_vocabulary(config, expressions_of(train), vocabulary)
    text = load_text(config, model, tuple(train.category_names), vocabulary)
    augment = [{"name": "black_boxes", "share": 0.5}]  # draws from the generators
    return ViewDataset(train, model.views, text, native_masks=False, seed=0, augment=augment)


def trainer_of(root: Path, run_dir: Path, name: str, stop: StopRequest | None = None) -> Trainer:
    """A trainer of the model as a new process would build it, with its own recipe's loss and optimiser."""
    composed = compose(f"model={name}", "data=custom", "size=tiny")
    recipe = composed["train"]
    drawing = [
        f"{node}.{option}=0.2"
        for node, option in (("vision", "drop_path"), ("text", "dropout"))
        if option in composed[node]
    ]
    if "parser" in composed["model"]["args"]:
        drawing.append("model.args.parser=chain")  # spaCy's pipelines are downloads
    config = parsed(f"model={name}", "data=custom", *tiny(name), *drawing)
    model = build_tiny(name, *drawing)
    seed_everything(0)
    names = ("loss", "optimizer", "clip_norm", "group_by_image", "align_corners", "freeze")
    options = {key: recipe[key] for key in names} | {"batch_size": 3, "epochs": STEPS // 2, "log_every": 1}
    data = views_of(root, run_dir, config, model)
    return make_trainer(root, run_dir, model=model, data=data, validate=lambda _: {"miou": 0.0}, stop=stop, **options)


FAST = ("lavt", "rrn")
MODELS = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in sorted(registry.entries())]


@pytest.mark.parametrize("name", MODELS)
def test_interrupted_and_continued(fake_root, tmp_path, name):
    trainer_of(fake_root, tmp_path / "straight", name).fit()
    with StopRequest() as stop:
        trainer = trainer_of(fake_root, tmp_path / "stopped", name, stop)
        at_step(trainer, STOP, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            trainer.fit()
    assert final(tmp_path / "stopped").step == STOP
    start = {key: value.clone() for key, value in final(tmp_path / "stopped").tensors["model"].items()}
    resumed = trainer_of(fake_root, tmp_path / "stopped", name)
    seed_everything(1)  # a new process has drawn other numbers by now
    resumed.fit()
    one, two = final(tmp_path / "straight"), final(tmp_path / "stopped")
    assert one.step == STEPS
    assert_equal(one, two)
    moved = [key for key, value in two.tensors["model"].items() if not torch.equal(value, start[key])]
    assert moved, "something was trained after the interruption"
