"""Leakage notes: what training data share with the scored dataset."""

from __future__ import annotations

import pytest

from rrsis_bench.config.cards import data_config
from rrsis_bench.config.leakage import SOURCES, image_sources, leakage_notes


@pytest.mark.parametrize(
    ("trained_on", "data", "expected"),
    [
        (["rrsisd"], "rrsisd", None),
        (["rrsisd:train"], "rrsisd", None),
        (["rrsisd:all"], "rrsisd", "held-out samples"),
        (["RRSIS-D"], "risbench", "shares images of DIOR with risbench"),
        (["risbench"], "rrsisd", "shares images of DIOR with rrsisd"),
        (["SAMRS"], "rrsisd", "shares images of DIOR"),
        (["dior"], "rrsisd", "shares images of DIOR with rrsisd"),
        (["RemoteSAM-270K"], "rrsisd", "which contains rrsisd"),
        (["iSAID"], "rrsisd", "possible leakage"),
        (["LoveDA"], "rrsisd", None),
        (["ImageNet"], "rrsisd", "leakage unknown: trained on ImageNet"),
        (["synthetic"], "rrsisd", None),
    ],
)
def test_notes(trained_on, data, expected):
    notes = leakage_notes(trained_on, data)
    assert ([] if expected is None else [expected]) == [expected for note in notes if expected and expected in note]
    assert len(notes) == (expected is not None)


def test_shared_sources_are_those_of_a_search_through_the_table():
    known = image_sources()

    def reaches(name, target):
        return name == target or any(reaches(source, target) for source in known.get(name, ()))

    for name in known:
        for data in ("rrsisd", "risbench", "refsegrs"):
            everything = {*known, *(source for sources in known.values() for source in sources)} - {"Google Earth"}
            both = any(reaches(name, target) and reaches(data, target) for target in everything)
            strong = [note for note in leakage_notes([name], data) if note.startswith("leakage:")]
            assert bool(strong) == (both and name != data), (name, data)


def test_every_source_of_a_card_is_known():
    known = image_sources()
    for name, sources in known.items():
        for source in sources:
            assert source in known, f"{name} names {source}"
    assert set(SOURCES).isdisjoint({"rrsisd", "risbench"})


def test_cards_with_overlap_name_a_source():
    for name in ("rrsisd", "risbench"):
        card = data_config(name).card
        assert card.overlap
        assert all("github.com" in line or "README" in line for line in card.overlap)
