"""Hydra overrides as the user typed them: check their names and what they may change."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from rrsis_bench import registry
from rrsis_bench.errors import UserError, suggestion, unknown
from rrsis_bench.resources import names

# Overrides that change how weights are evaluated. All others are fixed by the training of a run.
_OF_EVALUATION = (
    "checkpoint", "protocol", "protocol.", "limit.test", "trainer", "trainer.", "leaderboards", "controls",
    "probes", "predictions", "launcher", "launcher.", "splits", "data.root", "data.cache", "data.cache_gb", "force",
)  # fmt: skip
# Overrides that name the model and the data of weights that belong to no run.
_OF_WEIGHTS = (
    "model", "model.", "size", "size.", "vision", "vision.", "text", "text.", "data", "data.", "phrase_matching",
    "experiment", "runs", "limit.val",
)  # fmt: skip
_SELECTION = ("protocol.selection_split", "protocol.selection_metric")


def choices(group: str) -> list[str]:
    """Return the names of a configuration group, such as ``data``."""
    return names(group)


def field_name(override: str) -> str:
    """Return the dotted field or group that an override sets."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def matches(name: str, entries: Sequence[str]) -> bool:
    """Return whether a field is one of `entries`; an entry that ends in a dot covers the fields below it."""
    return any(name == entry or (entry[-1] == "." and name.startswith(entry)) for entry in entries)


_ALSO = {
    "learning_rate": "lr",
    "bs": "batch_size",
    "batchsize": "batch_size",
    "num_epochs": "epochs",
    "workers": "num_workers",
}


def check_grammar(override: str) -> None:
    """Check that Hydra can read an override; UserError that shows the quoting."""
    try:
        OverridesParser.create().parse_overrides([override])
    except HydraException as error:
        raise quoting(override) from error


def quoting(override: str) -> UserError:
    """Return the error for a value with characters that Hydra's grammar reads as its own."""
    key, _, value = override.partition("=")
    inner = value.strip("\"'").replace('"', '\\"')
    shown = shlex.quote(f'{key}="{inner}"')
    return UserError(f"The value of {key or override} has a character that needs quotes. Write: {shown}")


def near_fields(name: str, known: Sequence[str]) -> str:
    """Return ``" Did you mean ...?"`` with fields that are spelt alike, or whose last part is the one of `name`."""
    last = name.rpartition(".")[2]
    wanted = {last, _ALSO.get(last, last)}
    same = [field for field in known if field.rpartition(".")[2] in wanted]
    return f" Did you mean {', '.join(same[:3])}?" if same else suggestion(name, known)


def check_names(overrides: Sequence[str]) -> None:
    """Check the named models, datasets, sizes, protocols and trainers.

    Raises:
        UserError: an unknown name, with suggestions.
    """
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if not value or "," in value or value == "null":
            continue
        if key == "model":
            registry.find(value)
        elif key in ("data", "size", "protocol", "trainer", "launcher") and value not in choices(key):
            raise unknown("dataset" if key == "data" else key, value, choices(key))


def check_evaluation(overrides: Sequence[str], run: str | None) -> None:
    """Check that overrides change only how weights are evaluated.

    Args:
        overrides: as the user typed them.
        run: the run that the weights belong to; None: weights from elsewhere, whose model and data may be named.

    Raises:
        UserError: an override that belongs to training.
    """
    allowed = _OF_EVALUATION if run else _OF_EVALUATION + _OF_WEIGHTS
    for override in overrides:
        name = field_name(override)
        if not matches(name, allowed) or name in _SELECTION:
            why = f"{run} has fixed '{name}' (config.yaml in its folder)" if run else f"'{name}' belongs to training"
            applies = ", ".join(dict.fromkeys(entry.rstrip(".") for entry in allowed))
            raise UserError(f"{override} does not apply to evaluation: {why}. Leave it out. What applies: {applies}.")
