"""A row's label: the fields in which a configuration differs from its model's default.

The label is computed from the composed configuration, not from what was typed. A value that comes from a git-ignored
``conf/local``, a plugin or another folder of configurations shows in it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.fields import Affects
from rrsis_bench.config.hashes import affecting
from rrsis_bench.config.overrides import choices, matches
from rrsis_bench.config.schema import Config
from rrsis_bench.resources import CONF

_OWN_COLUMNS = ("model.name", "data.name")
_OF_EVALUATION = ("protocol.", "limit.test", "trainer.precision")


def settings(config: Config) -> dict[str, Any]:
    """Return dotted field -> value of every field that affects training or evaluation."""
    return affecting(config, Affects.TRAINING) | affecting(config, Affects.EVALUATION)


def variant(config: Config) -> tuple[str, ...]:
    """Return the fields that differ from the model's default on its dataset, size and protocol.

    The default is the suite's own: without ``conf/local``. The prefix ``model.args.`` is dropped, so that a model's
    switch reads ``gate=false``.
    """
    chosen = _choices(config)
    backbones = _backbones(config, chosen)
    default = dict(_leaves(settings(_composed(*chosen, *backbones))))
    own = dict(_leaves(settings(config)))
    absent = object()
    changed = [name for name in dict.fromkeys([*own, *default]) if own.get(name, absent) != default.get(name, absent)]
    labels = (
        f"{name.removeprefix('model.args.')}={_text(own.get(name))}" for name in changed if name not in _OWN_COLUMNS
    )
    return tuple(dict.fromkeys([*backbones, *labels]))


def evaluated_variant(trained: tuple[str, ...], scored: tuple[str, ...]) -> tuple[str, ...]:
    """Return the label of a training that is scored again: its own fields, and the fields of the new scoring."""
    new = [entry for entry in scored if matches(entry.partition("=")[0], _OF_EVALUATION)]
    kept = [entry for entry in trained if entry in new or not matches(entry.partition("=")[0], _OF_EVALUATION)]
    return tuple(dict.fromkeys([*kept, *new]))


def _choices(config: Config) -> list[str]:
    """Return the overrides that choose the configuration's model, dataset, size and protocol."""
    data = config.data.name if config.data.name in choices("data") else config.data.format
    groups = {"data": data, "size": config.size.name, "protocol": config.protocol.name}
    known = [f"{group}={name}" for group, name in groups.items() if name in choices(group)]
    without_local = ["~local"] if (CONF / "local").is_dir() else []  # Hydra knows a group by its folder
    return [f"model={config.model.name}", *known, *without_local]


def _backbones(config: Config, chosen: Sequence[str]) -> list[str]:
    """Return ``vision=<name>`` and ``text=<name>`` for backbones that are another file of ``conf``, unchanged."""
    found: list[str] = []
    for group in ("vision", "text"):
        own = getattr(config, group)
        if own == getattr(_composed(*chosen), group):
            continue
        same = (name for name in choices(group) if getattr(_composed(*chosen, f"{group}={name}"), group) == own)
        found += [f"{group}={name}" for name in list(same)[:1]]
    return found


@cache
def _composed(*overrides: str) -> Config:
    return compose_config(overrides)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
