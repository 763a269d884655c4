"""Side words after a turn of the image: what is exchanged, what stays, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rrsis_bench.data.text.categories import RRSISD
from rrsis_bench.data.text.exchange import TURNS, counts, exchange
from rrsis_bench.data.text.reword import paraphrases, typos
from rrsis_bench.data.text.turned import Unclear
from rrsis_bench.synthetic.language.expressions import _queries
from rrsis_bench.synthetic.language.read import read
from rrsis_bench.synthetic.language.realise import COLOURS_ZH, realisations

# Expression -> after mirror, upside, quarter; None if it is refused.
ENGLISH = {
    "the ship on the upper left": (
        "the ship on the upper right", "the ship on the lower left", "the ship on the lower left"),
    "The vehicle is on the lower right of the bridge at the top": (
        "The vehicle is on the lower left of the bridge at the top",
        "The vehicle is on the upper right of the bridge at the bottom",
        "The vehicle is on the upper right of the bridge at the left"),
    "the ship to the left of the bridge": ("the ship to the right of the bridge",) + (
        "the ship to the left of the bridge", "the ship below the bridge"),
    "the ship on the left of the image": ("the ship on the right of the image",) + (
        "the ship on the left of the image", "the ship on the bottom of the image"),
    "A Leftmost tank, above the road": ("A Rightmost tank, above the road",) + (
        "A Leftmost tank, below the road", "A Bottommost tank, to the left of the road"),
    "the second ship from the left": ("the second ship from the right",) + (
        "the second ship from the left", "the second ship from the bottom"),
    "the top-right vehicle, right-most on its road": ("the top-left vehicle, left-most on its road",) + (
        "the bottom-right vehicle, right-most on its road", "the top-left vehicle, top-most on its road"),
    "in the middle-right part": ("in the middle-left part", "in the middle-right part", "in the middle-top part"),
    "the northwestern harbor, WEST of it": ("the northeastern harbor, EAST of it",) + (
        "the southwestern harbor, WEST of it", "the southwestern harbor, SOUTH of it"),
    "the horizontal bridge": ("the horizontal bridge", "the horizontal bridge", "the vertical bridge"),
    "the ship on the right bottom": (
        "the ship on the left bottom", "the ship on the right top", "the ship on the right top"),
    "a ship in the middle": ("a ship in the middle",) * 3,
    "the car right next to the road": (None, "the car right next to the road", None),
    "the road with a right-angled bend": (None, "the road with a right-angled bend", None),
    "the car left behind": (None, None, None),
    "the tank with a white top": ("the tank with a white top", None, None),
    "the car on the top of the building": ("the car on the top of the building", None, None),
    "the car on the top of the whole image": ("the car on the top of the whole image",) + (
        "the car on the bottom of the whole image", "the car on the left of the whole image"),
    "the road under the bridge": ("the road under the bridge", None, None),
    "a plane seen from above": ("a plane seen from above", None, None),
    "the second ship": (None, None, None),
    "the bottom third of the dam": ("the bottom third of the dam", "the top third of the dam",
                                    "the right third of the dam"),
    "cars in a row": ("cars in a row", "cars in a row", None),
    "the clockwise road": (None, None, None),
}  # fmt: skip
CHINESE = {
    "图像左上角的船": ("图像右上角的船", "图像左下角的船", "图像左下角的船"),
    "飞机上方的船": ("飞机上方的船", "飞机下方的船", "飞机左方的船"),
    "从左边数第二艘船": ("从右边数第二艘船", "从左边数第二艘船", "从下边数第二艘船"),
    "最右侧的飞机": ("最左侧的飞机", "最右侧的飞机", "最上侧的飞机"),
    "顶部的桥": ("顶部的桥", "底部的桥", "左侧的桥"),
    "东北角的桥": ("西北角的桥", "东南角的桥", "西北角的桥"),
    "上面的车": ("上面的车", "下面的车", "左面的车"),
    "桥上面的车": ("桥上面的车", None, None),
    "桥上的车": ("桥上的车", None, None),
    "左右两艘船": (None, "左右两艘船", None),
    "第二艘船": (None, None, None),
    "屋顶的车": ("屋顶的车", None, None),
    "一排船": ("一排船", "一排船", None),
}


@pytest.mark.parametrize(("language", "table"), [("en", ENGLISH), ("zh", CHINESE)])
def test_sentences(language, table):
    for expression, expected in table.items():
        for turn, text in zip(TURNS, expected, strict=True):
            if text is None:
                with pytest.raises(Unclear):
                    exchange(expression, language, turn)
            else:
                found = exchange(expression, language, turn)
                assert found.text == text, turn
                assert (found.words > 0) == (text != expression)


def expressions(step):
    """(expression, language, query) of the generator, every `step`-th."""
    every = [
        (text, language, query)
        for language in ("en", "zh")
        for category in ("ship", "tenniscourt")
        for plural in (False, True)
        for query in _queries(category, list(COLOURS_ZH)[:2], ["bridge", "storagetank"], plural=plural)
        for text in realisations(query, language)
    ]
    assert len(every) > 800
    return every[::step]


MOVES = {
    "mirror": {"left": "right", "right": "left", "left of": "right of", "right of": "left of"},
    "upside": {"top": "bottom", "bottom": "top", "above": "below", "below": "above"},
    "quarter": {
        "left": "bottom", "bottom": "right", "right": "top", "top": "left",
        "left of": "below", "below": "right of", "right of": "above", "above": "left of",
    },
}  # fmt: skip


def moved(words, turn):
    """A place, side or relation in the turned image; the vertical part of a corner comes first."""
    if words is None or words.endswith(" of"):
        return MOVES[turn].get(words, words)
    parts = [MOVES[turn].get(word, word) for word in words.split()]
    return " ".join(sorted(parts, key=lambda word: word in ("left", "right")))


@pytest.mark.parametrize("turn", TURNS)
def test_the_meaning_turns_with_the_image(turn):
    for text, language, query in expressions(3):
        expected = replace(
            query, place=moved(query.place, turn), side=moved(query.side, turn), relation=moved(query.relation, turn)
        )
        assert read(exchange(text, language, turn).text, language).query == expected, text


def test_two_flips_give_the_sentence_back():
    for text, language, _ in expressions(5):
        for turn in ("mirror", "upside"):
            assert exchange(exchange(text, language, turn).text, language, turn).text == text


def test_counting_words():
    for text, language, query in expressions(5):
        assert counts(text, language) == (query.kind == "ordinal"), text


def test_rewordings_keep_the_meaning():
    seen = set()
    for text, language, _ in expressions(7):
        meaning = read(text, language)
        for rule, new in paraphrases(text, language, RRSISD).items():
            seen.add((language, rule))
            assert new != text
            assert read(new, language) == meaning, new
        for new in typos(text, language, 3):
            assert abs(len(new) - len(text)) <= 1
            assert new != text
            assert read(new, language) == meaning, new
    english = ("article", "synonym", "order", "located")
    assert seen == {*(("en", rule) for rule in english), ("zh", "in_image"), ("zh", "located")}


def test_rewordings_of_real_sentences():
    assert paraphrases("A airplane on the left", "en", RRSISD) == {
        "article": "airplane on the left", "synonym": "A plane on the left", "order": "On the left, a airplane",
        "located": "A airplane located on the left",
    }  # fmt: skip
    court = "the tennis court below the tennis court on the left"
    assert "order" not in paraphrases(court, "en", RRSISD), "the place belongs to the other court"
    assert paraphrases("a storage tank", "en", RRSISD)["synonym"] == "an oil tank"
    assert typos("a car", "en", 3) == []
    assert len(set(typos("the ship", "en", 5))) == 5
    assert typos("the ship", "en", 3) == typos("the ship", "en", 5)[:3]
