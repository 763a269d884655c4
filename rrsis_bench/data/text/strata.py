"""Kinds of expressions by which scores are split: one table, from which record fields, CSV lines and pages follow.

To add a kind, add one `Stratum` to `STRATA`. Membership depends on the expression and on the training expressions
alone, so it is computed once per dataset and stored per sample (`rrsis_bench.eval.membership`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rrsis_bench.data.text.language import POSITION_WORDS, language_of, names_place, words_of

_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"[^\W_]+")
_LENGTHS = (4, 8, 12, 20)  # words; the last class has more


class Training:
    """The training expressions of a dataset, and its categories.

    Attributes:
        exact: the expressions.
        normalised: the expressions, each as `normalised` returns it.
        finder: finds the dataset's categories in an expression.
    """

    def __init__(self, expressions: Iterable[str], categories: Iterable[str]):
        from rrsis_bench.data.text.phrases import OffsetPhraseFinder  # loads NLTK, which tables do not need

        self.exact = frozenset(expressions)
        self.normalised = frozenset(map(normalised, self.exact))
        self.finder = OffsetPhraseFinder(categories)


@dataclass(frozen=True, slots=True)
class Stratum:
    """One way to split the samples.

    Attributes:
        name: key in records and in CSV files.
        label: heading in tables.
        meaning: one line for people.
        classes: every class, in the order of the tables.
        class_of: the class of an expression.
        held_out: it compares with the training expressions, so it says nothing about the training split.
    """

    name: str
    label: str
    meaning: str
    classes: tuple[str, ...]
    class_of: Callable[[str, Training], str]
    held_out: bool = False


def normalised(expression: str) -> str:
    """Return an expression in lower case, without articles and punctuation, its words apart by one space."""
    return " ".join(word for word in _WORD.findall(expression.lower()) if word not in _ARTICLES)


def _length(expression: str, _: Training) -> str:
    return _LENGTH_CLASSES[sum(len(words_of(expression)) > most for most in _LENGTHS)]


def _relation(expression: str, training: Training) -> str:
    if language_of(expression) != "en":
        return "not parsed"
    from rrsis_bench.data.text.relations import names_relation

    return "another object" if names_relation(expression, training.finder) else "no other object"


_LENGTH_CLASSES = (
    f"1-{_LENGTHS[0]} words",
    *(f"{low + 1}-{high} words" for low, high in zip(_LENGTHS, _LENGTHS[1:], strict=False)),
    f"over {_LENGTHS[-1]} words",
)

STRATA: dict[str, Stratum] = {
    stratum.name: stratum
    for stratum in (
        Stratum("all", "all", "every sample", ("all",), lambda *_: "all"),
        Stratum(
            "seen", "sentence in train", "whether the same text is also a training expression", ("seen", "unseen"),
            lambda text, training: "seen" if text in training.exact else "unseen", held_out=True,
        ),
        Stratum(
            "seen_normalised", "sentence in train, normalised",
            "the same without regard to letter case, articles and punctuation", ("seen", "unseen"),
            lambda text, training: "seen" if normalised(text) in training.normalised else "unseen", held_out=True,
        ),
        Stratum(
            "position", "position word", "whether a word says where in the image the object is",
            ("position word", "no position word"),
            lambda text, _: "position word" if names_place(text, POSITION_WORDS) else "no position word",
        ),
        Stratum(
            "relation", "relation", "whether another object is named; only English is parsed",
            ("another object", "no other object", "not parsed"), _relation,
        ),
        Stratum("length", "length", "words of the expression; a Chinese character is a word", _LENGTH_CLASSES, _length),
    )
}  # fmt: skip
"""Every kind of stratum by its name, in the order of the tables."""


def stratum_label(name: str) -> str:
    """Return the heading of a stratum; its name if `STRATA` no longer has it."""
    return STRATA[name].label if name in STRATA else name
