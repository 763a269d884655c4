"""Text that is safe for a terminal: no character of a file or a name moves the cursor, colours or hides anything.

The tables and messages go through `rrsis_bench.console`, which uses this module, too.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

# Control characters but the line feed and the tab, overrides of the text's direction, and halves of a character.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return text with a visible sign in place of each control character, such as ``␛`` for escape."""
    return _UNSAFE.sub(_sign, text)


def emit(text: str = "", *, error: bool = False, end: str = "\n") -> None:
    """Print text on the standard output, or on the standard error."""
    file = sys.stderr if error else sys.stdout
    file.write(printable(text) + end)
    file.flush()


def emit_json(value: Any) -> None:
    """Print a value as JSON, its control characters as escapes, so that none is lost."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    emit(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
