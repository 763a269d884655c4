"""Strata: membership of expressions, scores by stratum against plain loops, and their way through files and tables."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from rrsis_bench.data.text.strata import STRATA, Stratum, Training, normalised
from rrsis_bench.errors import UserError
from rrsis_bench.eval import bootstrap, packed
from rrsis_bench.eval.membership import Membership
from rrsis_bench.eval.metrics import compute_metrics
from tests.fakes.records import NATIVE, random_table

TRAIN = ("The ship on the left", "a bridge next to the road", "the large dam")
CATEGORIES = ("ship", "bridge", "dam", "storagetank")
TEST = (
    "The ship on the left",
    "A ship, on left!",
    "the ship",
    "a dam above the bridge",
    "a storage tank with a white roof near the edge of the image",
    "the second ship of the long row of ships that is moored along the northern quay of the old commercial harbour",
)


def classes(stratum, expressions=TEST):
    training = Training(TRAIN, CATEGORIES)
    return [STRATA[stratum].class_of(text, training) for text in expressions]


def test_seen_is_a_loop_over_the_training_expressions():
    def plain(text):
        words = [word for word in re.split(r"[^a-z]+", text.lower()) if word]
        return [word for word in words if word not in ("a", "an", "the")]

    for text, exact, loose in zip(TEST, classes("seen"), classes("seen_normalised"), strict=True):
        is_exact = is_loose = False
        for known in TRAIN:
            is_exact = is_exact or known == text
            is_loose = is_loose or plain(known) == plain(text)
        assert (exact, loose) == tuple("seen" if found else "unseen" for found in (is_exact, is_loose)), text
    assert classes("seen") == ["seen", *["unseen"] * 5]
    assert classes("seen_normalised")[:3] == ["seen", "seen", "unseen"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Ship's bow", "ship s bow"),
        ("  an  oil-tank ", "oil tank"),
        ("左边的船。", "左边的船"),
        ("A_b", "b"),
        ("the", ""),
    ],
)
def test_normalised_text(text, expected):
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("text", "position", "relation"),
    [
        ("the ship on the upper left", True, False),
        ("the ship", False, False),
        ("the ship near the bridge", False, True),
        ("the ship near the dock", False, True),
        ("the bridge on the right of the bridge in the middle", True, True),
        ("the tank with a white roof", False, False),
        ("the ship in the bottom-left corner of the image", True, False),
        ("a dam of large size", False, False),
        ("the vehicle on the road's side", True, True),
        ("左边的船", True, None),
        ("旁边的船", False, None),
        ("边缘的船", True, None),
    ],
)
def test_position_and_relation(text, position, relation):
    assert classes("position", [text]) == ["position word" if position else "no position word"]
    expected = {True: "another object", False: "no other object", None: "not parsed"}[relation]
    assert classes("relation", [text]) == [expected]


def test_relation_does_not_depend_on_the_installed_tagger(monkeypatch):
    monkeypatch.setattr("rrsis_bench.data.text.lexicon.tag", lambda words: [(word, "NN") for word in words])
    assert classes("relation", ["the ship near the dock", "the ship near the grey"]) == [
        "another object", "no other object",
    ]  # fmt: skip


def test_length_classes():
    for n in range(1, 25):
        expected = next((name for low, high, name in [
            (1, 4, "1-4 words"), (5, 8, "5-8 words"), (9, 12, "9-12 words"), (13, 20, "13-20 words"),
        ] if low <= n <= high), "over 20 words")  # fmt: skip
        assert classes("length", [" ".join(["ship"] * n)]) == [expected], n


@pytest.fixture(scope="module")
def table():
    found = random_table(40)
    texts = [TEST[(5 * index + index // 7) % len(TEST)] for index in range(40)]
    found.membership = Membership.of([row.sample_id for row in found], texts, Training(TRAIN, CATEGORIES))
    return found


def test_scores_by_stratum_are_plain_means(table):
    result = compute_metrics(table, NATIVE, resamples=50)
    assert list(result.per_stratum) == list(STRATA)
    for name, groups in result.per_stratum.items():
        assert [entry for entry in STRATA[name].classes if entry in groups] == list(groups)
        for entry, scores in groups.items():
            ious, by_category, inter, union = [], {}, 0, 0
            for row, place in zip(table, table.membership.strata[name], strict=True):
                if place == entry:
                    iou = row.intersection / row.union if row.union else 0.0
                    ious.append(iou)
                    by_category.setdefault(row.category, []).append(iou)
                    inter, union = inter + row.intersection, union + row.union
            balanced = sum(sum(part) / len(part) for part in by_category.values()) / len(by_category)
            assert scores.n == len(ious)
            assert scores.value("miou") == pytest.approx(100 * sum(ious) / len(ious))
            assert scores.value("macro_miou") == pytest.approx(100 * balanced)
            assert scores.value("oiou") == pytest.approx(100 * inter / union)
            assert scores.value("pr50") == pytest.approx(100 * sum(iou >= 0.5 for iou in ious) / len(ious))
            for metric in ("miou", "macro_miou"):
                found = scores.scores[metric]
                assert found.value - 40 < found.lo < found.hi < found.value + 40
    assert result.per_stratum["all"]["all"].value("macro_miou") == result.overall.value("macro_miou")
    assert result.per_stratum["all"]["all"].value("miou") == result.overall.value("miou")


def test_interval_of_a_class_balanced_mean_resamples_its_categories_together():
    """Against a loop over the replicates that recomputes every category's mean; some replicates lack the rare one."""
    table = random_table(40, categories=("ship",) * 12 + ("bridge",) * 7 + ("dam",))
    table.membership = Membership(tuple(row.sample_id for row in table), {"all": ("all",) * 40})
    found = compute_metrics(table, NATIVE, resamples=30).per_stratum["all"]["all"].scores["macro_miou"]
    images = list(dict.fromkeys(row.image_id for row in table))
    means = []
    for times_RK in bootstrap.draws(len(images), 30):
        for times_K in times_RK:
            drawn = dict(zip(images, times_K, strict=True))
            sums = {}
            for row in table:
                up, down = sums.get(row.category, (0.0, 0.0))
                iou = row.intersection / row.union if row.union else 0.0
                sums[row.category] = (up + drawn[row.image_id] * iou, down + drawn[row.image_id])
            ratios = [up / down for up, down in sums.values() if down]
            means.append(100 * sum(ratios) / len(ratios))
    means.sort()

    def quantile(share):
        place = share * (len(means) - 1)
        low = math.floor(place)
        return means[low] + (place - low) * (means[min(low + 1, len(means) - 1)] - means[low])

    assert (found.lo, found.hi) == pytest.approx((quantile(0.025), quantile(0.975)), abs=1e-6)


