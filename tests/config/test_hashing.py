"""Which fields make another run: every field is marked, and changing it moves exactly the hashes of its mark."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rrsis_bench.config.hashes import BEFORE, FIELDS, Affects, affects, hashes, leaves, run_id
from rrsis_bench.errors import UserError
from tests.fakes.config import compose

DEFAULT = ("model=fianet", "data=synthetic", "logger=wandb")
FIELD_NAMES = sorted(leaves(compose(*DEFAULT)))

# What must never, and what must always change the name of a run, whatever the table in hashing.py says.
NEVER = (
    "trainer.num_workers", "trainer.accelerator", "trainer.log_every", "trainer.cache_gb", "trainer.eval_batch_size",
    "trainer.checkpoint_every", "data.root", "runs.root", "results.root", "force", "logger.name", "logger.project",
    "model.card.title", "protocol.name", "controls", "seed",
)  # fmt: skip
TRAINS = (
    "train.optimizer.lr", "train.epochs", "train.batch_size", "train.eval_every", "train.loss", "train.freeze",
    "train.augment", "train.group_by_image", "model.name", "model.args.views.image", "model.args.max_tokens",
    "model.args.fiam", "model.args.swin.weights", "text.tokenizer", "text.vocab_size", "phrases",
    "data.name", "data.scenes.seed",
    "trainer.precision", "limit.train", "limit.val", "protocol.selection_metric", "protocol.selection_split",
    "protocol.resolution", "protocol.align_corners", "protocol.empty", "protocol.no_target_pixels",
)  # fmt: skip
SCORES_ONLY = ("protocol.strict", "limit.test")


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "other"]
    return f"{value}-other"


def put(config: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A copy of `config` with one dotted field replaced."""
    out = copy.deepcopy(config)
    *path, last = field.split(".")
    node = out
    for name in path:
        node = node[name]
    node[last] = value
    return out


@pytest.mark.parametrize("field", FIELD_NAMES)
def test_a_field_moves_the_hashes_of_its_mark_and_no_other(field):
    config = compose(*DEFAULT)
    before = hashes(config, "content", "1")
    after = hashes(put(config, field, changed(leaves(config)[field])), "content", "1")
    trains = Affects.TRAINING in affects(field)
    scores = trains or Affects.EVALUATION in affects(field)  # the eval_hash contains the train_hash
    assert (before[0] != after[0], before[1] != after[1]) == (trains, scores)


@pytest.mark.parametrize("field", [*NEVER, *TRAINS, *SCORES_ONLY])
def test_fields_whose_mark_is_not_a_matter_of_taste(field):
    config = compose(*DEFAULT)
    before = hashes(config, "content", "1")
    after = hashes(put(config, field, changed(leaves(config)[field])), "content", "1")
    moved = (before[0] != after[0], before[1] != after[1])
    assert moved == ((False, False) if field in NEVER else (field in TRAINS, True))


@pytest.mark.parametrize(("field", "value"), [("data.options.language", "zh"), ("data.options.merge", False)])
def test_how_the_files_are_read_changes_what_is_trained(field, value):
    config = compose("model=fianet", "data=nwpu_refer")
    before, after = hashes(config, "content", "1"), hashes(put(config, field, value), "content", "1")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_content_moves_both_and_metric_version_the_eval_hash_only():
    config = compose(*DEFAULT)
    before = hashes(config, "content", "1")
    assert all(a != b for a, b in zip(before, hashes(config, "other", "1"), strict=True))
    assert [a == b for a, b in zip(before, hashes(config, "content", "2"), strict=True)] == [True, False]


@pytest.mark.parametrize("field", BEFORE)
def test_a_field_that_came_later_leaves_the_rows_of_before_where_they_are(field):
    config = compose(*DEFAULT)
    *path, last = field.split(".")
    old = copy.deepcopy(config)
    node = old
    for name in path:
        node = node[name]
    assert node.pop(last) == BEFORE[field], "the default is what records from before were made with"
    assert hashes(old, "content", "1") == hashes(config, "content", "1")


def test_key_order_moves_nothing():
    config = compose(*DEFAULT)
    turned = dict(reversed(config.items()))
    turned["train"] = dict(reversed(config["train"].items()))
    assert hashes(config, "content", "1") == hashes(turned, "content", "1")


def test_an_unmarked_field_stops_the_run():
    with pytest.raises(UserError, match="'novelty.knob' is not marked"):
        hashes({**compose(*DEFAULT), "novelty": {"knob": 1}}, "content", "1")


def test_longest_prefix_wins_and_every_mark_is_used():
    assert affects("model.args.swin.window") == Affects.TRAINING
    assert affects("protocol.name") == Affects.NOTHING
    names = set(FIELD_NAMES) | set(leaves(compose("data=rrsisd", "model=lavt", "size=tiny")))
    names |= set(leaves(compose("data=nwpu_refer"))) | set(leaves(compose("data=refsegrs")))
    names |= {"text.tokenizer"}  # only models with a text tower of their own have it
    unused = [mark for mark in FIELDS if not any(name == mark or name.startswith(f"{mark}.") for name in names)]
    assert unused == []


def test_run_id_names_model_data_size_seed_and_hash():
    config = compose("model=lavt", "data=synthetic", "seed=3")
    assert run_id(config, "0123456789abcdef") == "lavt-synthetic-tiny-s3-01234567"
