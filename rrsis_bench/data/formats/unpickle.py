"""Reading annotation pickles without executing anything that they name."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from rrsis_bench.errors import UserError

MAX_BYTES = 2**27
"""The largest known file, NWPU-Refer's, has about 30 MB."""
MAX_DEPTH = 32
"""Lists and dicts inside each other. The known files have five levels."""

# What the unpickler raises on bytes that are no pickle, or on half of one.
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    AssertionError,
    struct.error,
    RecursionError,
    MemoryError,
)


class _RefusedGlobalError(Exception):
    """A pickle names something that is not a plain value."""


def _key(value: Any) -> Any:
    """Return a key or a set's member; ValueError for one that holds others, whose hash could take for ever."""
    if isinstance(value, str | bytes | int | float | complex | None):
        return value
    raise ValueError(f"a {type(value).__name__} is a key")


def _items(values: Any) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise ValueError("a set is not made of a list")
    return [_key(value) for value in values]


def _plain(name: str) -> Callable[..., Any]:
    """Return the maker of a value that old protocols write as a call; new each time, and with checked arguments."""

    def make_complex(real: Any, imaginary: Any) -> complex:
        if type(real) is not float or type(imaginary) is not float:
            raise ValueError("a complex number is not made of two numbers")
        return complex(real, imaginary)

    def make_set(values: Any) -> set[Any]:
        return set(_items(values))

    def make_frozenset(values: Any) -> frozenset[Any]:
        return frozenset(_items(values))

    makers: dict[str, Callable[..., Any]] = {"set": make_set, "frozenset": make_frozenset, "complex": make_complex}
    if name not in makers:
        raise _RefusedGlobalError(f"builtins.{name}")
    return makers[name]


# Codes that no plain value needs: objects, extensions, buffers, and one whose memory the file chooses.
_NEVER = (
    pickle.BUILD, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4,
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.BYTEARRAY8,
)  # fmt: skip


class _PlainUnpickler(pickle._Unpickler):
    """Admits plain containers, strings and numbers; every other name is refused before it is imported.

    The unpickler of pure Python: C's allocates as much as a file asks for, and hashes without a limit of depth.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if bytes([code]) not in _NEVER
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the maker of a plain value or refuse."""
        if module in ("builtins", "__builtin__"):
            return _plain(name)
        raise _RefusedGlobalError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse references to objects outside the file."""
        raise _RefusedGlobalError(f"persistent id {pid!r}")

    def load_dict(self) -> None:
        """Make a dict of the marked keys and values."""
        values = self.pop_mark()
        self.append({_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)})

    def load_setitem(self) -> None:
        """Set one item of the last dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._last(dict)[_key(key)] = value

    def load_setitems(self) -> None:
        """Set the marked items of the last dict."""
        values = self.pop_mark()
        found = self._last(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            found[_key(key)] = value

    def load_append(self) -> None:
        """Append one value to the last list."""
        value = self.stack.pop()
        self._last(list).append(value)

    def load_appends(self) -> None:
        """Append the marked values to the last list."""
        values = self.pop_mark()
        self._last(list).extend(values)

    def load_additems(self) -> None:
        """Add the marked values to the last set."""
        values = self.pop_mark()
        self._last(set).update(_items(values))

    def load_frozenset(self) -> None:
        """Make a frozenset of the marked values."""
        self.append(frozenset(_items(self.pop_mark())))

    def _last(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"a {type(self.stack[-1]).__name__} is filled like a {kind.__name__}")
        return self.stack[-1]

    dispatch |= {
        pickle.DICT[0]: load_dict, pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems,
        pickle.APPEND[0]: load_append, pickle.APPENDS[0]: load_appends, pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }  # fmt: skip


def _check_extent(value: Any, budget: int) -> None:
    """Refuse values that are nested too deeply, or that repeat a part until their text would never end."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for container in level:
            budget -= 1 + len(container)
            if budget < 0:
                raise ValueError("its parts repeat each other")
            members = container.values() if isinstance(container, dict) else container
            inner += [member for member in members if isinstance(member, dict | list | tuple)]
        level = inner
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def load_plain_pickle(path: Path) -> Any:
    """Read a pickle of plain containers, strings and numbers (protocols 0 to 5, also as Python 2 wrote them).

    8-bit strings of Python 2 are read as UTF-8, or as Latin-1 where they are not valid UTF-8.

    Raises:
        UserError: the file is missing, truncated, no pickle, or names anything else than plain values.
            Also: it is too large, too deep, or repeats its parts without end.
    """
    try:
        return _load(path, "utf-8")
    except UnicodeDecodeError:
        return _load(path, "latin-1")


def _load(path: Path, encoding: str) -> Any:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= MAX_BYTES else b""
        if size > MAX_BYTES:
            raise UserError(
                f"{path} has more than {MAX_BYTES:,} bytes, too many for an annotation file. Fetch it again."
            )
        value = _PlainUnpickler(io.BytesIO(data), encoding=encoding).load()
        if isinstance(value, dict | list | tuple):
            _check_extent(value, 1000 + 4 * len(data))
        return value
    except UnicodeDecodeError:
        if encoding == "utf-8":
            raise
        raise UserError(f"{path} is damaged or not a pickle. Fetch the file again.") from None
    except _RefusedGlobalError as error:
        raise UserError(
            f"{path} names '{error}', but annotation files hold plain lists, dicts, strings and numbers only. Nothing "
            "was executed. Fetch the file again from the dataset's own source; do not load it by other means."
        ) from None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    except _DAMAGED as error:
        raise UserError(f"{path} is truncated or not a pickle ({error}). Fetch the file again.") from None
