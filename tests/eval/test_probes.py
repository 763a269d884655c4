"""Each probe finds in each reader what theory says; expected figures come from plain loops over the scenes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from rrsis_bench.data.text.exchange import TURNS
from rrsis_bench.eval.probes.probe import Answers, Case, Question
from rrsis_bench.eval.probing import Inquiry, bind
from rrsis_bench.resources import ROOT
from rrsis_bench.synthetic.language.semantics import verdicts
from rrsis_bench.synthetic.oracle import READERS
from rrsis_bench.synthetic.scene import union_HW
from tests.fakes.readers import InMemory, asked, scenes, scenes_of, views_of_scene

LANGUAGES = ("en", "zh")


def value(language, reader, probe, figure, group=None):
    found = asked(language, reader)[0][probe]
    return (found.groups[group] if group else found).scores[figure].value


def same(found, expected):
    assert found == pytest.approx(expected, abs=1e-9)


def iou(one, two):
    """Shared pixels over all pixels; 1 for two empty masks."""
    either = int((one | two).sum())
    return int((one & two).sum()) / either if either else 1.0


def outside(mask, region):
    """Share of a mask outside of a region; all of it for an empty mask."""
    area = int(mask.sum())
    return int((mask & ~region).sum()) / area if area else 1.0


def rows(language):
    """(objects, expression, target, all objects of the noun, largest object), masks but the first two."""
    for objects, expressions in scenes_of(language):
        shape = objects[0].mask_HW.shape
        largest = max(objects, key=lambda item: int(item.mask_HW.sum())).mask_HW
        for expression in expressions:
            target = union_HW([objects[i] for i in expression.targets], shape)
            peers = union_HW([item for item in objects if item.category == expression.category], shape)
            yield objects, expression, target, peers, largest


def sides(query):
    """The side words of a query: left, right, top, bottom."""
    words = f"{query.place or ''} {query.side or ''} {query.relation or ''}".replace("above", "top")
    return {word for word in words.replace("below", "bottom").split() if word in ("left", "right", "top", "bottom")}


def wrong_side_cases(language, axis):
    """Rows whose sentence names a side of the axis, does not count, and whose target is off the axis."""
    for row in rows(language):
        _, expression, target, *_ = row
        named = sides(expression.query) & ({"left", "right"} if axis == "left_right" else {"top", "bottom"})
        places = np.nonzero(target)[1 if axis == "left_right" else 0]
        off = abs((places.min() + places.max() + 1) / 2 / target.shape[0] - 0.5) >= 0.1
        if named and off and expression.query.kind != "ordinal":
            yield row


def mean(values):
    values = list(values)
    return 100 * sum(values) / len(values)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_reader_that_understands_loses_nothing(language):
    perfect = {
        "flip": {"consistency": 100, "turned_miou": 100, "given_miou": 100},
        "wrong_side": {"leaves": 100, "given_leaves": 0, "same": 0},
        "absent": {"false_positives": 0, "area": 0},
        "paraphrase": {"worst_miou": 100, "mean_miou": 100, "given_miou": 100, "agreement": 100},
        "typo": {"worst_miou": 100, "mean_miou": 100, "given_miou": 100, "agreement": 100},
        "agreement": {"agreement": 100, "worst_miou": 100, "mean_miou": 100},
        "negation": {"new_miou": 100, "old_miou": 0, "given_miou": 100},
        "attribute_swap": {"new_miou": 100, "old_miou": 0, "given_miou": 100},
    }
    for probe, figures in perfect.items():
        for figure, expected in figures.items():
            assert value(language, "understands", probe, figure) == expected, (probe, figure)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("reader", ["reads the noun", "ignores the text"])
def test_readers_without_sides(language, reader):
    """They are consistent under every turn, and a wrong side changes nothing: only the second one shows it."""
    same(value(language, reader, "flip", "consistency"), 100)
    answers = {"reads the noun": 3, "ignores the text": 4}
    for axis in ("left_right", "top_bottom"):
        cases = list(wrong_side_cases(language, axis))
        assert asked(language, reader)[0]["wrong_side"].groups[axis].n == len(cases) > 3
        expected = mean(outside(row[answers[reader]], row[2]) for row in cases)
        for figure in ("leaves", "given_leaves"):
            same(value(language, reader, "wrong_side", figure, axis), expected)
        same(value(language, reader, "wrong_side", "same", axis), 100)


@pytest.mark.parametrize("language", LANGUAGES)
def test_absent_objects(language):
    """The reader of the noun finds none; the one that ignores the text always marks the largest object."""
    same(value(language, "reads the noun", "absent", "false_positives"), 0)
    same(value(language, "ignores the text", "absent", "false_positives"), 100)
    largest = mean(
        max(int(item.mask_HW.sum()) for item in objects) / objects[0].mask_HW.size for objects, _ in scenes_of(language)
    )
    same(value(language, "ignores the text", "absent", "area"), largest)
    scores, cases, inquiry = asked(language, "understands")
    assert scores["absent"].n == len(scenes_of(language))
    for case in inquiry.cases["absent"]:
        objects, _ = scenes_of(language)[int(inquiry.samples[case.index].image_id)]
        assert case.groups[0] not in {item.category for item in objects}
    assert len(scores["absent"].groups) > 4, "categories take turns"


def test_every_category_that_is_asked_for_is_absent():
    """All of them are asked for here; the objects that no sentence names are in the image too."""
    data = InMemory("en")
    inquiry = Inquiry(data, bind([{"name": "absent", "per_image": 12}]), scenes("en"))
    expected, unnamed = set(), 0
    known = {data[index].category for index in range(len(data))}
    for number, (objects, expressions) in enumerate(scenes_of("en")):
        present = {item.category for item in objects}
        expected |= {(str(number), category) for category in known - present}
        unnamed += len(present - {expression.category for expression in expressions})
    asked_for = {(data[case.index].image_id, case.groups[0]) for case in inquiry.cases["absent"]}
    assert asked_for == expected
    assert unnamed > 0


def test_the_worst_and_the_mean_of_k():
    """Three answers that cover 1, 1/2 and 0 of the target, beside a prediction that equals the second one."""
    target_HW = np.array([[1, 1, 0, 0]], bool)
    masks = tuple(np.array([row], bool) for row in ([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]))
    answers = Answers(target_HW, masks[1], masks)
    case = Case(0, (Question(0, "a"), Question(0, "b"), Question(0, "c")))
    for name in ("paraphrase", "typo"):
        assert bind([name])[name].measure(case, answers) == {
            "worst_miou": 0, "mean_miou": Fraction(1, 2), "given_miou": Fraction(1, 2), "agreement": Fraction(1, 2),
        }  # fmt: skip
    assert bind(["agreement"])["agreement"].measure(case, answers) == {
        "worst_miou": 0, "mean_miou": Fraction(1, 2), "agreement": Fraction(1, 6),
    }  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_rewordings_change_nothing_for_the_reader_of_the_noun(language):
    data = InMemory(language)
    score = {data[index].sample_id: iou(row[3], row[2]) for index, row in enumerate(rows(language))}
    for probe in ("paraphrase", "typo"):
        _, cases, _ = asked(language, "reads the noun")
        used = [line.sample_id for line in cases if line.probe == probe and line.figure == "worst_miou"]
        assert len(used) > 20
        for figure in ("worst_miou", "mean_miou", "given_miou"):
            same(value(language, "reads the noun", probe, figure), mean(score[name] for name in used))
        same(value(language, "reads the noun", probe, "agreement"), 100)


@pytest.mark.parametrize("language", LANGUAGES)
def test_changed_truths_against_plain_loops(language):
    """The noun's reader marks old and new targets alike; the one that ignores the text what it always marks."""
    new, old, fixed = [], [], []
    for objects, expression, target, peers, largest in rows(language):
        if expression.query.kind not in ("colour", "position", "relation"):
            continue
        judged = verdicts(expression.query, objects)
        mine = [index for index, item in enumerate(objects) if item.category == expression.category]
        others = [index for index in mine if judged[index] == "no"]
        if not others or any(judged[index] == "unsure" for index in mine):
            continue
        truth = union_HW([objects[index] for index in others], target.shape)
        new.append(iou(peers, truth))
        old.append(iou(peers, target))
        fixed.append(iou(largest, truth))
    assert asked(language, "understands")[0]["negation"].n == len(new) > 5
    same(value(language, "reads the noun", "negation", "new_miou"), mean(new))
    same(value(language, "reads the noun", "negation", "old_miou"), mean(old))
    same(value(language, "ignores the text", "negation", "new_miou"), mean(fixed))
    _, _, inquiry = asked(language, "understands")
    assert len(inquiry.cases["attribute_swap"]) > 5
    for case in inquiry.cases["attribute_swap"]:
        assert case.questions[0].expression != inquiry.samples[case.index].expression
    for reader in ("reads the noun", "ignores the text"):
        assert value(language, reader, "attribute_swap", "new_miou") < 60


