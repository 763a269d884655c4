"""Which fields make another run: a field changes the hashes that it declares to affect, and no other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from rrsis_bench.config.fields import Affects, affects, leaves
from rrsis_bench.config.hashes import eval_hash, run_id, train_hash
from rrsis_bench.config.schema import Config
from tests.fakes.config import parsed

DEFAULT = ("model=fianet", "data=synthetic", "logger=wandb")
LEAVES = {name: affects(field) for name, _, field in leaves(Config)}

# Fields that must never, and fields that must always change the name of a run, whatever they declare.
NEVER = (
    "trainer.num_workers", "trainer.accelerator", "trainer.log_every", "trainer.cache_gb", "trainer.eval_batch_size",
    "trainer.checkpoint_every", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "data.root", "runs",
    "leaderboards", "force", "logger.name", "logger.project",
    "model.card", "protocol.name", "controls", "seed",
)  # fmt: skip
TRAINS = (
    "train.version", "train.epochs", "train.batch_size", "train.accumulate", "train.eval_every", "train.loss",
    "train.optimizer", "train.schedule", "train.freeze", "train.augment", "train.group_by_image", "model.name",
    "model.args", "text", "phrase_matching", "data.name", "data.synthetic", "data.options", "trainer.precision",
    "limit.train", "limit.val", "protocol.selection_metric", "protocol.selection_split", "protocol.resolution",
    "protocol.align_corners", "protocol.empty", "protocol.no_target_pixels",
)  # fmt: skip
SCORES_ONLY = ("protocol.strict", "limit.test")


def changed(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list | tuple):
        return [*value, "other"]
    return {**value, "other": 1} if isinstance(value, dict) else f"{value}-other"


def put(node: Any, field: str, change: Any = changed) -> Any:
    """Return a copy of a configuration with one dotted field changed."""
    first, _, rest = field.partition(".")
    value = getattr(node, first)
    return dataclasses.replace(node, **{first: put(value, rest, change) if rest else change(value)})


def hashes(config: Config, fingerprint: str = "content", version: str = "1", **others: int) -> tuple[str, str]:
    trained = train_hash(config, fingerprint, **{"model_version": 1, **others})
    return trained, eval_hash(config, trained, version)


def moved(before: tuple[str, str], after: tuple[str, str]) -> tuple[bool, bool]:
    return before[0] != after[0], before[1] != after[1]


@pytest.mark.parametrize("field", LEAVES)
def test_a_field_moves_the_hashes_that_it_declares_and_no_other(field):
    config = parsed(*DEFAULT)
    trains = Affects.TRAINING in LEAVES[field]
    scores = trains or Affects.EVALUATION in LEAVES[field]  # the eval hash contains the train hash
    assert moved(hashes(config), hashes(put(config, field))) == (trains, scores)


@pytest.mark.parametrize("field", [*NEVER, *TRAINS, *SCORES_ONLY])
def test_fields_whose_effect_is_not_a_matter_of_taste(field):
    config = parsed(*DEFAULT)
    expected = (False, False) if field in NEVER else (field in TRAINS, True)
    assert moved(hashes(config), hashes(put(config, field))) == expected


def test_content_and_the_models_version_move_both_and_the_metric_version_the_eval_hash_only():
    before = hashes(config := parsed(*DEFAULT))
    assert moved(before, hashes(config, "other")) == (True, True)
    assert moved(before, hashes(config, model_version=2)) == (True, True)
    assert moved(before, hashes(config, version="2")) == (False, True)


def test_key_order_moves_nothing():
    config = parsed(*DEFAULT)
    turned = put(config, "model.args", lambda args: dict(reversed(args.items())))
    assert hashes(config) == hashes(turned)


def test_run_id_names_model_data_size_seed_and_hash():
    config = parsed("model=lavt", "data=synthetic", "seed=3")
    assert run_id(config, "0123456789abcdef") == "lavt-synthetic-tiny-s3-01234567"
