"""Declares one configuration field: its meaning, its unit, its bounds, and which results it affects."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Flag
from typing import Any, get_type_hints

from rrsis_bench.errors import UserError

_KEY = "rrsis_bench"
LARGEST = 2**31 - 1
"""Upper bound of a number that declares none: beyond it, libraries overflow or wait for ever."""


class Affects(Flag):
    """Which results change with a field; the two hashes of a run are built from it."""

    NOTHING = 0
    TRAINING = 1
    EVALUATION = 2
    BOTH = 3


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is known of a field beside its type.

    Attributes:
        text: one sentence for a person.
        affects: which results change with it; None for a section, whose fields say it.
        unit: ``"pixels"``, ``"GB"``, ...; empty for names and switches.
        at_least: smallest value, included.
        above: largest value that is too small, excluded.
        at_most: largest value, included; `LARGEST` if no upper bound is given.
        below: smallest value that is too large, excluded.
    """

    text: str
    affects: Affects | None
    unit: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None


def setting(
    text: str,
    affects: Affects | None,
    *,
    unit: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    default: Any = dataclasses.MISSING,
    factory: Any = dataclasses.MISSING,
) -> Any:
    """Declare a field of a configuration dataclass; see `Meaning` for the arguments.

    Args:
        text: what it means.
        affects: which results change with it.
        unit: of the value.
        at_least: smallest value.
        above: excluded lower bound.
        at_most: largest value.
        below: excluded upper bound.
        default: for a node that the YAML files may leave out.
        factory: called for the default of such a node.
    """
    known = Meaning(text, affects, unit, at_least, above, at_most, below)
    return dataclasses.field(default=default, default_factory=factory, metadata={_KEY: known})


def section(text: str, factory: Any = dataclasses.MISSING) -> Any:
    """Declare a field that holds another configuration dataclass; `factory` makes one that the files leave out."""
    return dataclasses.field(default_factory=factory, metadata={_KEY: Meaning(text, None)})


def meaning(field: dataclasses.Field[Any]) -> Meaning:
    """Return what a field was declared with; KeyError if it was not declared by `setting` or `section`."""
    found: Meaning = field.metadata[_KEY]
    return found


def affects(field: dataclasses.Field[Any]) -> Affects:
    """Return which results a field affects; a section affects nothing by itself."""
    return meaning(field).affects or Affects.NOTHING


def leaves(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Yield (dotted name, type, field) of every field that is no section, in declared order."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = f"{prefix}.{field.name}" if prefix else field.name
        if dataclasses.is_dataclass(hints[field.name]) and meaning(field).affects is None:
            yield from leaves(hints[field.name], name)
        else:
            yield name, hints[field.name], field


def check_bounds(node: Any, prefix: str = "") -> None:
    """Check every number of a decoded configuration against its declared bounds; numbers in lists and mappings too.

    Raises:
        UserError: naming the first field that is out of bounds.
    """
    for field in dataclasses.fields(node):
        value, known = getattr(node, field.name), meaning(field)
        name = f"{prefix}.{field.name}" if prefix else field.name
        if known.affects is None:
            check_bounds(value, name)
        else:
            _check_value(value, known, name)


def _check_value(value: Any, known: Meaning, name: str) -> None:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_value(entry, known, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            _check_value(entry, known, f"{name}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, known, name)


def _check_number(value: float, known: Meaning, name: str) -> None:
    if not math.isfinite(value):
        raise UserError(f"{name}={value} must be a finite number.")
    if known.at_least is not None and value < known.at_least:
        raise UserError(f"{name}={value} must be at least {known.at_least:g}{_unit(known)}.")
    if known.above is not None and value <= known.above:
        raise UserError(f"{name}={value} must be above {known.above:g}{_unit(known)}.")
    if known.below is not None and value >= known.below:
        raise UserError(f"{name}={value} must be below {known.below:g}{_unit(known)}.")
    most = LARGEST if known.at_most is None else known.at_most
    if value > most:
        raise UserError(f"{name}={value} must be at most {most:.10g}{_unit(known)}.")


def _unit(known: Meaning) -> str:
    return f" {known.unit}" if known.unit else ""
