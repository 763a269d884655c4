"""The one exception type whose message is written for a person, and the parts of such messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A problem that the user can solve. The message says what is wrong, in which file or field, and what to do.

    Entry points print it without a traceback and exit with code 2.
    """


def reason(error: BaseException) -> str:
    """Return the first line of what an error of a library says, or the error's type if it says nothing."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the device or of the machine is used up."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's; this module does not import torch
        or (isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text))
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean a, b?"`` with the known names closest to `name`, or an empty string."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3)
    return f" Did you mean {', '.join(by_folded[match] for match in close)}?" if close else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name: suggestions first, then every known name.

    Args:
        kind: what the name should be, such as ``"model"``.
        name: the name that was given.
        known: all valid names, in the order in which they are listed.
    """
    available = list(known)
    return UserError(f"Unknown {kind} '{name}'.{suggestion(name, available)}\nAvailable: {', '.join(available)}")
