"""What the suite's lexicon, category parser and phrase finder do not understand in the expressions of a dataset.

``rrsis-bench data stats NAME --language``. The phrases are those of the lexicon, whatever tagger is installed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from rrsis_bench.console import Terminal
from rrsis_bench.data.text import lexicon
from rrsis_bench.data.text.categories import CategoryParser, table_of
from rrsis_bench.data.text.language import POSITION_WORDS
from rrsis_bench.data.text.phrases import OffsetPhraseFinder, Span, word_spans
from rrsis_bench.data.text.strata import STRATA, Training

Expression = tuple[str, str | None]
"""An expression and the category of its target, None if the dataset has none."""

FAILURES = {
    "no object": "no category is named, so the whole expression is marked",
    "object in a position phrase": "the first category mention is inside a position phrase",
    "phrase cut short": "an adjective and a noun follow the noun that ends a position phrase",
    "position in a phrase with of": "left out like the authors' code: on the right of the bottom",
    "position before its noun": "no prepositional phrase: the left-most ship",
    "position elsewhere": "a position word outside of every phrase for another reason",
}
"""Kinds of expressions whose phrases miss words or take too many -> their meaning. The first that fits counts."""

BY_DEFINITION = ("position in a phrase with of", "position before its noun")
"""Kinds that follow from the paper's definition of a position phrase."""

_MODIFIER = ("JJ", "JJS", "VBN", "CD")


@dataclass(slots=True)
class LanguageAudit:
    """Counts of one split.

    Attributes:
        n: samples.
        strata: stratum -> class -> samples.
        no_category: samples whose expression names no category.
        other_category: samples whose expression names another category first.
        failures: key of `FAILURES` -> samples.
        unknown: word that neither the lexicon lists nor a category has -> occurrences.
    """

    n: int = 0
    strata: dict[str, Counter[str]] = field(default_factory=dict)
    no_category: int = 0
    other_category: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


def audit(splits: Mapping[str, Sequence[Expression]], categories: Sequence[str]) -> dict[str, LanguageAudit]:
    """Count every split; `splits` has train, which the sentences of the other splits are compared with."""
    names = table_of(categories)
    parser, finder = CategoryParser(names), OffsetPhraseFinder(categories)
    training = Training((text for text, _ in splits["train"]), categories)
    words = {word for name in names for form in lexicon.category_forms(name, names[name]) for word in form}
    found = {}
    for split, expressions in splits.items():
        one = found[split] = LanguageAudit(len(expressions))
        for (text, category), n in Counter(expressions).items():
            for name, stratum in STRATA.items():
                if len(stratum.classes) > 1 and not (stratum.held_out and split == "train"):
                    one.strata.setdefault(name, Counter())[stratum.class_of(text, training)] += n
            first = parser(text)
            one.no_category += n * (first is None)
            one.other_category += n * (first is not None and category is not None and first != category)
            kind = failure(text, finder)
            if kind is not None:
                one.failures[kind] += n
            for word in unknown_words(text):
                if word not in words:
                    one.unknown[word] += n
    return found


def unknown_words(expression: str) -> Iterator[str]:
    """Yield the words, in lower case, that the lexicon does not list; numbers and punctuation are left out."""
    for start, end in word_spans(expression):
        word = expression[start:end].lower()
        if re.search(r"[a-z]", word) and not lexicon.is_known(word):
            yield word


def failure(expression: str, finder: OffsetPhraseFinder) -> str | None:
    """Return the kind of failure of an expression's phrases, a key of `FAILURES`; None if there is none."""
    spans = word_spans(expression)
    words = [expression[start:end].lower() for start, end in spans]
    tags = [tag for _, tag in lexicon.tag_by_lexicon(words)]
    objects, positions = finder.object_spans(expression), finder.position_spans(expression)
    if not objects:
        return "no object"
    if _inside(objects[0], positions):
        return "object in a position phrase"
    for index in range(1, len(words) - 1):
        ends_here = any(end == spans[index - 1][1] for _, end in positions)
        if ends_here and tags[index] in _MODIFIER and tags[index + 1].startswith("NN"):
            return "phrase cut short"
    outside = [
        index for index, span in enumerate(spans) if words[index] in POSITION_WORDS and not _inside(span, positions)
    ]
    if not outside:
        return None
    if all(_after_of(words, index) for index in outside):
        return "position in a phrase with of"
    if all(_after_of(words, index) or _before_noun(words, tags, index) for index in outside):
        return "position before its noun"
    return "position elsewhere"


def _inside(span: Span, others: Sequence[Span]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in others)


def _after_of(words: Sequence[str], index: int) -> bool:
    """Return whether "of" opens the phrase of a word: only articles and position words lie between."""
    while index > 0 and words[index - 1] in ({"the", "a", "an", "very"} | POSITION_WORDS):
        index -= 1
    return index > 0 and words[index - 1] == "of"


def _before_noun(words: Sequence[str], tags: Sequence[str], index: int) -> bool:
    """Return whether a noun that is no position word follows, with only adjectives and position words between."""
    for word, tag in zip(words[index + 1 :], tags[index + 1 :], strict=True):
        if tag.startswith("NN") and word not in POSITION_WORDS:
            return True
        if not (tag.startswith(("JJ", "VB", "RB")) or word in POSITION_WORDS or word in ("most", "and")):
            return False
    return False


def show(found: Mapping[str, LanguageAudit], console: Terminal, *, most: int = 20) -> None:
    """Print the counts of every split, and the `most` frequent unknown words of all."""
    table = Table(title="language", title_justify="left")
    table.add_column("", overflow="fold")
    for split in found:
        table.add_column(split, justify="right")
    for label, cells in rows(found):
        table.add_row(label, *cells)
    console.print(table)
    unknown = sum((one.unknown for one in found.values()), Counter[str]())
    listed = ", ".join(f"{word} {n:,}" for word, n in unknown.most_common(most))
    console.print(f"words that the lexicon does not list ({len(unknown):,}): {listed}", soft_wrap=True, highlight=False)


def rows(found: Mapping[str, LanguageAudit]) -> list[tuple[str, list[str]]]:
    """Return label and cells of every line: samples, strata, categories, failures of the phrase finder."""
    out = [("samples", [f"{one.n:,}" for one in found.values()])]
    for name, stratum in STRATA.items():
        for entry in stratum.classes:
            counts = [one.strata.get(name) for one in found.values()]
            if any(counter and counter[entry] for counter in counts):
                cells = [
                    "" if c is None else _part(c[entry], one.n) for c, one in zip(counts, found.values(), strict=True)
                ]
                out.append((f"{stratum.label}: {entry}", cells))
    out.append(("names no category", [_part(one.no_category, one.n) for one in found.values()]))
    out.append(("names another category first", [_part(one.other_category, one.n) for one in found.values()]))
    for kind in FAILURES:
        remark = " (by definition)" if kind in BY_DEFINITION else ""
        out.append((f"phrases: {kind}{remark}", [_part(one.failures[kind], one.n) for one in found.values()]))
    return out


def _part(n: int, total: int) -> str:
    return f"{n:,} ({n / total:.1%})" if total else "0"