def either_side(objects, query):
    """The objects that fit the query, or the query with left and right exchanged."""
    fits = set()
    for words in ({}, {"left": "right", "right": "left"}):
        changes = {
            name: " ".join(words.get(word, word) for word in getattr(query, name).split())
            for name in ("place", "side", "relation")
            if getattr(query, name) is not None
        }
        judged = verdicts(replace(query, **changes), objects)
        fits |= {index for index, verdict in enumerate(judged) if verdict == "yes"}
    return union_HW([objects[index] for index in sorted(fits)], objects[0].mask_HW.shape)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_mirror_blind_reader_is_found_by_the_wrong_side_only(language):
    reader = "mirror-blind"
    same(value(language, reader, "flip", "consistency", "mirror"), 100)
    same(value(language, reader, "flip", "consistency", "upside"), 100)
    assert value(language, reader, "flip", "consistency", "quarter") < 95, "it is not blind to top and bottom"
    cases = list(wrong_side_cases(language, "left_right"))
    expected = mean(outside(either_side(row[0], row[1].query), row[2]) for row in cases)
    same(value(language, reader, "wrong_side", "leaves", "left_right"), expected)
    same(value(language, reader, "wrong_side", "given_leaves", "left_right"), expected)
    same(value(language, reader, "wrong_side", "same", "left_right"), 100)
    assert value(language, reader, "wrong_side", "same", "top_bottom") < 50
    same(value(language, reader, "absent", "false_positives"), 0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_reader_that_always_goes_left_is_found_by_the_flip(language):
    reader = "always left"
    score = value(language, reader, "flip", "consistency", "mirror, words exchanged")
    assert score < 15
    same(value(language, reader, "flip", "consistency", "upside"), 100)
    same(value(language, reader, "wrong_side", "same", "left_right"), 100)


@pytest.mark.parametrize("language", LANGUAGES)
def test_flips_ask_about_every_sentence_and_say_how_many(language):
    scores, cases, inquiry = asked(language, "understands")
    flip = scores["flip"]
    samples = len(InMemory(language))
    assert flip.n == 3 * samples
    assert flip.refused == {}
    exchanged = sum(bool(sides(row[1].query) & {"left", "right"}) for row in rows(language))
    assert flip.groups["mirror"].n == samples
    assert flip.groups["mirror, words exchanged"].n == exchanged > 5
    assert flip.predictions == len({(q.index, q.turn) for case in inquiry.cases["flip"] for q in case.questions})


def test_an_input_of_two_probes_is_asked_once_and_the_splits_own_not_again():
    _, _, inquiry = asked("en", "understands")
    asked_for = {(s.image_id, s.expression) for s in (inquiry[i] for i in range(len(inquiry)))}
    assert len(asked_for) == len(inquiry)
    own = {(sample.image_id, sample.expression) for sample in inquiry.samples}
    assert not own & asked_for
    images = [inquiry[i].image_id for i in range(len(inquiry))]
    assert len([1 for a, b in zip(images, images[1:], strict=False) if a != b]) + 1 == len(set(images))


def test_turned_samples_show_turned_images():
    _, _, inquiry = asked("en", "understands")
    seen = set()
    for index in range(len(inquiry)):
        sample = inquiry[index]
        number, _, turn = sample.image_id.partition(" ")
        if turn in TURNS and turn not in seen:
            seen.add(turn)
            objects = views_of_scene("en", int(number), turn)
            covered = union_HW(objects, objects[0].mask_HW.shape)
            assert (sample.read_mask() <= covered).all()
            assert sample.read_mask().any()
    assert seen == set(TURNS)


COLUMNS = {
    "flip: IoU": ("flip", "consistency", None), "flip: IoU, left and right exchanged": (
        "flip", "consistency", "mirror, words exchanged"),
    "wrong left/right: off target": ("wrong_side", "leaves", "left_right"),
    "as given": ("wrong_side", "given_leaves", "left_right"), "same mask": ("wrong_side", "same", "left_right"),
    "absent: false positives": ("absent", "false_positives", None), "paraphrase: worst": (
        "paraphrase", "worst_miou", None),
    "typo: worst": ("typo", "worst_miou", None), "negation: new": ("negation", "new_miou", None),
    "old": ("negation", "old_miou", None), "swap: new": ("attribute_swap", "new_miou", None),
}  # fmt: skip


def readers_table():
    """The table of docs/probes.md: what the probes find in each reader, on the default test split."""
    lines = [f"| reader | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * len(COLUMNS)}"]
    for reader in READERS:
        cells = [f"{value('default', reader, *where):.1f}" for where in COLUMNS.values()]
        lines.append(f"| {reader} | {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.slow
def test_the_documented_readers_are_the_measured_ones():
    text = (ROOT / "docs" / "probes.md").read_text(encoding="utf-8")
    assert readers_table() == text.partition("<!-- readers -->\n")[2].partition("\n<!-- /readers -->")[0]
