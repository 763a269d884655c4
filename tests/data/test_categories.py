"""Categories read from expressions, with the traps of the datasets' names."""

from __future__ import annotations

import pickle

import pytest

from rrsis_bench.data.text.categories import REFSEGRS, RISBENCH, CategoryParser

REFSEGRS_CASES = [
    # longest at one place
    ("road marking", "road marking"),
    ("road  markings on the paved road", "road marking"),
    ("the road-marking", "road marking"),
    ("road marked in white", "road"),
    ("the road, marking its end", "road"),
    # words, not parts of words
    ("cargo", None),
    ("cargo beside the car", "car"),
    ("caravan", None),
    ("scar", None),
    ("vanilla", None),
    ("bush", None),
    ("bushes near the bus", "bus"),
    ("broad area", None),
    ("roadside", None),
    ("street", None),
    ("built up area", None),
    # plurals, also of words in -s
    ("roads", "road"),
    ("cars", "car"),
    ("vans", "van"),
    ("buses", "bus"),
    ("busses", "bus"),
    ("low vegetations", "low vegetation"),
    ("impervious surfaces", "impervious surface"),
    ("the car's roof", "car"),
    # the first place counts
    ("vehicles along the road", "vehicle"),
    ("road with vehicles", "road"),
    ("tree between bikeway and sidewalk", "tree"),
    ("truck with a trailer", "truck"),
    # spelling
    ("Paved ROAD", "road"),
    ("side walk", "sidewalk"),
    ("bike-way", "bikeway"),
    ("vegetation", None),
    ("surface", None),
    ("", None),
    ("左边的车", None),
]

RISBENCH_CASES = [
    ("The  small vehicle positioned I'm the middle .", "vehicle"),
    ("The small-vehicle at the top", "vehicle"),
    ("the large_vehicle", "vehicle"),
    ("two lorries", "vehicle"),
    ("the cars of the car park", "vehicle"),
    ("The plane near the gate", "airplane"),
    ("All planes", "airplane"),
    ("The aircraft on the apron", "airplane"),
    ("The airplane", "airplane"),
    ("a planet", None),
    ("The airport with planes", "airport"),
    ("The tank beside the ship", "storage tank"),
    ("storage-tanks", "storage tank"),
    ("a tanker", None),
    ("The baseball field", "baseball diamond"),
    ("Baseball diamonds", "baseball diamond"),
    ("The soccer-ball-field", "soccer ball field"),
    ("The soccer field inside the ground track field", "soccer ball field"),
    ("The ground track field round the soccer field", "ground track field"),
    ("The golf course", "golf field"),
    ("The Expressway-Service-area", "expressway service area"),
    ("expressway toll stations", "expressway toll station"),
    ("The train station", "train station"),
    ("the stations", None),
    ("The helicopter on the helipad", "helicopter"),
    ("The helicopter pad with a helicopter", "helipad"),
    ("The container crane in the harbor", "container crane"),
    ("The harbour", "harbor"),
    ("the boats docked at the quay", "ship"),
    ("the chimneys", "chimney"),
    ("The pool", "swimming pool"),
    ("a carpool", None),
    ("the damaged roof", None),
    ("dams", "dam"),
    ("The tennis courts", "tennis court"),
    ("the court", None),
    ("The bridge below the overpass", "bridge"),
    ("the footbridge", None),
]


@pytest.mark.parametrize(("text", "category"), REFSEGRS_CASES)
def test_refsegrs(text: str, category: str | None) -> None:
    assert CategoryParser(REFSEGRS)(text) == category


@pytest.mark.parametrize(("text", "category"), RISBENCH_CASES)
def test_risbench(text: str, category: str | None) -> None:
    assert CategoryParser(RISBENCH)(text) == category


@pytest.mark.parametrize("table", [REFSEGRS, RISBENCH])
def test_every_name_and_alias_alone_is_its_category(table: dict[str, tuple[str, ...]]) -> None:
    parser = CategoryParser(table)
    for name, aliases in table.items():
        for spelling in (name, *aliases):
            for text in (spelling, f"the {spelling}s on the left", f"({spelling.upper()})", spelling.replace(" ", "-")):
                if not text.startswith("the") or spelling[-1] not in "syxh":  # regular plurals
                    assert parser(text) == name, text
    assert parser.names == tuple(table)


def test_the_tables_have_the_papers_numbers_of_names() -> None:
    assert (len(REFSEGRS), len(RISBENCH)) == (14, 26)


def test_all_names_of_the_tables_are_found_as_a_plain_search_would() -> None:
    """The rule written out: every spelling at every place between words, earliest first, then longest."""

    def plainly(table: dict[str, tuple[str, ...]], text: str) -> str | None:
        words = text.lower().split()
        for start in range(len(words)):
            for length in range(len(words) - start, 0, -1):
                for name, aliases in table.items():
                    if " ".join(words[start : start + length]) in (name, *aliases):
                        return name
        return None

    for table in (REFSEGRS, RISBENCH):
        parser = CategoryParser(table)
        spellings = [spelling for name, aliases in table.items() for spelling in (name, *aliases)]
        for one in spellings:
            for two in spellings:
                for text in (f"{one} {two}", f"big {one} by {two}"):
                    assert parser(text) == plainly(table, text), text


def test_unmatched_expressions_are_counted() -> None:
    assert CategoryParser(REFSEGRS).unmatched(["road", "cargo", "bush", "cars"]) == 2


def test_a_spelling_of_two_categories_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'Plane' stands for both 'airplane' and 'glider'"):
        CategoryParser({"airplane": ("plane",), "glider": ("Plane",)})


def test_a_parser_can_be_pickled() -> None:
    parser = pickle.loads(pickle.dumps(CategoryParser(REFSEGRS)))  # noqa: S301 - our own bytes
    assert parser("road markings") == "road marking"
