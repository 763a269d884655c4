from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rrsis_bench.eval.counts import count
from rrsis_bench.eval.metrics import PRECISIONS, compute_metrics, compute_overall
from rrsis_bench.eval.scores import UNMATCHED, size_class
from tests.fakes.records import LAVT, NATIVE, flat, random_table, row, table_of


def scores(*rows, protocol=NATIVE):
    return flat(compute_overall(table_of(*rows), protocol))


def oracle(pairs):
    """The metrics in plain Python: integers per pair, then the three scores in percent."""
    integers = []
    for pred, target in pairs:
        cells = [(p, t) for prow, trow in zip(pred, target, strict=True) for p, t in zip(prow, trow, strict=True)]
        integers.append((sum(p and t for p, t in cells), sum(p or t for p, t in cells)))
    ious = [i / u for i, u in integers]
    miou = 100 * sum(ious) / len(ious)
    oiou = 100 * sum(i for i, _ in integers) / sum(u for _, u in integers)
    pr = [100 * sum(10 * i >= x * u for i, u in integers) / len(ious) for x in (5, 6, 7, 8, 9)]
    return integers, miou, oiou, pr


def test_200_random_masks_equal_the_plain_python_oracle():
    rng = np.random.default_rng(0)
    pairs = []
    for index in range(200):
        target_HW = rng.random((12, 10)) < 0.5
        pred_HW = target_HW ^ (rng.random((12, 10)) < rng.random() * 0.5)
        target_HW[0, 0] = True
        if index % 10 == 0:  # IoU of exactly 0.5
            target_HW[:], pred_HW[:] = False, False
            target_HW[2:6, 2:6], pred_HW[2:4, 2:6] = True, True
        pairs.append((pred_HW, target_HW))
    integers, miou, oiou, pr = oracle([(p.tolist(), t.tolist()) for p, t in pairs])
    assert [count(p, t)[:2] for p, t in pairs] == integers
    assert sum(2 * i == u for i, u in integers) >= 20
    for protocol in (NATIVE, LAVT):
        made = scores(*(row(*count(p, t)) for p, t in pairs), protocol=protocol)
        assert (made.miou, made.oiou) == pytest.approx((miou, oiou), rel=1e-12)
        assert [getattr(made, name) for name in PRECISIONS] == pytest.approx(pr, rel=1e-12)


@pytest.mark.parametrize(("tenths", "name"), list(zip((5, 6, 7, 8, 9), PRECISIONS, strict=True)))
@pytest.mark.parametrize("scale", [1, 3, 7, 10**6 + 3])
def test_iou_exactly_at_a_threshold_counts_and_strictly_does_not(tenths, name, scale):
    exact, above = row(tenths * scale, 10 * scale, side=1 << 13), row(tenths * scale + 1, 10 * scale, side=1 << 13)
    assert getattr(scores(exact), name) == 100
    strict = dataclasses.replace(NATIVE, strict=True)
    assert getattr(scores(exact, protocol=strict), name) == 0
    assert getattr(scores(above, protocol=strict), name) == 100


def test_empty_targets_under_the_native_rule():
    """ReLA: correct silence 1, false positive 0 and into the union, Pr@X over targeted samples, N-acc and T-acc."""
    rows = [row(0, 0, 0, 0), row(0, 30, 30, 0), row(60, 100, 60, 100), row(0, 70, 0, 70)]
    made = scores(*rows)
    assert made.miou == 100 * (1 + 0 + 0.6 + 0) / 4
    assert (made.intersection, made.union, made.oiou) == (60, 30 + 100 + 70, 100 * 60 / 200)
    assert (made.pr50, made.pr60, made.pr70) == (50, 50, 0)
    assert (made.n_targeted, made.miou_targeted, made.nacc, made.tacc) == (2, 30, 50, 50)


def test_empty_targets_under_the_lavt_rule():
    """The LAVT family: an empty union scores 0, every sample counts in Pr@X."""
    rows = [row(0, 0, 0, 0), row(0, 30, 30, 0), row(60, 100, 60, 100), row(0, 70, 0, 70)]
    made = scores(*rows, protocol=LAVT)
    assert made.miou == 100 * 0.6 / 4
    assert (made.intersection, made.union) == (60, 200)
    assert (made.pr50, made.pr60, made.pr70) == (25, 25, 0)


def test_a_few_pixels_can_mean_no_target():
    """Under ReLA's rule, a prediction of at most tau pixels counts as an empty mask everywhere."""
    tolerant = dataclasses.replace(NATIVE, no_target_pixels=5)
    rows = [row(0, 5, 5, 0), row(0, 6, 6, 0), row(4, 8, 4, 8)]
    made = scores(*rows, protocol=tolerant)
    assert (made.miou, made.nacc, made.tacc) == (100 / 3, 50, 0)
    assert (made.intersection, made.union) == (0, 0 + 6 + 8)
    assert scores(*rows).miou == 100 * 0.5 / 3


