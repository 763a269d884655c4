import pickle

import pytest

from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES
from rrsis_bench.data.text import lexicon
from rrsis_bench.data.text.categories import REFSEGRS, RISBENCH, RRSISD, CategoryParser, table_of
from rrsis_bench.data.text.phrases import OffsetPhraseFinder, WordIndexPhraseFinder, make_phrase_finder
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.errors import UserError

# Expression, object phrases, position phrases.
TABLE = [
    ("The baseball field on the top", ["baseball field"], ["on the top"]),
    ("A red vehicle on the upper left", ["vehicle"], ["on the upper left"]),
    ("the tenniscourt is on the left of the bridge", ["tenniscourt", "bridge"], ["on the left"]),
    ("The tennis-courts near the train station", ["tennis-courts", "train station"], ["near the train station"]),
    ("An Expressway-Service-area in the middle", ["Expressway-Service-area"], ["in the middle"]),
    (
        "the expressway service area on the lower right side of the image",
        ["expressway service area"],
        ["on the lower right side"],
    ),
    ("the expressway toll station", ["expressway toll station"], []),
    ("the ship closest to the harbor", ["ship", "harbor"], ["closest to the harbor"]),
    ("the ground track field next to the stadium", ["ground track field", "stadium"], ["next to the stadium"]),
    ("the ship on the roof", ["ship"], ["on the roof"]),
    ("a white airplane parked in the upper right corner", ["airplane"], ["in the upper right corner"]),
    ("a plane at the bottom", ["plane"], ["at the bottom"]),
    ("the windmill", ["windmill"], []),
    ("the second vehicle from the left", ["vehicle"], ["from the left"]),
    ("three storage tanks at the bottom", ["storage tanks"], ["at the bottom"]),
    (
        "the large storagetank to the left of the small storage tank",
        ["storagetank", "storage tank"],
        ["to the left"],
    ),
    ("the vehicle between the two buildings", ["vehicle"], ["between the two buildings"]),
    ("a dam on the right side of the picture", ["dam"], ["on the right side"]),
    ("The harbor is on the lower left of the airport", ["harbor", "airport"], ["on the lower left"]),
    (
        "a small gray vehicle is on the right of the vehicle on the lower left",
        ["vehicle", "vehicle"],
        ["on the right", "on the lower left"],
    ),
    ("the planes in the top left corner", ["planes"], ["in the top left corner"]),
    ("a chimney behind the chimney", ["chimney", "chimney"], ["behind the chimney"]),
    ("the leftmost ship", ["ship"], []),
    ("the ship in front of the harbor", ["ship", "harbor"], ["in front"]),
    ("a vehicle driving along the road", ["vehicle"], ["along the road"]),
    ('the "airplane" on the left', ["airplane"], ["on the left"]),
    ("the train station in the image features a roof", ["train station"], ["in the image"]),
    (
        "the ship next to the expressway serves as a bridge",
        ["ship", "bridge"],
        ["next to the expressway", "as a bridge"],
    ),
    ("a ship as the right-most moored vehicle", ["ship", "vehicle"], ["as the right-most moored vehicle"]),
    ("the damaged shipyard and its shipping lane", [], []),
    ("something strange", [], []),
]


@pytest.fixture
def lexicon_tagger(monkeypatch):
    """Tags by the lexicon, also on a machine where the perceptron tagger's data is installed."""
    lexicon.perceptron_present.cache_clear()
    monkeypatch.setattr(lexicon.nltk.data, "find", lambda _: (_ for _ in ()).throw(LookupError))
    yield
    lexicon.perceptron_present.cache_clear()


