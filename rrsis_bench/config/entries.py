"""Named entries of a recipe: functions and classes that a configuration picks by name, with typed options.

An entry of a recipe is a mapping such as ``{name: dice, weight: 0.1}``. To add one, decorate a function or class with
``@KIND.add("name")`` in the module of its kind. Its keyword-only parameters are its options. A parameter without a
default is required. Annotate a parameter with `Meaning` to describe it and to set its bounds.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Generic, TypeVar, cast, get_origin, get_type_hints

from rrsis_bench import codec
from rrsis_bench.config.fields import Affects, Meaning, check_bounds, setting
from rrsis_bench.errors import UserError, unknown

Result = TypeVar("Result")
Target = TypeVar("Target", bound=Callable[..., Any])


def option(
    text: str,
    *,
    unit: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Meaning:
    """Declare the meaning and the bounds of one keyword argument; every option affects training."""
    return Meaning(text, Affects.TRAINING, unit, at_least, above, at_most, below)


class Entries(Generic[Result]):
    """All entries of one kind.

    Args:
        field: dotted field of the configuration that names them, such as ``"train.loss"``.
        wrapper: called with the chosen entry as its first argument. Its keyword-only parameters are options of every
            entry. None: the entry itself is called.
    """

    def __init__(self, field: str, wrapper: Callable[..., Result] | None = None):
        self.field = field
        self._wrapper = wrapper
        self._targets: dict[str, Callable[..., Any]] = {}

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        """Return whether there is an entry `name`."""
        return name in self._targets

    def target(self, name: str) -> Any:
        """Return the function or class of entry `name`; KeyError if there is none."""
        return self._targets[name]

    def add(self, name: str) -> Callable[[Target], Target]:
        """Return a decorator that adds a function or class under `name`."""

        def decorate(target: Target) -> Target:
            if name in self._targets:
                raise ValueError(f"{self.field} has two entries '{name}'.")
            self._targets[name] = target
            return target

        return decorate

    def options(self, name: str) -> type[Any]:
        """Return a dataclass with the options of entry `name`; its fields are declared by `setting`."""
        declared = [(key, hint, parameter) for part in self._parts(name) for key, hint, parameter in _options(part)]
        fields = [(key, *_field(hint, parameter.default)) for key, hint, parameter in declared]
        return dataclasses.make_dataclass(name, fields, kw_only=True, frozen=True)

    def bind(self, entry: Mapping[str, Any], field: str | None = None) -> Callable[..., Result]:
        """Return the entry as a callable with all options filled in.

        Args:
            entry: ``name`` and options, as in the configuration.
            field: dotted name of this entry for messages.

        Raises:
            UserError: an unknown name, an unknown or missing option, or an option of a wrong type or out of bounds.
        """
        field = field or self.field
        name = entry.get("name")
        if name not in self._targets:
            raise unknown(f"{field}.name", str(name), self._targets)
        given = {key: value for key, value in entry.items() if key != "name"}
        options = codec.decode(self.options(name), given, f"{field} '{name}'", path=field, defaults=True)
        check_bounds(options, field)
        bound: Callable[..., Any] | None = None
        for part in self._parts(name):
            values = {key: getattr(options, key) for key, _, _ in _options(part)}
            bound = partial(part, **values) if bound is None else partial(part, bound, **values)
        assert bound is not None
        return bound

    def bind_all(self, entries: Iterable[Mapping[str, Any]]) -> list[Callable[..., Result]]:
        """Bind a list of entries, in order; errors as in `bind`, with the position of the entry."""
        return [self.bind(entry, f"{self.field}[{index}]") for index, entry in enumerate(entries)]

    def _parts(self, name: str) -> list[Callable[..., Any]]:
        return [self._targets[name], *([self._wrapper] if self._wrapper else [])]


def _options(target: Callable[..., Any]) -> list[tuple[str, Any, inspect.Parameter]]:
    """(name, annotation, parameter) of every keyword-only parameter."""
    hints = get_type_hints(cast(Any, target).__init__ if isinstance(target, type) else target, include_extras=True)
    parameters = inspect.signature(target).parameters.values()
    return [(p.name, hints[p.name], p) for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def _field(hint: Any, default: Any) -> tuple[Any, Any]:
    """(type, dataclass field) of an option."""
    known = option("")
    if get_origin(hint) is Annotated:
        hint, known = hint.__args__[0], hint.__metadata__[0]
    keep = dataclasses.MISSING if default is inspect.Parameter.empty else default
    values = {field.name: getattr(known, field.name) for field in dataclasses.fields(known)}
    return hint, setting(**values, default=keep)


def require_unique(field: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Raise UserError if two entries of a list have the same name."""
    names = [entry.get("name") for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{field} has more than one entry '{name}'. Remove all but one.")
