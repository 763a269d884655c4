"""Words: realises a query as an English or Chinese referring expression, in the manner of RRSIS-D's sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rrsis_bench.data.text.categories import CHINESE_NAMES
from rrsis_bench.data.text.lexicon import spelt_out
from rrsis_bench.synthetic.language.semantics import Query

_CATEGORIES = (
    "airplane", "baseballfield", "basketballcourt", "bridge", "chimney", "groundtrackfield", "ship", "stadium",
    "storagetank", "tenniscourt", "vehicle", "windmill",
)  # fmt: skip
_WORDS = {name: " ".join(spelt_out(name)) for name in _CATEGORIES}
NOUNS: dict[str, dict[str, str]] = {name: {"en": words, "zh": CHINESE_NAMES[words]} for name, words in _WORDS.items()}
_MEASURE_ZH = {"airplane": "架", "bridge": "座", "chimney": "座", "ship": "艘", "stadium": "座", "vehicle": "辆"}
COLOURS_ZH = {
    "red": "红色",
    "blue": "蓝色",
    "white": "白色",
    "yellow": "黄色",
    "green": "绿色",
    "black": "黑色",
    "gray": "灰色",
    "orange": "橙色",
}
_PLACES_ZH = {
    "left": ("左侧", "左边"),
    "right": ("右侧", "右边"),
    "top": ("上方", "顶部"),
    "bottom": ("下方", "底部"),
    "middle": ("中间", "中央"),
    "top left": ("左上角", "左上方"),
    "top right": ("右上角", "右上方"),
    "bottom left": ("左下角", "左下方"),
    "bottom right": ("右下角", "右下方"),
}
_RELATIONS_ZH = {"left of": "左侧", "right of": "右侧", "above": "上方", "below": "下方"}
_SIDES_ZH = {"left": "左", "right": "右", "top": "上", "bottom": "下"}
# Most objects that an expression counts: people rarely give a larger number.
NUMBERS = {
    2: ("two", "两"),
    3: ("three", "三"),
    4: ("four", "四"),
    5: ("five", "五"),
    6: ("six", "六"),
    7: ("seven", "七"),
    8: ("eight", "八"),
}
RANKS = {2: ("second", "二"), 3: ("third", "三"), 4: ("fourth", "四")}
_PLACES_EN: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "on the left of the image"),
    "right": ("on the right", "on the right side", "on the right of the image"),
    "top": ("on the top", "at the top", "at the top of the image"),
    "bottom": ("on the bottom", "at the bottom", "at the bottom of the image"),
    "middle": ("in the middle", "in the middle of the image", "in the center"),
    "top left": ("on the top left", "on the upper left", "in the upper left corner"),
    "top right": ("on the top right", "on the upper right", "in the upper right corner"),
    "bottom left": ("on the bottom left", "on the lower left", "in the lower left corner"),
    "bottom right": ("on the bottom right", "on the lower right", "in the lower right corner"),
}
EXTREMES_EN = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "bottommost"}
_RELATIONS_EN: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of the", "on the left of the"),
    "right of": ("to the right of the", "on the right of the"),
    "above": ("above the", "on the upper side of the"),
    "below": ("below the", "on the lower side of the"),
}


class _Draws(Protocol):
    """Draws the template: a random generator, or a list of every choice."""

    def integers(self, high: int, /) -> int | np.integer[Any]:
        """Return a whole number below `high`."""


class _Listed:
    """Draws given numbers and remembers their bounds, to go through all templates."""

    def __init__(self, numbers: Sequence[int]):
        self._numbers, self.bounds = list(numbers), [0] * 0

    def integers(self, high: int, /) -> int:
        """See `_Draws`; 0 behind the end of the list."""
        self.bounds.append(high)
        place = len(self.bounds) - 1
        return self._numbers[place] if place < len(self._numbers) else 0


def _pick(rng: _Draws, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _plural(noun: str) -> str:
    return noun + "s"


def realise(query: Query, language: str, rng: _Draws) -> str:
    """Return the words of `query` in `language` ("en" or "zh"), one of several templates per kind."""
    return _english(query, rng) if language == "en" else _chinese(query, rng)


def realisations(query: Query, language: str) -> list[str]:
    """Return the words of `query` in every template, always in the same order."""
    found, numbers = [], [0]
    while numbers:
        draws = _Listed(numbers)
        found.append(realise(query, language, draws))
        numbers = (numbers + [0] * len(draws.bounds))[: len(draws.bounds)]
        while numbers and numbers[-1] + 1 == draws.bounds[len(numbers) - 1]:
            numbers.pop()
        if numbers:
            numbers[-1] += 1
    return found


def negated(query: Query, language: str, template: int, *, plural: bool) -> str | None:
    """Return the words for the objects of a category that do *not* have its one attribute.

    Args:
        query: of kind ``colour``, ``position`` or ``relation``.
        language: ``"en"`` or ``"zh"``.
        template: place of the query's own words in `realisations`, for the words of the attribute.
        plural: whether several objects are meant.

    Returns:
        None for another kind of query.
    """
    noun = NOUNS[query.category][language]
    words = realisations(query, language)[template]
    if query.kind not in ("colour", "position", "relation"):
        return None
    if language == "zh":
        every = "所有" if plural else ""
        if query.colour:
            return f"{every}不是{COLOURS_ZH[query.colour]}的{noun}"
        return f"{every}不在{words[: words.index('的')]}的{noun}"
    what = query.colour or words[words.index(noun) + len(noun) :].removeprefix("s").strip()
    return f"all the {_plural(noun)} that are not {what}" if plural else f"the {noun} that is not {what}"


def _english(query: Query, rng: _Draws) -> str:
    noun = NOUNS[query.category]["en"]
    if query.plural:
        noun = _plural(noun)
        article = f"the {NUMBERS[query.number][0]} " if query.number else _pick(rng, ("all the ", "all ", "the "))
    else:
        article = "the "
    if query.colour:
        noun = f"{query.colour} {noun}"
    if query.kind == "size":
        return f"{article}{query.size} {noun}"
    if query.kind == "extreme" and query.side:
        return f"{article}{EXTREMES_EN[query.side]} {noun}"
    if query.kind == "ordinal" and query.side and query.rank:
        return f"{article}{RANKS[query.rank][0]} {noun} from the {query.side}"
    if query.relation and query.anchor:
        return f"{article}{noun} {_pick(rng, _RELATIONS_EN[query.relation])} {NOUNS[query.anchor]['en']}"
    if query.place:
        return f"{article}{noun} {_pick(rng, _PLACES_EN[query.place])}"
    return f"{article}{noun}" if query.plural or query.colour else _pick(rng, (f"the {noun}", f"a {noun}"))


def _chinese(query: Query, rng: _Draws) -> str:
    noun = NOUNS[query.category]["zh"]
    measure = _MEASURE_ZH.get(query.category, "个")
    if query.colour:
        noun = COLOURS_ZH[query.colour] + noun
    if query.plural:
        noun = f"{NUMBERS[query.number][1]}{measure}{noun}" if query.number else f"所有{noun}"
    if query.kind == "size":
        return ("最大的" if query.size == "largest" else "最小的") + noun
    if query.kind == "extreme" and query.side:
        return f"最{_SIDES_ZH[query.side]}{_pick(rng, ('侧', '边'))}的{noun}"
    if query.kind == "ordinal" and query.side and query.rank:
        return f"从{_SIDES_ZH[query.side]}边数第{RANKS[query.rank][1]}{measure}{noun}"
    if query.relation and query.anchor:
        return f"{NOUNS[query.anchor]['zh']}{_RELATIONS_ZH[query.relation]}的{noun}"
    if query.place:
        return f"{_pick(rng, ('', '图像'))}{_pick(rng, _PLACES_ZH[query.place])}的{noun}"
    return noun
