"""The language of an expression, and its words."""

from __future__ import annotations

import re

LANGUAGES = ("en", "zh")

_CHINESE = re.compile("[\u4e00-\u9fff]")
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+")


def language_of(expression: str) -> str:
    """Return ``"zh"`` for a text with a Chinese character, else ``"en"``."""
    return "zh" if not expression.isascii() and _CHINESE.search(expression) else "en"


def words_of(expression: str) -> list[str]:
    """Split a text at spaces; every Chinese character is a word of its own."""
    return _WORD.findall(expression)
