"""Exchange of side words: what a sentence has to say after its image was mirrored or turned.

A table per language gives the side words, and rules say in which neighbourhood they mean a side. A sentence with a word
that may mean something else ("right next to", "a white top", "under the bridge", "桥上") is refused instead of changed.

Turns of an image, and where its sides go:

=============  ==========================================
``mirror``     left <-> right (east <-> west)
``upside``     top <-> bottom (north <-> south)
``quarter``    by 90 degrees against the clock: right -> top -> left -> bottom -> right
=============  ==========================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rrsis_bench.data.text.exchange_zh import ORDINAL_ZH, exchange_chinese
from rrsis_bench.data.text.lexicon import IMAGE_WORDS
from rrsis_bench.data.text.turned import Exchanged, Unclear

Turn = Literal["mirror", "upside", "quarter"]
TURNS: tuple[Turn, ...] = ("mirror", "upside", "quarter")

_MIRROR = {"left": "right", "east": "west"}
_UPSIDE = {"top": "bottom", "upper": "lower", "above": "below", "north": "south"}
# A quarter against the clock. `upper` and `lower` have no such form for left and right.
_QUARTER = {
    "left": "bottom", "right": "top", "top": "left", "bottom": "right", "upper": "left", "lower": "right",
    "north": "west", "west": "south", "south": "east", "east": "north",
}  # fmt: skip
_ENDS = ("most", "ern", "ernmost", "ward", "wards", "hand")  # leftmost, northern, westward, right-hand


def _both_ways(pairs: Mapping[str, str]) -> dict[str, str]:
    return dict(pairs) | {second: first for first, second in pairs.items()}


_STEMS = {"mirror": _both_ways(_MIRROR), "upside": _both_ways(_UPSIDE), "quarter": _QUARTER}
HORIZONTAL = frozenset(("left", "right"))
VERTICAL = frozenset(("top", "bottom", "upper", "lower"))
_SIDES = HORIZONTAL | VERTICAL
_COMPASS = re.compile(r"(north|south)?(north|south|east|west)(ern|ernmost|most|ward|wards)?")
_MIDDLE = frozenset(("middle", "center", "centre", "central"))
# Words beside a side word that show that it means a side.
_BEFORE = _MIDDLE | frozenset(
    ("the", "on", "at", "to", "in", "from", "toward", "towards", "far", "farther", "very", "extreme", "its", "their",
     "s", "most", "further", "and", "or")
)  # fmt: skip
_AFTER = _MIDDLE | frozenset(
    ("side", "sides", "edge", "corner", "part", "portion", "half", "section", "sections", "area", "quadrant", "region",
     "segment", "end", "third", "quarter", "hand", "most", "of", "one", "ones", "boundary", "border", "margin")
)  # fmt: skip
# Words behind a side word that show that it means something else: "right next to", "left behind", "top view".
_OTHER_AFTER = {
    **dict.fromkeys(("left", "right"), frozenset(
        ("next", "angle", "angles", "angled", "above", "below", "behind", "beside", "beneath", "under", "underneath",
         "before", "after", "through", "now", "away", "turn", "turns", "turning", "over", "by", "empty", "open", "out")
    )),
    **dict.fromkeys(("top", "bottom"), frozenset(("view", "floor", "deck", "layer", "cover", "roof", "surface"))),
}  # fmt: skip
# Words whose meaning a turn may change, and which have no exchange. "Under the bridge" stays true in a mirror.
_PHYSICAL = frozenset(
    ("under", "underneath", "beneath", "over", "atop", "up", "down", "upward", "upwards", "downward", "downwards",
     "front", "behind", "ahead", "underside")
)  # fmt: skip
_HANDED = frozenset(("clockwise", "counterclockwise", "anticlockwise"))
_ORDINALS = frozenset(("first", "second", "third", "fourth", "fifth", "sixth", "last"))
_LINES = {"row": "column", "column": "row", "rows": "columns", "columns": "rows"}
_LYING = {
    "horizontal": "vertical", "vertical": "horizontal", "horizontally": "vertically", "vertically": "horizontally",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+|\d+")
_OF = re.compile(  # left or right of an object, not of the image
    r"\b(?:to|on|at) the (left|right)(?: side)? of (?!(?:(?:the|an?|this|that|whole|entire) )*"
    rf"(?:{'|'.join(sorted(IMAGE_WORDS))})\b)(?=[a-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    """A word in lower case, its place in the text, and whether punctuation other than a hyphen comes before it."""

    text: str
    start: int
    end: int
    apart: bool


def exchange(expression: str, language: str, turn: Turn) -> Exchanged:
    """Return what an expression has to say about the turned image.

    Args:
        expression: about the image as it is.
        language: ``"en"`` or ``"zh"``.
        turn: of the image.

    Returns:
        The text, and how many words were exchanged: 0 if nothing in the expression depends on the turn.

    Raises:
        Unclear: a word of the expression may mean a side or something else.
    """
    if language == "zh":
        return exchange_chinese(expression, turn)
    tokens = _tokens(expression)
    for place in range(len(tokens)):
        _require_clear(tokens, place, turn)
    if turn == "quarter":
        return _quarter(expression)
    stems = _STEMS[turn]
    return _replaced(expression, tokens, lambda word: _of_word(word, stems))


def counts(expression: str, language: str) -> bool:
    """Return whether an expression counts objects: "the second ship from the left" may be the second from the right."""
    if language == "zh":
        return ORDINAL_ZH.search(expression) is not None
    return any(token.text in _ORDINALS for token in _tokens(expression))


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    end = 0
    for match in _WORD.finditer(text):
        between = text[end : match.start()].replace("-", "").replace("_", "").replace("'", "")
        found.append(_Token(match[0].lower(), match.start(), match.end(), bool(between.strip())))
        end = match.end()
    return found


def _neighbours(tokens: Sequence[_Token], place: int) -> tuple[str, str]:
    """Return the words before and behind, empty across punctuation and at the ends."""
    before = tokens[place - 1].text if place and not tokens[place].apart else ""
    follows = place + 1 < len(tokens) and not tokens[place + 1].apart
    return before, tokens[place + 1].text if follows else ""


def _require_clear(tokens: Sequence[_Token], place: int, turn: Turn) -> None:
    """Raise Unclear if the word at `place` may change its meaning with the turn and has no exchange."""
    word = tokens[place].text
    before, behind = _neighbours(tokens, place)
    if word in _HANDED or (word in _PHYSICAL and turn != "mirror"):
        raise Unclear(word)
    if turn == "quarter" and word in _LINES:
        raise Unclear(word)
    if word in _ORDINALS and before not in _SIDES and behind != "of":
        following = [token.text for token in tokens[place + 1 : place + 6]]
        if "from" not in following:  # reading order: "the second ship", "the first row"
            raise Unclear(word)
    _require_side(tokens, place, turn)


def _require_side(tokens: Sequence[_Token], place: int, turn: Turn) -> None:
    """Raise Unclear if the word at `place` is a side word of the turn, but may mean something else."""
    word = tokens[place].text
    before, behind = _neighbours(tokens, place)
    axes = {"mirror": HORIZONTAL, "upside": VERTICAL, "quarter": _SIDES}[turn]
    if word in ("above", "below") and turn != "mirror" and (before == "from" or behind.isdigit()):
        raise Unclear(f"{before} {word} {behind}".strip())
    if word not in axes:
        return
    shown = " ".join(filter(None, (before, word, behind)))
    if behind in _OTHER_AFTER.get(word, ()):
        raise Unclear(shown)
    if word in ("top", "bottom") and behind == "of":  # the top of the image, but not of a building
        rest = [token.text for token in tokens[place + 2 : place + 5] if token.text not in ("whole", "entire")]
        if not IMAGE_WORDS.intersection(rest[:2]):
            raise Unclear(f"{word} of {' '.join(rest[:2])}".strip())
    if not (before in _BEFORE | _SIDES or behind in _AFTER | _SIDES):
        raise Unclear(shown)


def _of_word(word: str, stems: Mapping[str, str]) -> str | None:
    """Return the exchange of a word in lower case; None if it stays."""
    if word in stems:
        return stems[word]
    compass = _COMPASS.fullmatch(word)
    if compass:
        first, second, end = compass.groups(default="")
        parts = (stems.get(first, first), stems.get(second, second))
        found = "".join(sorted(parts, key=("north", "south", "east", "west", "").index)) + end
        return None if found == word else found
    for end in _ENDS:
        if word.endswith(end) and word.removesuffix(end) in stems:
            return stems[word.removesuffix(end)] + end
    return None


def _replaced(text: str, tokens: Sequence[_Token], change: Callable[[str], str | None]) -> Exchanged:
    """Return `text` with every changed word, in its letter case."""
    out, last, count = [], 0, 0
    for token in tokens:
        new = change(token.text)
        if new is None:
            continue
        out += [text[last : token.start], _cased(new, text[token.start : token.end])]
        last, count = token.end, count + 1
    return Exchanged("".join([*out, text[last:]]), count)


def _cased(new: str, old: str) -> str:
    return new.upper() if old.isupper() and len(old) > 1 else new.capitalize() if old[0].isupper() else new


_PAIR_EN = re.compile(r"\b(upper|lower|top|bottom)([ -]+)(left|right)\b|\b(left|right)([ -]+)(top|bottom)\b", re.I)


def _quarter(text: str) -> Exchanged:
    """Exchange for a quarter turn, which takes a word of one axis to the other: "to the left of" becomes "below"."""
    count = 0
    marks: list[str] = []

    def done(new: str, old: str) -> str:
        """Hide a finished phrase behind a mark, so that its words are not exchanged again."""
        nonlocal count
        count += 1
        marks.append(_cased(new, old))
        return f"\x00{chr(0xE000 + len(marks) - 1)}"

    def relation(match: re.Match[str]) -> str:
        return done("below ", match[0]) if match[1].lower() == "left" else done("above ", match[0])

    def pair(match: re.Match[str]) -> str:
        vertical, horizontal = (match[1] or match[6]).lower(), (match[3] or match[4]).lower()
        names = ("lower", "upper") if vertical in ("upper", "lower") else ("bottom", "top")
        turned = names[horizontal == "right"], _QUARTER[vertical]
        gap = match[2] or match[5]
        return done(f"{turned[0]}{gap}{turned[1]}" if match[1] else f"{turned[1]}{gap}{turned[0]}", match[0])

    def vertical_relation(match: re.Match[str]) -> str:
        side = "left" if match[1].lower() == "above" else "right"
        return done(f"to the {side} of" if match[2] else f"to the {side}", match[0])

    text = _OF.sub(relation, text)
    text = re.sub(r"\b(above|below)\b(?=( [a-z])?)", vertical_relation, text, flags=re.I)
    text = _PAIR_EN.sub(pair, text)
    stems = _QUARTER | _LYING
    rest = _replaced(text, _tokens(text), lambda word: _of_word(word, stems))
    shown = re.sub("\x00([\ue000-\uf8ff])", lambda match: marks[ord(match[1]) - 0xE000], rest.text)
    return Exchanged(shown, rest.words + count)
