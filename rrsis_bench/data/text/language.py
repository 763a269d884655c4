"""The language of an expression, and its words."""

from __future__ import annotations

import re

LANGUAGES = ("en", "zh")

_CHINESE = re.compile("[\u4e00-\u9fff]")
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+")


_POSITIONS = """
left right top bottom upper lower middle center centre central north south east west northern southern eastern
western northeast northwest southeast southwest leftmost rightmost topmost bottommost uppermost lowermost corner
edge side above below
左 右 上 下 中 东 西 南 北 角 缘
"""
_NEIGHBOURHOODS = """
beneath under beside between behind front near nearest next adjacent closest furthest 旁 边
"""
POSITION_WORDS = frozenset(_POSITIONS.split())
"""Words that say where in the image something is, or on which side of another object."""

PLACE_WORDS = POSITION_WORDS | frozenset(_NEIGHBOURHOODS.split())
"""Words that say where something is. Hyphens divide words: "right-most" has the place word "right"."""

_PARTS = re.compile(r"[a-z]+|[\u4e00-\u9fff]")


def names_place(text: str, words: frozenset[str] = PLACE_WORDS) -> bool:
    """Return whether a text has a place word (or one of the lower-case `words`), in any letter case."""
    return not words.isdisjoint(_PARTS.findall(text.lower()))


def language_of(expression: str) -> str:
    """Return ``"zh"`` for a text with a Chinese character, else ``"en"``."""
    return "zh" if not expression.isascii() and _CHINESE.search(expression) else "en"


def words_of(expression: str) -> list[str]:
    """Split a text at spaces; every Chinese character is a word of its own."""
    return _WORD.findall(expression)
