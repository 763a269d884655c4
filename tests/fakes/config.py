"""Composed configurations for tests: the real conf/ folder, shrunk until a whole run takes seconds."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

from rrsis_bench.config.compose import CONF, compose_node, plain
from rrsis_bench.config.schema import Config

__all__ = ["CONF", "compose", "model_args", "parsed", "tiny_overrides"]

RANDOM_WEIGHTS = ("vision.weights=random", "text.weights=random")
# Every module of the tiny size at a width that trains in milliseconds per step.
NARROW = (
    "size.image=32",
    "size.decoder_width=16",
    "size.max_tokens=16",
    "vision.embed_dim=8",
    "vision.depths=[1,1,1,1]",
    "vision.num_heads=[1,1,2,2]",
    "vision.window=2",
    "text.hidden=16",
    "text.layers=1",
    "text.heads=2",
    "text.intermediate=32",
    "text.vocab_size=200",
)


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return plain(compose_node(overrides))


def compose(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of these Hydra overrides, as plain containers that a test may change."""
    return copy.deepcopy(_composed(overrides))


def parsed(*overrides: str) -> Config:
    """The typed configuration of these Hydra overrides."""
    return Config.parse(compose(*overrides))


def model_args(name: str, *overrides: str, **args: Any) -> dict[str, Any]:
    """Return the constructor arguments of a model as composed, at paper size by default, with `args` replaced."""
    return {**compose("data=custom", f"model={name}", *overrides)["model"]["args"], **args}


def tiny_overrides(tmp_path: Path, root: Path) -> list[str]:
    """Overrides of a run of seconds on the fake RRSIS-D tree at `root` (8/4/4 references), all output in `tmp_path`."""
    return [
        "data=rrsisd",
        "size=tiny",
        f"data.root={root}",
        "data.counts={train: 8, val: 4, test: 4}",
        f"leaderboards={tmp_path / 'leaderboards'}",
        f"runs={tmp_path / 'runs'}",
        "trainer=cpu",
        "train.epochs=2",
        "train.batch_size=4",
        "train.eval_every=1",
        "train.schedule.warmup_steps=1",
        *NARROW,
    ]
