"""Which configuration fields change a result: an allow-list, and the two hashes built from it.

Every field of the composed configuration is marked below. `train_hash` names what was trained, `eval_hash` what was
trained and how it was scored; the number of workers, the device or a folder's name change neither. A field without a
mark stops the run (and a test), because guessing would either split one table row in two or merge two into one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Flag
from typing import Any

from rrsis_bench.errors import UserError


class Affects(Flag):
    """What a field changes."""

    NOTHING = 0
    TRAINING = 1
    EVALUATION = 2
    BOTH = 3


# Longest matching prefix wins.
FIELDS: dict[str, Affects] = {
    "model.name": Affects.TRAINING,
    "model.args": Affects.TRAINING,
    "model.card": Affects.NOTHING,
    "size": Affects.NOTHING,  # reaches the model through model.args
    "backbones": Affects.NOTHING,
    "vision": Affects.NOTHING,
    "text": Affects.NOTHING,
    "text.tokenizer": Affects.TRAINING,
    "text.vocab_size": Affects.TRAINING,  # of the vocabulary that the training expressions give
    "phrases": Affects.TRAINING,
    "data.name": Affects.TRAINING,
    "data.format": Affects.TRAINING,
    "data.scenes": Affects.TRAINING,
    "data.options": Affects.TRAINING,  # what the format's reader makes of the files
    "data.cache": Affects.NOTHING,  # where resized views are kept; their pixels are the same
    "data.cache_gb": Affects.NOTHING,
    "data.root": Affects.NOTHING,  # the content counts: see `fingerprint`
    "data.counts": Affects.NOTHING,
    "data.card": Affects.NOTHING,
    "data.notes": Affects.NOTHING,  # what every record of the dataset tells its readers
    "train": Affects.TRAINING,
    "trainer": Affects.NOTHING,
    "trainer.precision": Affects.TRAINING,
    "protocol": Affects.EVALUATION,
    "protocol.name": Affects.NOTHING,  # a name; the values below it count
    "protocol.selection_split": Affects.BOTH,
    "protocol.selection_metric": Affects.BOTH,
    "protocol.resolution": Affects.BOTH,  # val is scored by it too, so it picks the checkpoint
    "protocol.align_corners": Affects.BOTH,
    "protocol.empty": Affects.BOTH,
    "protocol.no_target_pixels": Affects.BOTH,
    "limit.train": Affects.TRAINING,
    "limit.val": Affects.TRAINING,
    "limit.test": Affects.EVALUATION,
    "seed": Affects.NOTHING,  # part of the run id; a table row averages over seeds
    "checkpoint": Affects.NOTHING,  # `evaluate` hashes the weights themselves
    "controls": Affects.NOTHING,
    "predictions": Affects.NOTHING,
    "force": Affects.NOTHING,
    "logger": Affects.NOTHING,
    "runs": Affects.NOTHING,
    "results": Affects.NOTHING,
}

# Fields that came after the first records, with the value at which training is what it was without them: at it they are
# left out of the hashes, so that rows from before stay rows of today's configuration.
BEFORE: dict[str, Any] = {"train.group_by_image": False}


def affects(field: str) -> Affects:
    """The mark of a dotted field; UserError where it has none."""
    prefix = field
    while prefix:
        if prefix in FIELDS:
            return FIELDS[prefix]
        prefix = prefix.rpartition(".")[0]
    raise UserError(
        f"The configuration field '{field}' is not marked as affecting the result or not. Mark it in "
        "rrsis_bench/config/hashes.py, or remove the field."
    )


def leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted fields; lists count as values."""
    if isinstance(values, Mapping) and values:
        out: dict[str, Any] = {}
        for key, value in values.items():
            out |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
        return out
    return {prefix: values}


def digest(values: Any) -> str:
    """Hex sha256 of a JSON-ready value, independent of key order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hashes(config: Mapping[str, Any], fingerprint: str, metric_version: str) -> tuple[str, str]:
    """(train_hash, eval_hash) of a resolved configuration.

    Args:
        config: the composed configuration as plain containers.
        fingerprint: the dataset's content hash; another content is another row.
        metric_version: part of the eval_hash.
    """
    fields = {key: value for key, value in leaves(config).items() if key not in BEFORE or value != BEFORE[key]}
    train = {key: value for key, value in fields.items() if Affects.TRAINING in affects(key)}
    evaluation = {key: value for key, value in fields.items() if Affects.EVALUATION in affects(key)}
    train_hash = digest({"config": train, "fingerprint": fingerprint})
    return train_hash, digest({"train": train_hash, "config": evaluation, "metric_version": metric_version})


def run_id(config: Mapping[str, Any], train_hash: str) -> str:
    """``<model>-<data>-<size>-s<seed>-<first 8 of the train hash>``."""
    return (
        f"{config['model']['name']}-{config['data']['name']}-{config['size']['name']}"
        f"-s{config['seed']}-{train_hash[:8]}"
    )
