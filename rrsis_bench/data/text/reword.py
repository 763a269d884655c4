"""Rule-based rewordings that keep the meaning of an expression, and typing errors.

Every rule returns one rewording, or None if the expression does not offer it. Equal expressions give equal rewordings.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence

from rrsis_bench.data.text.lexicon import IMAGE_WORDS, spelt_out

Aliases = Mapping[str, Sequence[str]]
"""Category -> what sentences call it; see `rrsis_bench.data.text.categories.table_of`."""

_ARTICLE = re.compile(r"^(the|an|a) ", re.IGNORECASE)
_VERBS = frozenset(
    ("is", "are", "was", "were", "located", "situated", "positioned", "placed", "parked", "seen", "standing", "lying",
     "that", "which", "and", "or", "not", "far", "away")
)  # fmt: skip
_LOCATED = re.compile(
    r"(?<= )(?=(?:on|at|in|to) the (?:far |very |upper |lower |top |bottom )*"
    r"(?:left|right|top|bottom|middle|center|centre|upper|lower)\b|"
    r"above the\b|below the\b|next to the\b|beside the\b|near the\b)",
    re.IGNORECASE,
)
_PLACE_AT_END = re.compile(
    r"^(?P<what>.+?) (?P<where>(?:on|at|in) the (?:(?:far|very|upper|lower|top|bottom|middle) )*"
    r"(?:left|right|top|bottom|middle|cent(?:er|re))(?: (?:side|edge|corner|part|half))?"
    rf"(?: of the (?:{'|'.join(sorted(IMAGE_WORDS))}))?)$",
    re.IGNORECASE,
)
_OBJECTS = _VERBS | frozenset(
    ("of", "above", "below", "beside", "near", "next", "between", "to", "behind", "under", "on", "at", "in", "from",
     "with", "by")
)  # fmt: skip
_SIDE_ZH = "左右上下顶底中"


def article(expression: str, aliases: Aliases) -> str | None:  # noqa: ARG001 - the same arguments for every rule
    """Leave out the article at the start, or write one: "the ship" -> "ship"."""
    if _ARTICLE.match(expression):
        return _ARTICLE.sub("", expression)
    if re.match(r"(?:all|every|two|three|four|five|some|there|it|in|on|at|to|located|this|that)\b", expression, re.I):
        return None
    return f"the {expression[:1].lower()}{expression[1:]}"


def synonym(expression: str, aliases: Aliases) -> str | None:
    """Write another name of the category that is named first: "the airplane" -> "the plane"."""
    found: tuple[int, int, str] | None = None
    for category, others in aliases.items():
        names = [" ".join(spelt_out(category)), category.lower(), *others]
        for name in dict.fromkeys(names):
            match = re.search(rf"(?<![a-z]){re.escape(name)}(s|es)?(?![a-z])", expression, re.IGNORECASE)
            new = next((other for other in names if other not in (name, category.lower())), None)
            if match is None or new is None:
                continue
            place = (match.start(), -match.end())
            if found is None or place < found[:2]:
                found = (*place, new + (match[1] or ""))
    if found is None:
        return None
    start, end, new = found
    before = expression[:start]
    if re.search(r"\ban? $", before, re.IGNORECASE):
        before = before[:-1].removesuffix("n") + ("n " if new[0] in "aeiou" else " ")
    return before + (new.capitalize() if start == 0 else new) + expression[-end:]


def order(expression: str, aliases: Aliases) -> str | None:  # noqa: ARG001
    """Move the place to the start: "the ship on the left" -> "on the left, the ship"."""
    match = _PLACE_AT_END.match(expression)
    if match is None or not _OBJECTS.isdisjoint(match["what"].lower().split()):  # the place may be another object's
        return None
    what, where = match["what"], match["where"]
    if expression[0].isupper():
        what, where = what[0].lower() + what[1:], where.capitalize()
    return f"{where}, {what}"


def located(expression: str, aliases: Aliases) -> str | None:  # noqa: ARG001
    """Write "located" before a place: "the ship on the left" -> "the ship located on the left"."""
    match = _LOCATED.search(expression)
    if match is None or expression[: match.start()].split()[-1].lower() in _VERBS:
        return None
    return f"{expression[: match.start()]}located {expression[match.start() :]}"


def in_image_zh(expression: str, aliases: Aliases) -> str | None:  # noqa: ARG001
    """Say that it is about the image: "左侧的船" -> "图中左侧的船"."""
    return None if re.search("图|画面|影像", expression) else f"图中{expression}"


def located_zh(expression: str, aliases: Aliases) -> str | None:  # noqa: ARG001
    """Write "located" before a place: "左侧的船" -> "位于左侧的船"."""
    fits = re.match(f"(?:图像)?[{_SIDE_ZH}]", expression) and "数" not in expression and "的" in expression
    return f"位于{expression}" if fits else None


RULES: dict[str, dict[str, Callable[[str, Aliases], str | None]]] = {
    "en": {"article": article, "synonym": synonym, "order": order, "located": located},
    "zh": {"in_image": in_image_zh, "located": located_zh},
}
"""Language -> name of a rule -> the rule."""


def paraphrases(expression: str, language: str, aliases: Aliases) -> dict[str, str]:
    """Return the rewordings of an expression by the name of their rule; each differs from it and from the others."""
    found: dict[str, str] = {}
    for name, rule in RULES[language].items():
        new = rule(expression, aliases)
        if new is not None and new != expression and new not in found.values():
            found[name] = new
    return found


_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[A-Za-z]{4,}")
# Characters that are typed by the same pinyin.
HOMOPHONES = dict(zip("侧边船场桥机罐部方色球车角所烟风", "则变传厂瞧鸡灌布放涩求扯脚锁淹封", strict=True))


def typos(expression: str, language: str, k: int) -> list[str]:
    """Return up to `k` different expressions with one typing error each.

    English: one letter of a word of four letters or more is left out, doubled, exchanged with the next one, or replaced
    by its neighbour on the keyboard. The first and the last letter stay, so that no plural is lost. Chinese: a
    character of the same pinyin.
    """
    if language == "zh":
        options = [
            expression[:place] + HOMOPHONES[letter] + expression[place + 1 :]
            for place, letter in enumerate(expression)
            if letter in HOMOPHONES
        ]
    else:
        options = [new for match in _WORD.finditer(expression) for new in _errors(expression, *match.span())]
    options = [new for new in dict.fromkeys(options) if new != expression]
    # A fixed order that spreads over words and kinds of errors.
    options.sort(key=lambda new: zlib.crc32(new.encode()))
    return options[:k]


def _errors(text: str, start: int, end: int) -> list[str]:
    found = []
    for place in range(start + 1, end - 1):
        found += [text[:place] + text[place + 1 :], text[:place] + text[place] + text[place:]]
        if place + 2 < end:
            found.append(text[:place] + text[place + 1] + text[place] + text[place + 2 :])
        row = next((row for row in _KEYS if text[place].lower() in row), "")
        at = row.find(text[place].lower())
        found += [
            text[:place] + row[beside] + text[place + 1 :] for beside in (at - 1, at + 1) if 0 <= beside < len(row)
        ]
    return found