@pytest.mark.usefixtures("lexicon_tagger")
@pytest.mark.parametrize(("expression", "objects", "positions"), TABLE)
def test_phrases_of_an_expression(expression, objects, positions):
    finder = OffsetPhraseFinder(CATEGORIES)
    assert finder.tagger == "lexicon"
    assert [expression[a:b] for a, b in finder.object_spans(expression)] == objects
    assert [expression[a:b] for a, b in finder.position_spans(expression)] == positions


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("Expressway-Service-area", ("expressway", "service", "area")),
        ("groundtrackfield", ("ground", "track", "field")),
        ("storagetank", ("storage", "tank")),
        ("airplane", ("airplane",)),
        ("windmill", ("windmill",)),
        ("airport", ("airport",)),
        ("road marking", ("road", "marking")),
        ("vehicle", ("vehicle",)),
    ],
)
def test_category_names_are_spelt_out(category, words):
    assert lexicon.spelt_out(category) == words


def test_every_form_of_every_category_is_found():
    finder = OffsetPhraseFinder(CATEGORIES)
    for category in CATEGORIES:
        for form in [category, *(" ".join(words) for words in lexicon.category_forms(category))]:
            expression = f"the {form} here"
            assert [expression[a:b] for a, b in finder.object_spans(expression)] == [form], category


def _masks(finder, expression, tokenizer, limit=None):
    encoding = tokenizer.encode(expression)
    offsets = [
        (0, 0) if special else span
        for span, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    ]
    found = finder(expression, offsets[:limit])
    tokens = encoding.tokens
    return {key: [tokens[i] for i, marked in enumerate(mask) if marked] for key, mask in found.items()}, tokens


def test_projection_follows_words_that_split_into_pieces():
    """A vocabulary of characters only: every word is many pieces, and each piece must be marked."""
    tokenizer = build_wordpiece(["a"], 5 + 2 * 36)
    expression = "the ship on the top"
    found, _ = _masks(OffsetPhraseFinder(CATEGORIES), expression, tokenizer)
    assert "".join(found["object_mask"]).replace("##", "") == "ship"
    assert "".join(found["position_mask"]).replace("##", "") == "onthetop"


def test_punctuation_beside_a_phrase_is_not_part_of_it():
    tokenizer = build_wordpiece(["the ship, on the top."], 200)
    found, _ = _masks(OffsetPhraseFinder(CATEGORIES), "the ship, on the top.", tokenizer)
    assert found == {"object_mask": ["ship"], "position_mask": ["on", "the", "top"]}


def test_whole_expression_stands_in_for_what_is_not_found_or_cut_off():
    tokenizer = build_wordpiece([row[0] for row in TABLE], 500)
    finder = OffsetPhraseFinder(CATEGORIES)
    found, tokens = _masks(finder, "something strange", tokenizer)
    assert found == {"object_mask": tokens, "position_mask": tokens}
    found, tokens = _masks(finder, "the large red vehicle on the top", tokenizer, limit=5)
    assert tokens[4] == "vehicle"
    assert found["object_mask"] == ["vehicle"]
    assert found["position_mask"] == tokens[:5]


@pytest.mark.usefixtures("lexicon_tagger")
def test_word_index_writes_word_positions_on_pieces():
    finder = WordIndexPhraseFinder(CATEGORIES)
    # Words: the 0, tennis 1, court 2, on 3, the 4, left 5; whatever the pieces are, positions plus one are marked.
    found = finder("the tennis court on the left", [(0, 0)] * 12)
    assert found["object_mask"] == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert found["position_mask"] == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.usefixtures("lexicon_tagger")
def test_word_index_quirks():
    finder = WordIndexPhraseFinder(CATEGORIES)
    places = [(0, 0)] * 10
    assert finder("the tenniscourt", places)["object_mask"] == [0] * 10  # only spelt-out names are known
    assert finder("the Ship", places)["object_mask"] == [0] * 10  # and only in lower case
    assert finder("the shipyard", places)["object_mask"] == [0, 0, 1] + [0] * 7  # also inside of words
    assert finder("the ship on the roof", places)["position_mask"] == [1] * 10  # "roof" holds "of"
    assert finder("on top the ship is on the left", places)["position_mask"] == [0, 1, 1, 1] + [0] * 6  # first "on"
    # A name's first word found inside an earlier word draws the mark there: "dam" in "damaged".
    assert finder("the damaged dam", places)["object_mask"] == [0, 0, 1] + [0] * 7