def test_what_is_not_measured_is_none_not_zero():
    only_silent = scores(row(0, 0, 0, 0))
    assert (only_silent.miou, only_silent.oiou, only_silent.pr50, only_silent.tacc) == (100, None, None, None)
    made = scores(row(1, 2))
    assert (made.nacc, made.tacc) == (None, None), "no no-target samples, no N-acc"
    assert compute_overall(table_of(), NATIVE).value("miou") is None


def test_sums_exceed_32_bits_and_single_precision():
    big = 2**31 + 1
    rows = [row(big, 2 * big, side=1 << 17)] * 3 + [row(1, 3)]
    made = scores(*rows)
    assert (made.intersection, made.union) == (3 * big + 1, 6 * big + 3)
    assert made.oiou == 100 * (3 * big + 1) / (6 * big + 3)
    assert scores(*[row(2**24, 2**24, side=1 << 13)] * 2, row(1, 1)).intersection == 2**25 + 1


def test_scores_do_not_depend_on_the_order_of_samples():
    table = random_table(60)
    shuffled = np.random.default_rng(1).permutation(60)
    again = compute_metrics(table_of(*(table.rows[i] for i in shuffled)), NATIVE, resamples=0)
    assert again == compute_metrics(table, NATIVE, resamples=0)


def test_categories_add_up_and_the_unmatched_have_a_row():
    table = random_table(50, categories=("ship", None, "airplane", "ship"))
    result = compute_metrics(table, NATIVE, resamples=0)
    assert list(result.per_category) == ["airplane", "ship", UNMATCHED]
    for name, made in result.per_category.items():
        alone = [entry for entry in table if entry.category == (None if name == UNMATCHED else name)]
        expected = scores(*alone)
        assert made.n == len(alone)
        for metric in ("miou", "oiou", "intersection", "union", *PRECISIONS):
            assert getattr(flat(made), metric) == getattr(expected, metric), (name, metric)
    named = [result.per_category[name].value("miou") for name in ("airplane", "ship")]
    assert result.overall.value("macro_miou") == pytest.approx(sum(named) / 2, rel=1e-15)
    assert sum(made.intersection for made in result.per_category.values()) == result.overall.intersection


def test_without_categories_there_is_no_macro_mean():
    result = compute_metrics(random_table(10, categories=(None,)), NATIVE, resamples=0)
    assert list(result.per_category) == [UNMATCHED]
    assert result.overall.value("macro_miou") is None


@pytest.mark.parametrize(("area", "pixels", "share"), [
    (0, "no_target", "no_target"), (1, "small", "<0.1%"), (999, "small", "<0.1%"), (1000, "small", "0.1-1%"),
    (1023, "small", "0.1-1%"), (1024, "medium", "0.1-1%"), (9215, "medium", "0.1-1%"), (9216, "large", "0.1-1%"),
    (9999, "large", "0.1-1%"), (10_000, "large", "1-10%"), (99_999, "large", "1-10%"), (100_000, "large", ">=10%"),
])  # fmt: skip
def test_size_classes_have_exact_bounds(area, pixels, share):
    entry = row(0, 1, 0, 1, native=area, side=1000)
    assert (size_class(entry, "pixels"), size_class(entry, "share")) == (pixels, share)


def test_size_classes_follow_the_native_area_under_every_protocol():
    entry = row(10, 20, 10, 20, native=40_000, side=800)
    assert list(compute_metrics(table_of(entry), LAVT, resamples=0).per_size["pixels"]) == ["large"]


def test_targets_have_rows_where_there_are_several_classes():
    assert compute_metrics(random_table(10), NATIVE, resamples=0).per_target == {}
    rows = [row(10, 20, 15, 15, n_targets=1), row(0, 0, 0, 0, n_targets=0), row(30, 40, n_targets=3),
            row(0, 9, 9, 0, n_targets=0), row(0, 10, 4, 6, n_targets=2), row(5, 5, n_targets=None)]  # fmt: skip
    result = compute_metrics(table_of(*rows), NATIVE, resamples=0)
    assert list(result.per_target) == ["single", "multi", "no_target", "unknown"]
    assert {name: made.n for name, made in result.per_target.items()} == {
        "single": 1, "multi": 2, "no_target": 2, "unknown": 1
    }  # fmt: skip
    multi, none = flat(result.per_target["multi"]), flat(result.per_target["no_target"])
    assert (multi.miou, multi.oiou, multi.pr70) == (37.5, 60.0, 50.0)
    assert (none.miou, none.oiou, none.pr50, none.n_targeted) == (50.0, 0.0, None, 0)
    assert sum(made.union for made in result.per_target.values()) == result.overall.union


def test_languages_have_rows_where_there_are_several():
    assert compute_metrics(random_table(10), NATIVE, resamples=0).per_language == {}
    result = compute_metrics(random_table(20, languages=("en", "zh")), NATIVE, resamples=0)
    assert {name: made.n for name, made in result.per_language.items()} == {"en": 10, "zh": 10}
