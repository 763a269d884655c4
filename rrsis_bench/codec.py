"""Typed plain data: dataclasses from parsed JSON or YAML and back, strictly, with every problem in one message.

Records, the configuration and cards are all dataclasses that are read here. A field is present, known and of its
declared type, or the message names it by its dotted path. Supported types: bool, int, float, str, None, Any, Literal,
``X | None``, list, tuple, dict with str keys, and nested dataclasses.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rrsis_bench.errors import UserError, suggestion

T = TypeVar("T")
_PLAIN = {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}


_OPTIONAL = "optional"


def optional() -> Any:
    """Declare a dataclass field that is None by default, is left out of JSON if it is None, and may be missing there.

    For values that were added to records later: earlier records, and their hashes, stay as they are.
    """
    return dataclasses.field(default=None, metadata={_OPTIONAL: True})


def dumps(value: Any) -> str:
    """Return a dataclass instance as JSON: declared order, two spaces of indent, no NaN, a newline at the end."""
    return json.dumps(value, default=_fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def compact(value: Any) -> str:
    """Return a dataclass instance as JSON without spaces, for hashes."""
    return json.dumps(value, default=_fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance; TypeError for anything else that JSON does not know."""
    found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for field in dataclasses.fields(value):
        if _OPTIONAL in field.metadata and found[field.name] is None:
            del found[field.name]
    return found


def loads(cls: type[T], text: str, where: str, *, defaults: bool = False) -> T:
    """Read what `dumps` wrote.

    Args:
        cls: the dataclass.
        text: JSON.
        where: how an error message names the source, such as ``"The record <path>"``.
        defaults: a field with a default may be missing.

    Raises:
        UserError: no JSON, a missing or unknown field, or a value of another type; all of them in one message.
    """
    try:
        data = parse_json(text)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}.") from error
    return decode(cls, data, where, defaults=defaults)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that somebody else wrote.

    Raises:
        ValueError: no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """Parse YAML that somebody else may have written; ValueError as `parse_json`."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def decode(cls: type[T], data: Any, where: str, *, path: str = "", defaults: bool = False) -> T:
    """Build a dataclass from parsed JSON or YAML.

    Args:
        cls: the dataclass.
        data: plain containers.
        where: how an error message names the source.
        path: dotted path of `data` within it, put before every field's name.
        defaults: a field with a default may be missing.

    Raises:
        UserError: a missing or unknown field, or a value of another type; all of them in one message.
    """
    problems: list[str] = []
    value = _Decoder(problems, defaults).decode(cls, data, path)
    if len(problems) == 1:
        raise UserError(f"{where} does not fit its fields: {problems[0].rstrip('.')}.")
    if problems:
        raise UserError(f"{where} does not fit its fields:\n  " + "\n  ".join(problems))
    assert isinstance(value, cls)
    return value


class _Decoder:
    """Collects problems while it decodes, so that one message names all of them."""

    def __init__(self, problems: list[str], defaults: bool):
        self.problems, self.defaults = problems, defaults

    def decode(self, hint: Any, value: Any, path: str) -> Any:
        """Return `value` as `hint`; add to `problems` and return None if it does not fit."""
        origin, arguments = get_origin(hint), get_args(hint)
        if hint is Any:
            return value
        if origin in (Union, types.UnionType):
            if value is None and type(None) in arguments:
                return None
            rest = [argument for argument in arguments if argument is not type(None)]
            for argument in rest[:-1]:  # the last member reports the problem
                attempt = _Decoder([], self.defaults)
                decoded = attempt.decode(argument, value, path)
                if not attempt.problems:
                    return decoded
            return self.decode(rest[-1], value, path)
        if origin is Literal:
            if value not in arguments or isinstance(value, bool) != any(isinstance(a, bool) for a in arguments):
                self.problems.append(f"{path or 'the value'} is {value!r}; expected one of: {_names(arguments)}")
            return value
        if dataclasses.is_dataclass(hint):
            return self._dataclass(hint, value, path)
        if (hint is dict or origin is dict) and isinstance(value, Mapping):
            inner = arguments[1] if arguments else Any
            return {str(key): self.decode(inner, entry, _join(path, str(key))) for key, entry in value.items()}
        if origin in (list, tuple) and isinstance(value, list | tuple):
            return self._sequence(origin, arguments, value, path)
        if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        if hint is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if hint in (str, bool) and isinstance(value, hint):
            return value
        self.problems.append(f"{path or 'the value'} is {value!r}; expected {_type_name(hint, origin)}")
        return None

    def _sequence(self, origin: Any, arguments: tuple[Any, ...], value: list[Any] | tuple[Any, ...], path: str) -> Any:
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if len(value) != len(arguments):
                self.problems.append(f"{path} has {len(value)} values; expected {len(arguments)}")
                return None
            hints = list(arguments)
        else:
            hints = [arguments[0]] * len(value)
        pairs = zip(hints, value, strict=True)
        return origin(self.decode(inner, entry, f"{path}[{index}]") for index, (inner, entry) in enumerate(pairs))

    def _dataclass(self, cls: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            self.problems.append(f"{path or 'the value'} is {value!r}; expected an object with fields")
            return None
        hints = _hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        before = len(self.problems)
        for name, field in fields.items():
            if name not in value and not (self.defaults and _has_default(field)) and _OPTIONAL not in field.metadata:
                self.problems.append(f"missing field: {_join(path, name)}")
        for name in value:
            if name not in fields:
                self.problems.append(f"unknown field: {_join(path, str(name))}.{suggestion(str(name), fields)}")
        decoded = {name: self.decode(hints[name], value[name], _join(path, name)) for name in fields if name in value}
        return cls(**decoded) if len(self.problems) == before else None


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Type hints, resolved once per class: a record holds hundreds of rows of the same one."""
    return get_type_hints(cls)


def _names(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))


def _type_name(hint: Any, origin: Any) -> str:
    if hint in _PLAIN:
        return _PLAIN[hint]
    return hint.__name__ if isinstance(hint, type) and origin is None else str(hint).replace("typing.", "")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
