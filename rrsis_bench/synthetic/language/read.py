"""Reads an expression: the inverse of `realise`, which also reads rewordings, negations and typing errors.

It looks for words, not for templates, so that it understands what `rrsis_bench.data.text` makes of an expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rrsis_bench.data.text.categories import RRSISD
from rrsis_bench.data.text.lexicon import category_forms
from rrsis_bench.data.text.reword import HOMOPHONES
from rrsis_bench.synthetic.language.realise import COLOURS_ZH, EXTREMES_EN, NOUNS, NUMBERS, RANKS
from rrsis_bench.synthetic.language.semantics import RELATIONS, Query


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an expression says: the objects of `query`, or with `negated` those of its category that do not fit it."""

    query: Query
    negated: bool = False


_FORMS = {form: name for name in NOUNS for form in category_forms(name, RRSISD[name])}
_SINGULAR = {tuple(names["en"].split()) for names in NOUNS.values()}
_SINGULAR |= {tuple(alias.split()) for name in NOUNS for alias in RRSISD[name]}
_SIDES = {
    "left": "left", "right": "right", "top": "top", "upper": "top", "above": "top", "bottom": "bottom",
    "lower": "bottom", "below": "bottom", "middle": "middle", "center": "middle",
}  # fmt: skip
_SIDE_OF_RELATION = dict(zip(("left", "right", "top", "bottom"), RELATIONS, strict=True))
_EXTREMES = {word: side for side, word in EXTREMES_EN.items()}
_ORDINALS = {words[0]: rank for rank, words in RANKS.items()}
_NUMBERS = {words[0]: number for number, words in NUMBERS.items()}
_VOCABULARY = frozenset(
    [word for form in _FORMS for word in form]
    + [*COLOURS_ZH, *_SIDES, *_EXTREMES, *_ORDINALS, *_NUMBERS, "largest", "smallest", "all", "not", "from", "side"]
    + ["image", "corner", "located", "that", "are", "the"]
)
_SIDES_ZH = {"左": "left", "右": "right", "上": "top", "顶": "top", "下": "bottom", "底": "bottom", "中": "middle"}
_INTENDED = {wrong: right for right, wrong in HOMOPHONES.items()}


def read(text: str, language: str) -> Meaning | None:
    """Return the meaning of an expression about a synthetic scene; None if it names no category."""
    return _english(text) if language == "en" else _chinese(text)


def _place(sides: Iterable[str]) -> str | None:
    """Return the place of some sides, such as ``top left``; None if there is none."""
    found = dict.fromkeys(sides)
    order = [side for side in ("top", "bottom", "left", "right") if side in found]
    return " ".join(order) or ("middle" if "middle" in found else None)


def _english(text: str) -> Meaning | None:
    words = [_spelt(word) for word in re.findall("[a-z]+", text.lower())]
    nouns: list[tuple[str, bool]] = []  # category, plural
    rest: list[str] = []
    place = 0
    while place < len(words):
        form = next(
            (tuple(words[place : place + size]) for size in (3, 2, 1) if tuple(words[place : place + size]) in _FORMS),
            None,
        )
        if form is None:
            rest.append(words[place])
            place += 1
        else:
            nouns.append((_FORMS[form], form not in _SINGULAR))
            place += len(form)
    if not nouns:
        return None
    (category, plural), anchor = nouns[0], nouns[1][0] if len(nouns) > 1 else None
    sides = [_SIDES[word] for word in rest if word in _SIDES]
    colour = next((word for word in rest if word in COLOURS_ZH), None)
    number = next((_NUMBERS[word] for word in rest if word in _NUMBERS), None)
    size = next((word for word in rest if word in ("largest", "smallest")), None)
    extreme = next((_EXTREMES[word] for word in rest if word in _EXTREMES), None)
    rank = next((_ORDINALS[word] for word in rest if word in _ORDINALS), None)
    return _meaning(category, anchor, sides, colour, number, size, extreme, rank, plural, "not" in rest)


def _chinese(text: str) -> Meaning | None:
    text = "".join(_INTENDED.get(letter, letter) for letter in text)
    found = sorted(
        (match.start(), -len(names["zh"]), name)
        for name, names in NOUNS.items()
        for match in re.finditer(names["zh"], text)
    )
    if not found:
        return None
    start, length, category = found[-1]
    anchor = found[0][2] if len(found) > 1 else None
    rest = text[:start] + text[start - length :]
    if anchor:
        rest = rest.replace(NOUNS[anchor]["zh"], "", 1)
    counted = re.search("从([左右上下])边?数第([二三四])", rest)
    most = re.search("最([左右上下])", rest)
    number = next((n for n, (_, word) in NUMBERS.items() if re.search(f"{word}[架座艘辆个]", rest)), None)
    return _meaning(
        category,
        anchor,
        [_SIDES_ZH[letter] for letter in rest.replace("图中", "") if letter in _SIDES_ZH],
        next((name for name, word in COLOURS_ZH.items() if word in rest), None),
        None if counted else number,
        "largest" if "最大" in rest else "smallest" if "最小" in rest else None,
        _SIDES_ZH[most[1]] if most else None,
        next(rank for rank, words in RANKS.items() if words[1] == counted[2]) if counted else None,
        "所有" in rest or (number is not None and not counted),
        "不" in rest,
    )


def _meaning(
    category: str, anchor: str | None, sides: list[str], colour: str | None, number: int | None, size: str | None,
    extreme: str | None, rank: int | None, plural: bool, negated: bool,
) -> Meaning:  # fmt: skip
    query = Query("category", category, colour=colour, plural=plural, number=number)
    if colour:
        query = Query("colour", category, colour=colour, plural=plural, number=number)
    if size:
        query = Query("size", category, colour=colour, size=size)
    elif extreme:
        query = Query("extreme", category, side=extreme)
    elif rank and sides:
        query = Query("ordinal", category, side=sides[0], rank=rank)
    elif anchor and sides:
        relation = _SIDE_OF_RELATION[sides[0]]
        query = Query("relation", category, relation=relation, anchor=anchor, plural=plural, number=number)
    elif place := _place(sides):
        kind = "colour_position" if colour else "position"
        query = Query(kind, category, colour=colour, place=place, plural=plural, number=number)
    return Meaning(query, negated)


def _spelt(word: str) -> str:
    """Return the word of the vocabulary that differs by one typing error; the word itself if it is none."""
    if word in _VOCABULARY or len(word) < 3:
        return word
    near = [known for known in sorted(_VOCABULARY) if _one_error(word, known)]
    near.sort(key=lambda known: known[-1] != word[-1])  # "shis" is "ships"
    return near[0] if near else word


def _one_error(word: str, known: str) -> bool:
    """Return whether one letter is missing, added, replaced, or exchanged with the next one; the first one is right."""
    if word[0] != known[0] or abs(len(word) - len(known)) > 1:
        return False
    same = next((i for i, (a, b) in enumerate(zip(word, known, strict=False)) if a != b), min(len(word), len(known)))
    a, b = word[same:], known[same:]
    exchanged = len(a) == len(b) > 1 and a[0] == b[1] and a[1] == b[0] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or exchanged
