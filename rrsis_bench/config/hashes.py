"""The two hashes of a run, from the fields that affect its results.

The train hash identifies a training, the eval hash a training and its scoring. The number of workers, the device or a
folder change neither. Every field of `rrsis_bench.config.schema` declares which results it affects.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from rrsis_bench.config.fields import Affects, affects, leaves
from rrsis_bench.config.schema import Config


def digest(values: Any) -> str:
    """Return the sha256 (hex) of a JSON-ready value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def affecting(config: Config, results: Affects) -> dict[str, Any]:
    """Return dotted field -> value of the fields that affect `results`."""
    return {name: _value(config, name) for name, _, field in leaves(Config) if results in affects(field)}


def train_hash(config: Config, fingerprint: str, *, model_version: int) -> str:
    """Return the hash of a training; neither the seed nor the number of devices is part of it.

    Devices share the batch of the recipe, so that a training on several of them is the same training.

    Args:
        config: of the run.
        fingerprint: the dataset's content hash; other content makes another row.
        model_version: ``version`` of the model class.
    """
    recipe = config.train
    return digest(
        {
            "config": affecting(config, Affects.TRAINING),
            "fingerprint": fingerprint,
            "model_version": model_version,
            "effective_batch": recipe.batch_size * recipe.accumulate,
        }
    )


def eval_hash(config: Config, trained: str, metric_version: str) -> str:
    """Return the hash of a training, given by its hash, and of its scoring."""
    return digest({"train": trained, "config": affecting(config, Affects.EVALUATION), "metric_version": metric_version})


def run_id(config: Config, trained: str) -> str:
    """Return ``<model>-<data>-<size>-s<seed>-<first 8 characters of the train hash>``."""
    return f"{config.model.name}-{config.data.name}-{config.size.name}-s{config.seed}-{trained[:8]}"


def scored_id(run: str, split: str) -> str:
    """Return the id of a run's record on a split: that of the run for ``test``, with the split behind it for others."""
    return run if split == "test" else f"{run}-{split}"


def _value(config: Config, name: str) -> Any:
    value: Any = config
    for step in name.split("."):
        value = getattr(value, step)
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
