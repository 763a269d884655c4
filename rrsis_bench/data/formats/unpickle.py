"""Reading annotation pickles without executing anything that they name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from rrsis_bench.errors import UserError

# Names of the built-in value types as Python 2 and 3 write them. All else, `copyreg` and `eval` included, is refused.
_PLAIN: dict[str, type] = {
    "set": set,
    "frozenset": frozenset,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "str": str,
    "unicode": str,
    "bytes": bytes,
    "bytearray": bytearray,
    "int": int,
    "long": int,
    "float": float,
    "complex": complex,
    "bool": bool,
}
_BUILTINS = ("builtins", "__builtin__")

# What the unpickler raises on bytes that are no pickle, or on half of one.
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
)


class _RefusedGlobalError(Exception):
    """A pickle names something that is not a plain built-in type."""


class _PlainUnpickler(pickle.Unpickler):
    """Admits plain containers, strings and numbers; every other name is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a plain built-in type or refuse."""
        if module in _BUILTINS and name in _PLAIN:
            return _PLAIN[name]
        raise _RefusedGlobalError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse references to objects outside the file."""
        raise _RefusedGlobalError(f"persistent id {pid!r}")


def load_plain_pickle(path: Path) -> Any:
    """Read a pickle of plain containers, strings and numbers (protocols 0 to 5, also as Python 2 wrote them).

    8-bit strings of Python 2 are read as UTF-8, or as Latin-1 where they are not valid UTF-8.

    Raises:
        UserError: the file is missing, truncated, no pickle, or names anything else than plain built-in types.
    """
    try:
        return _load(path, "utf-8")
    except UnicodeDecodeError:
        return _load(path, "latin-1")


def _load(path: Path, encoding: str) -> Any:
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding=encoding).load()
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
