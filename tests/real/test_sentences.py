"""Facts about the real references of RRSIS-D, counted by plain loops. They need the file, which is not public data."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from rrsis_bench.data.text.categories import RRSISD
from rrsis_bench.describe import language
from tests.real.sentences import NAME, VARIABLE, by_split, markdown, references

FOLDER = Path(os.environ.get(VARIABLE, ""))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (os.environ.get(VARIABLE) and (FOLDER / NAME).is_file()), reason=f"{VARIABLE} names no folder with {NAME}"
    ),
]
POSITIONS = {"left", "right", "top", "bottom", "upper", "lower", "middle", "centre", "center", "above", "below"}


@pytest.fixture(scope="module")
def splits():
    return by_split(references(FOLDER))


@pytest.fixture(scope="module")
def found(splits):
    return language.audit(splits, list(RRSISD))


def test_overlap_and_position_words_are_those_of_loops(splits, found):
    assert {split: len(sentences) for split, sentences in splits.items()} == {"train": 8302, "val": 1740, "test": 3481}
    known = set(splits["train"])
    for split, seen, without in (("val", 1238, 541), ("test", 2456, 1049)):
        same, unplaced = 0, 0
        for text, category in splits[split]:
            same += (text, category) in known
            unplaced += not POSITIONS & set(re.findall("[a-z]+", text.lower()))
        assert (same, unplaced) == (seen, without)
        assert found[split].strata["seen"]["seen"] == same
        assert found[split].strata["position"]["no position word"] == unplaced


def test_every_sentence_names_its_category_and_is_understood(found):
    for one in found.values():
        assert (one.no_category, one.other_category) == (0, 0)
        assert set(one.failures) <= {"position in a phrase with of"}
    total = sum((one.failures for one in found.values()), Counter())
    assert total == {"position in a phrase with of": 4}


def test_the_document_holds_the_table():
    document = Path(__file__).parents[2] / "docs" / "rrsisd_language.md"
    assert markdown(FOLDER) in document.read_text(encoding="utf-8")
