"""`data stats --language`: what lexicon, parser and phrase finder miss, on made-up sentences of the real kinds."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from rrsis_bench import cli
from rrsis_bench.data.text import lexicon
from rrsis_bench.data.text.phrases import OffsetPhraseFinder
from rrsis_bench.describe import language
from tests.fakes.custom import write_fake_custom

CATEGORIES = ("ship", "bridge", "train station", "dam")

KINDS = [
    ("the ship on the left", None),
    ("something on the left", "no object"),
    ("near the ship there is a dam", "object in a position phrase"),
    ("the ship above the frumious grey train station", "phrase cut short"),
    ("the ship on the right of the bottom", "position in a phrase with of"),
    ("the left-most ship", "position before its noun"),
    ("the ship is left", "position elsewhere"),
]


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_each_kind_of_failure_is_named(text, kind):
    assert language.failure(text, OffsetPhraseFinder(CATEGORIES)) == kind


@pytest.mark.parametrize("adjective", ["slender", "cyan", "little", "similar", "several", "distinct", "narrower"])
def test_an_adjective_that_the_lexicon_took_for_a_noun_does_not_cut_a_phrase(adjective):
    finder = OffsetPhraseFinder(CATEGORIES)
    text = f"the ship is above the {adjective} grey train station"
    assert [text[a:b] for a, b in finder.position_spans(text)] == [f"above the {adjective} grey train station"]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("the ship is on the left of the dam above", ["on the left", "above"]),
        ("the ship below.", ["below"]),
        ("the ship in the the top-right corner", ["in the the top-right corner"]),
        ("the ship above the dam", ["above the dam"]),
        ("the above", ["above"]),
        ("the ship on the right of", ["on the right"]),
    ],
)
def test_a_preposition_at_the_end_and_a_doubled_article_are_position_phrases(text, positions):
    assert [text[a:b] for a, b in OffsetPhraseFinder(CATEGORIES).position_spans(text)] == positions


def test_counts_are_those_of_a_plain_loop():
    train = [("the ship on the left", "ship"), ("a grey dam", "dam")]
    test = [(text, "ship") for text, _ in KINDS] + [("the ship on the left", "ship"), ("The ship on left.", "dam")]
    found = language.audit({"train": train, "test": test}, CATEGORIES)
    one = found["test"]
    seen = missing = other = 0
    unknown = Counter()
    for text, category in test:
        seen += any(text == known for known, _ in train)
        named = [name for name in CATEGORIES if re.search(rf"\b{name}\b", text)]
        missing += not named
        first = min(named, key=text.index, default=None)
        other += first is not None and first != category
        for word in re.findall("[a-z]+", text.lower()):
            plain = {part for name in CATEGORIES for part in name.split()}
            unknown[word] += word not in plain and not lexicon.is_known(word)
    assert (one.n, one.strata["seen"]["seen"], one.no_category, one.other_category) == (9, seen, missing, other)
    assert one.unknown == +unknown
    assert one.failures == Counter(kind for _, kind in KINDS if kind)
    assert "seen" not in found["train"].strata


def test_the_verb_prints_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    root = write_fake_custom(tmp_path).root
    assert cli.main(["data", "stats", "custom", "--data-root", str(root), "--size", "tiny", "--language"]) == 0
    text = capsys.readouterr().out
    for part in ("phrases: no object", "names no category", "words that the lexicon does not list"):
        assert part in text
