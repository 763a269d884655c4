"""Turns the plain mappings of ``conf/size/*.yaml`` into a backbone's typed configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from rrsis_bench.errors import UserError

Config = TypeVar("Config")


def parse_config(cls: type[Config], values: Mapping[str, Any] | None, where: str) -> Config:
    """Build the frozen dataclass `cls` from `values`; fields that are not given keep the paper's size.

    Args:
        cls: a dataclass whose fields all have defaults.
        values: field name -> value, or None for the defaults. Lists become tuples.
        where: the configuration field that holds the mapping, for messages (``"vision"``).

    Raises:
        UserError: a key that the backbone does not know, or a value of the wrong type.
    """
    known = {field.name: field.default for field in fields(cls)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for key, value in (values or {}).items():
        if key in ("backbone", "tokenizer"):  # they choose the class and the tokenizer, and are no sizes
            continue
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise UserError(f"Unknown field '{where}.{key}'.{hint} Known fields: {', '.join(known)}.")
        given[key] = _checked(value, known[key], f"{where}.{key}")
    return cls(**given)


def _checked(value: Any, default: Any, where: str) -> Any:
    """`value` in the type of `default`, or a UserError that names the field."""
    if isinstance(default, tuple):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise UserError(f"'{where}' must be a list like {list(default)}, not {value!r}.")
        return tuple(_checked(item, default[0], where) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, type(default)) or isinstance(value, bool) != isinstance(default, bool):
        raise UserError(f"'{where}' must be {type(default).__name__} like {default!r}, not {value!r}.")
    return value
