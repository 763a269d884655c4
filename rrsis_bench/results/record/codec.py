"""Dataclasses to JSON and back, strictly: every field present, none unknown, every value of its declared type."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rrsis_bench.errors import UserError

T = TypeVar("T")


def dumps(value: Any) -> str:
    """A dataclass instance as JSON text: declared order, two spaces, no NaN, a newline at the end."""
    return json.dumps(dataclasses.asdict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def loads(cls: type[T], text: str, where: str) -> T:
    """Read what `dumps` wrote.

    Args:
        cls: the dataclass.
        text: JSON.
        where: how an error message names the file.

    Raises:
        UserError: no JSON, a missing or unknown field, or a value of another type; all of them in one message.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}.") from error
    return decode(cls, data, where)


def decode(cls: type[T], data: Any, where: str) -> T:
    """Build a dataclass from parsed JSON; errors as in `loads`."""
    problems: list[str] = []
    value = _decode(cls, data, "", problems)
    if problems:
        raise UserError(f"{where} does not fit the schema:\n  " + "\n  ".join(problems))
    return value


def _decode(hint: Any, value: Any, path: str, problems: list[str]) -> Any:
    """`value` as `hint`; appends to `problems` and returns None where it does not fit."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (rest,) = [argument for argument in arguments if argument is not type(None)]
        return _decode(rest, value, path, problems)
    if origin is Literal:
        if value not in arguments:
            problems.append(f"{path or 'the record'} is {value!r}; expected one of: {', '.join(map(str, arguments))}")
        return value
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(hint, value, path, problems)
    if origin is dict and isinstance(value, dict):
        return {key: _decode(arguments[1], entry, _join(path, key), problems) for key, entry in value.items()}
    if origin is list and isinstance(value, list):
        return [_decode(arguments[0], entry, f"{path}[{index}]", problems) for index, entry in enumerate(value)]
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (str, bool) and isinstance(value, hint):
        return value
    name = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    problems.append(f"{path or 'the record'} is {value!r}; expected {name}")
    return None


def _decode_dataclass(cls: Any, value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{path or 'the record'} is {value!r}; expected an object with fields")
        return None
    hints = _hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    before = len(problems)
    problems += [f"missing field: {_join(path, name)}" for name in names if name not in value]
    problems += [f"unknown field: {_join(path, name)}" for name in value if name not in names]
    decoded = {name: _decode(hints[name], value[name], _join(path, name), problems) for name in names if name in value}
    return cls(**decoded) if len(problems) == before else None


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Resolved once per class: a record holds hundreds of rows of the same one."""
    return get_type_hints(cls)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)