@pytest.mark.usefixtures("lexicon_tagger")
def test_word_index_is_cut_at_the_token_limit():
    """The authors' lists grow beyond max_tokens here."""
    found = WordIndexPhraseFinder(CATEGORIES)("a b c d e f ground track field on the left", [(0, 0)] * 8)
    assert found["object_mask"] == [0, 0, 0, 0, 0, 0, 0, 1]
    assert found["position_mask"] == [1] * 8


def test_finders_are_picklable_and_named():
    for name in ("nltk", "word_index"):
        finder = pickle.loads(pickle.dumps(make_phrase_finder(name, CATEGORIES)))  # noqa: S301 - our own bytes
        assert finder("the ship", [(0, 0), (0, 3), (4, 8)])["object_mask"] == [0, 0, 1]
    with pytest.raises(UserError, match="nltk, word_index"):
        make_phrase_finder("spacy", CATEGORIES)


@pytest.mark.parametrize(
    "expression", ["'", "\"a\" 'b' ``c``", "---", "the ship's / harbor", "左上角的飞机", "...", "a" * 500]
)
def test_odd_texts_do_not_fail(expression):
    for name in ("nltk", "word_index"):
        found = make_phrase_finder(name, CATEGORIES)(expression, [(0, 0), (0, len(expression)), (0, 0)])
        assert all(len(mask) == 3 for mask in found.values())


@pytest.mark.parametrize(
    ("expression", "mention"),
    [
        ("The baseball field beside the road", "baseball field"),
        ("a track and field on the left", "track and field"),
        ("The soccer field near the river", "soccer field"),
        ("The wind turbine at the top", "wind turbine"),
        ("The tank below", "tank"),
        ("two tanks", "tanks"),
    ],
)
def test_the_finder_knows_the_aliases_of_the_datasets_category_table(expression, mention):
    found = [expression[a:b] for a, b in OffsetPhraseFinder(RISBENCH).object_spans(expression)]
    assert found == [mention]
    assert CategoryParser(RISBENCH)(expression) is not None


def test_another_datasets_names_take_no_aliases_from_the_table():
    assert OffsetPhraseFinder(["tank", "ship"]).object_spans("the boat") == []


@pytest.mark.parametrize(
    ("expression", "phrases"),
    [
        ("The ship at the right-most edge of the image", ["at the right-most edge"]),
        ("The dam at the very bottom", ["at the very bottom"]),
        ("The car closer to the road", ["closer to the road"]),
        ("The bridge in the image extends to the left", ["in the image", "to the left"]),
    ],
)
@pytest.mark.usefixtures("lexicon_tagger")
def test_position_phrases_of_real_sentences(expression, phrases):
    assert [expression[a:b] for a, b in OffsetPhraseFinder(RISBENCH).position_spans(expression)] == phrases


@pytest.mark.parametrize("table", [RRSISD, REFSEGRS, RISBENCH], ids=["rrsisd", "refsegrs", "risbench"])
def test_parser_and_finder_know_the_same_names(table):
    """Bug: the finder had names without the aliases of the parser, so that "the wind turbine" had no object phrase."""
    assert table_of(tuple(table)) is table
    parser, finder = CategoryParser(table), OffsetPhraseFinder(tuple(table))
    for name, aliases in table.items():
        for spelling in (" ".join(lexicon.spelt_out(name)), *aliases):
            expression = f"the {spelling} here"
            assert parser(expression) == name
            assert [expression[a:b] for a, b in finder.object_spans(expression)] == [spelling]


def test_names_of_a_dataset_without_a_table_have_the_common_aliases():
    table = table_of(("storage tank", "glider"))
    assert table == {"storage tank": RRSISD["storagetank"], "glider": ()}