def test_samples_find_their_class_in_any_order(table):
    turned = dataclasses.replace(table, rows=table.rows[::-1][:30])
    found = compute_metrics(turned, NATIVE, resamples=0).per_stratum["seen"]
    classes_of = dict(zip(table.membership.sample_ids, table.membership.strata["seen"], strict=True))
    for entry, group in found.items():
        assert group.n == sum(classes_of[row.sample_id] == entry for row in turned)
        assert group.union == sum(row.union for row in turned if classes_of[row.sample_id] == entry)


def test_without_membership_there_are_no_strata():
    assert compute_metrics(random_table(10), NATIVE, resamples=0).per_stratum is None


def test_membership_survives_its_file(table):
    membership = table.membership
    again = Membership.from_csv_gz(membership.to_csv_gz())
    assert (again.sample_ids, dict(again.strata)) == (membership.sample_ids, dict(membership.strata))
    assert again.to_csv_gz() == membership.to_csv_gz()
    with pytest.raises(UserError, match="missing-one"):
        membership.classes("seen", ["missing-one"])


@pytest.mark.parametrize("damage", ["torn", "empty", "columns", "ragged", "twice"])
def test_damaged_strata_files_are_named(table, damage):
    data = {
        "torn": table.membership.to_csv_gz()[:40],
        "empty": b"",
        "columns": packed.pack([("id", "seen"), ("s0", "seen")]),
        "ragged": packed.pack([("sample_id", "seen"), ("s0",)]),
        "twice": dataclasses.replace(table.membership, sample_ids=("s0",) * 40).to_csv_gz(),
    }[damage]
    with pytest.raises(UserError, match=r"strata\.gz"):
        Membership.from_csv_gz(data, "strata.gz")


def test_a_new_stratum_is_one_entry(monkeypatch, table):
    entry = Stratum("article", "article", "the first word", ("definite", "other"),
                    lambda text, _: "definite" if text.lower().startswith("the ") else "other")  # fmt: skip
    monkeypatch.setitem(STRATA, "article", entry)
    texts = [TEST[index % len(TEST)] for index in range(len(table))]
    membership = Membership.of([row.sample_id for row in table], texts, Training(TRAIN, CATEGORIES))
    found = compute_metrics(dataclasses.replace(table, membership=membership), NATIVE, resamples=0).per_stratum
    assert list(found["article"]) == ["definite", "other"]
    assert sum(group.n for group in found["article"].values()) == 40
