"""The paired test: against its plainest form, its symmetries, its coverage and its error rate."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from rrsis_bench.errors import UserError
from rrsis_bench.eval import paired
from rrsis_bench.eval.metrics import PRECISIONS, SampleScores
from rrsis_bench.results.board import significance
from tests.fakes.records import LAVT, NATIVE, random_table, row, table_of


def side(iou_N, union_N, images, *, categories=None) -> paired.Samples:
    """Samples of one seed with these IoU; intersections are rounded to pixels."""
    union_N = np.asarray(union_N, dtype=np.int64)
    intersection_N = np.rint(np.asarray(iou_N) * union_N).astype(np.int64)
    iou_N = intersection_N / union_N
    n = len(union_N)
    yes_N = np.ones(n, dtype=bool)
    scores = SampleScores(iou_N, intersection_N, union_N, yes_N, yes_N, ~yes_N, False)
    return paired.Samples(
        tuple(f"s{i:06d}" for i in range(n)), tuple(map(str, images)), tuple(categories or ["ship"] * n), {}, (scores,)
    )


def pair(n_images, seed, *, shift=0.1, slope=0.08, spread=1.5):
    """Two models on images with one to about ten targets each, whose areas are log-normal.

    Hard images are hard for both; the second model is better by `shift` and, with `slope`, on large targets.
    """
    rng = np.random.default_rng(seed)
    images = np.repeat(np.arange(n_images), np.minimum(rng.geometric(0.45, n_images), 12))
    n = len(images)
    log_area_N = rng.normal(8, spread, n) + 0.5 * rng.normal(0, 1, n_images)[images]
    base_N = rng.normal(0.4, 1, n) + rng.normal(0, 0.7, n_images)[images]
    iou = []
    for gain_N in (np.zeros(n), shift + slope * (log_area_N - 8)):
        own_N = rng.normal(0, 0.6, n) + rng.normal(0, 0.3, n_images)[images]
        iou.append(1 / (1 + np.exp(-(base_N + gain_N + own_N))))
    unions = [np.maximum(np.rint(np.exp(log_area_N) * (1.3 - 0.3 * iou_N)), 1) for iou_N in iou]
    return side(iou[0], unions[0], images), side(iou[1], unions[1], images)


def everything(samples):
    return {"": np.arange(len(samples.ids))}


def plain(a, b, resamples, seed):
    """mIoU and oIoU by loops: draw images one by one, and the standard error from the residuals of every draw."""
    rng = np.random.default_rng(seed)
    images = list(dict.fromkeys(a.images))
    members = {name: [i for i, image in enumerate(a.images) if image == name] for name in images}

    def both(drawn):
        picked = [i for name in drawn for i in members[name]]
        rows = []
        for s in (a, b):
            rows.append((np.mean([s.iou_N[i] for i in picked]), sum(s.seeds[0].intersection_N[i] for i in picked),
                         sum(s.seeds[0].union_N[i] for i in picked)))  # fmt: skip
        (miou_a, i_a, u_a), (miou_b, i_b, u_b) = rows
        gaps = np.array([miou_b - miou_a, i_b / u_b - i_a / u_a])
        squares = np.zeros(2)
        for name in drawn:
            d, e = 0.0, 0.0
            for i in members[name]:
                d += (b.iou_N[i] - a.iou_N[i] - gaps[0]) / len(picked)
                e += (b.seeds[0].intersection_N[i] - i_b / u_b * b.seeds[0].union_N[i]) / u_b
                e -= (a.seeds[0].intersection_N[i] - i_a / u_a * a.seeds[0].union_N[i]) / u_a
            squares += np.array([d * d, e * e])
        return gaps, np.sqrt(squares)

    gap, error = both(images)
    t = []
    for _ in range(resamples):
        star, star_error = both([images[k] for k in rng.integers(len(images), size=len(images))])
        t.append(np.abs(star - gap) / star_error)
    t = np.array(t)
    p = (1 + (t >= np.abs(gap) / error).sum(axis=0)) / (1 + resamples)
    half = np.sort(t, axis=0)[int(np.ceil(0.95 * (resamples + 1))) - 1] * error
    return 100 * gap, 100 * half, p


def test_the_test_is_that_of_the_plainest_form():
    a, b = pair(15, 0)
    gap, half, p = plain(a, b, 300, 7)
    made = paired.gaps(a, b, everything(a), resamples=300, seed=7)[""]
    for position, name in enumerate(("miou", "oiou")):
        found = made[name]
        assert found.value == pytest.approx(gap[position], rel=1e-9)
        assert (found.low, found.high) == pytest.approx(
            (gap[position] - half[position], gap[position] + half[position])
        )
        assert found.p == pytest.approx(p[position], abs=1e-12)


def test_the_interval_holds_zero_exactly_where_p_is_above_five_percent():
    seen = set()
    for seed in range(60):
        a, b = pair(20, seed, shift=0.25)
        for gap in paired.gaps(a, b, everything(a), resamples=199)[""].values():
            if gap.low is not None:
                assert (gap.low <= 0 <= gap.high) == (gap.p > 0.05)
                seen.add(gap.p > 0.05)
    assert seen == {True, False}


def test_exchanging_the_sides_changes_the_signs_to_the_last_bit_and_a_seed_repeats():
    a, b = pair(40, 3)
    groups = everything(a) | {"half": np.arange(0, len(a.ids), 2)}
    forth, back = (paired.gaps(*sides, groups, resamples=500, seed=5) for sides in ((a, b), (b, a)))
    assert forth == {name: {metric: -gap for metric, gap in found.items()} for name, found in back.items()}
    assert forth == paired.gaps(a, b, groups, resamples=500, seed=5)
    assert forth != paired.gaps(a, b, groups, resamples=500, seed=6)


def test_a_row_against_itself_has_gap_0_and_p_1():
    a, _ = pair(30, 1)
    for gap in paired.gaps(a, a, everything(a), resamples=200)[""].values():
        assert (gap.value, gap.low, gap.high, gap.p) == (0, 0, 0, 1)


def test_several_seeds_count_with_the_mean_of_their_scores():
    tables = [random_table(40, seed=seed) for seed in (1, 2, 3)]
    for table in tables[1:]:  # the same targets everywhere: only predictions differ between seeds
        table.rows[:] = [
            dataclasses.replace(first, intersection=min(entry.intersection, first.target_area),
                                pred_area=first.pred_area, union=first.pred_area + first.target_area
                                - min(entry.intersection, first.target_area, first.pred_area))
            if min(entry.intersection, first.target_area) <= first.pred_area else first
            for entry, first in zip(table.rows, tables[0].rows, strict=True)
        ]  # fmt: skip
    two, one = paired.samples(tables[:2], NATIVE), paired.samples(tables[2:], NATIVE)
    gap = paired.gaps(two, one, everything(two), resamples=50)[""]
    singles = [
        paired.gaps(paired.samples([table], NATIVE), one, everything(two), resamples=50)[""] for table in tables[:2]
    ]
    for name in ("miou", "oiou", *PRECISIONS):
        assert gap[name].value == pytest.approx(np.mean([single[name].value for single in singles]), abs=1e-9), name


def test_the_protocols_rules_hold_for_empty_targets():
    """ReLA: silence on an empty target is IoU 1, and Pr@X counts targeted samples only; LAVT: it is 0 and counts."""
    rows = [row(0, 0, 0, 0, image="i0"), row(60, 100, 60, 100, image="i1"), row(0, 70, 0, 70, image="i2")]
    other = [row(0, 9, 9, 0, image="i0"), row(60, 100, 60, 100, image="i1"), row(40, 70, 40, 70, image="i2")]
    for protocol, miou, pr50 in ((NATIVE, (40 / 70 - 1) / 3, 1 / 2), (LAVT, 40 / 70 / 3, 1 / 3)):
        a, b = (paired.samples([table_of(*entries)], protocol) for entries in (rows, other))
        made = paired.gaps(a, b, everything(a), resamples=20)[""]
        assert made["miou"].value == pytest.approx(100 * miou)
        assert made["pr50"].value == pytest.approx(100 * pr50)


def test_samples_pair_by_id_whatever_their_order_and_others_are_refused():
    table = random_table(20)
    turned = type(table)(table.rows[::-1])
    a, b = paired.samples([table], NATIVE), paired.samples([turned], NATIVE)
    assert {gap.p for gap in paired.gaps(a, b, everything(a), resamples=20)[""].values()} == {1}
    with pytest.raises(UserError, match="2 only in the first, 0 only in the second"):
        paired.gaps(a, paired.samples([type(table)(table.rows[:18])], NATIVE), everything(a))
    with pytest.raises(UserError, match="different samples"):
        paired.samples([table, type(table)(table.rows[:18])], NATIVE)


def test_too_few_images_are_never_significant():
    """One image has no p; two that both favour a side have no bounded interval."""
    one = side([0.2, 0.3], [100, 200], [0, 0]), side([0.8, 0.9], [100, 200], [0, 0])
    assert paired.gaps(*one, everything(one[0]), resamples=50)[""]["miou"].p is None
    two = side([0.2, 0.3], [100, 200], [0, 1]), side([0.8, 0.95], [100, 200], [0, 1])
    gap = paired.gaps(*two, everything(two[0]), resamples=500)[""]["miou"]
    assert gap.p > 0.05
    assert gap.low is None


def test_wins_are_counted_per_sample():
    a, b = side([0.5, 0.2, 0.9, 0.4], [100] * 4, range(4)), side([0.5, 0.3, 0.1, 0.8], [100] * 4, range(4))
    assert paired.wins(a, b, np.arange(4)) == paired.Wins(1, 2, 1)


def test_holms_correction():
    """Holm (1979): the smallest p times m, the next times m - 1, never falling, at most 1."""
    assert paired.holm([0.01, 0.04, None, 0.03, 0.5]) == [0.04, 0.09, None, 0.09, 0.5]
    assert paired.holm([0.5, 0.9]) == [1.0, 1.0]
    assert paired.holm([]) == []


def test_a_small_p_follows_the_replicates_own_tail():
    """Below ten replicates the share is an upper bound; few images, or ten and more replicates, keep it."""
    assert paired.p_value(0, 999, 6.0, 1.0, 300) == pytest.approx(1.97e-9, rel=0.01)
    assert paired.p_value(0, 999, 6.0, 1.0, 20) == 1 / 1000
    assert paired.p_value(10, 999, 6.0, 1.0, 300) == 11 / 1000
    assert paired.p_value(3, 999, 2.0, 1.5, 300) == 4 / 1000, "never above the counted one"


def test_all_pairs_at_once_are_the_pairs_one_by_one():
    a, b = pair(60, 1)
    _, c = pair(60, 1, shift=0.5)
    rows = [a, b, c, a]
    p, gaps = significance.compare_all(np.stack([s.iou_N for s in rows], axis=1), a.images, resamples=400)
    one_by_one = [paired.gaps(rows[i], rows[j], everything(a), resamples=400)[""]["miou"]
                  for i in range(4) for j in range(i + 1, 4)]  # fmt: skip
    assert p == pytest.approx([gap.p for gap in one_by_one], rel=1e-6)
    assert [100 * gap for gap in gaps] == pytest.approx([gap.value for gap in one_by_one], abs=1e-9)
    assert p[2] == 1


def held(sets, n_images, resamples, **changes):
    """Share of simulated pairs, in percent, whose interval holds the true difference: (mIoU, oIoU)."""
    large = [pair(200_000, 10**6 + k, **changes) for k in range(3)]
    true = np.mean([[gap.value for gap in map(paired.gaps(*sides, everything(sides[0]), resamples=0)[""].get,
                                              ("miou", "oiou"))] for sides in large], axis=0)  # fmt: skip
    hits = np.zeros(2)
    for seed in range(sets):
        a, b = pair(n_images, seed, **changes)
        found = paired.gaps(a, b, everything(a), resamples=resamples, seed=seed)[""]
        hits += [found[name].low <= t <= found[name].high for name, t in zip(("miou", "oiou"), true, strict=True)]
    return 100 * hits / sets


def errors(sets, n_images, resamples):
    """Share of pairs without any difference, in percent, that are called significant: (mIoU, oIoU)."""
    wrong = np.zeros(2)
    for seed in range(sets):
        a, b = pair(n_images, seed, shift=0.0, slope=0.0)
        found = paired.gaps(a, b, everything(a), resamples=resamples, seed=seed)[""]
        wrong += [found[name].p <= 0.05 for name in ("miou", "oiou")]
    return 100 * wrong / sets


def test_coverage_and_error_rate_in_short():
    """120 small sets: three standard deviations around 95% and 5%."""
    a, b = errors(120, 60, 199)
    assert max(a, b) <= 11


@pytest.mark.slow
def test_coverage_of_the_95_percent_interval_on_a_thousand_pairs():
    """Log-normal areas, 300 unequal images, 1,000 resamples; measured 95.2 and 96.2 (percentile: 94.4, 93.2)."""
    miou, oiou = held(1000, 300, 1000)
    assert 93.5 <= miou <= 96.5
    assert 93.5 <= oiou <= 96.5


@pytest.mark.slow
def test_at_most_six_percent_of_a_thousand_equal_pairs_are_called_different():
    assert max(errors(1000, 300, 1000)) <= 6


def test_ten_thousand_resamples_of_rrsis_ds_test_split_take_seconds():
    """At most 3 s asked for all scores; measured 0.6 s of one core. The bound leaves room for a busy machine."""
    rng = np.random.default_rng(0)
    union_N = np.exp(rng.normal(8, 1.5, 3481)) + 1
    a, b = (side(rng.random(3481), union_N, range(3481)) for _ in range(2))
    started = time.process_time()
    paired.gaps(a, b, everything(a))
    assert time.process_time() - started < 3 * 2, "CPU time, over up to two cores"


def trained(n_images, seed, effect, *, seeds=3, gain=0.0):
    """Two models with several seeds each on the same images; each training moves all IoU by `effect` points (std)."""
    rng = np.random.default_rng(seed)
    hard_K = rng.normal(0.5, 0.2, n_images)
    rows = []
    for shift in (0.0, gain):
        own_K = hard_K + rng.normal(0, 0.05, n_images)
        moved = [own_K + shift + rng.normal(0, effect / 100) + rng.normal(0, 0.05, n_images) for _ in range(seeds)]
        rows.append(np.stack(moved))
    return rows


def seed_simulation(trials, effect, resamples, seed=0):
    """Share of equal pairs that are called different, and coverage of the interval of the pairs' true difference."""
    images, wrong, covered = [str(i) for i in range(80)], 0, 0
    for trial in range(trials):
        a, b = trained(80, (seed, trial), effect)
        means = [row.mean(axis=1).tolist() for row in (a, b)]
        (p,), _ = significance.compare_all(
            np.stack([a.mean(0), b.mean(0)], axis=1), images, means, resamples=resamples, seed=trial
        )
        wrong += p <= 0.05
        sides = [
            dataclasses.replace(
                side(row[0].clip(0, 1), np.full(80, 1000), images),
                seeds=tuple(side(one.clip(0, 1), np.full(80, 1000), images).seeds[0] for one in row),
            )
            for row in (a, b)
        ]
        gap = paired.gaps(*sides, everything(sides[0]), resamples=resamples, seed=trial)[""]["miou"]
        covered += gap.low <= 0 <= gap.high
    return wrong / trials, covered / trials


@pytest.mark.parametrize("effect", [0, 1, 3])
def test_seeds_keep_the_error_rate_in_short(effect):
    wrong, covered = seed_simulation(60, effect, 300)
    assert wrong <= 0.15
    assert covered >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0, 1, 3])
def test_seeds_keep_the_error_rate_on_a_thousand_pairs(effect):
    """Without the seeds, 3 points of seed effect call most of the equal pairs different."""
    wrong, covered = seed_simulation(1000, effect, 1000)
    print(f"seed effect {effect}: type I error {wrong:.1%}, coverage {covered:.1%}")
    assert wrong <= 0.065
    assert covered >= 0.935


def test_without_the_seeds_equal_models_would_be_called_different():
    """Bug: the image bootstrap knows nothing of the seed, so that rounding alone separated ranks."""
    images, wrong = [str(i) for i in range(80)], 0
    for trial in range(40):
        a, b = trained(80, (5, trial), 3, seeds=1)
        (p,), _ = significance.compare_all(np.stack([a[0], b[0]], axis=1), images, resamples=300)
        wrong += p <= 0.05
    assert wrong > 20


def test_a_real_difference_is_found_with_three_seeds():
    a, b = trained(200, 3, 1, gain=0.08)
    means = [row.mean(axis=1).tolist() for row in (a, b)]
    (p,), _ = significance.compare_all(np.stack([a.mean(0), b.mean(0)], axis=1), [str(i) for i in range(200)], means)
    assert p < 0.05


def test_a_p_close_to_the_level_is_settled_by_more_resamples(monkeypatch):
    """Ranks near the threshold do not depend on the bootstrap's seed."""
    calls = []
    single = significance.compare_all

    def counted(*args, resamples, seed):
        calls.append(resamples)
        return single(*args, resamples=resamples, seed=seed)

    monkeypatch.setattr(significance, "compare_all", counted)
    rng = np.random.default_rng(0)
    noise_N = rng.normal(0, 0.1, 100)
    noise_N -= noise_N.mean()
    images = [str(i) for i in range(100)]
    error = np.linalg.norm(noise_N) / 100
    for factor, far in ((1.99, False), (5.0, True)):
        calls.clear()
        base_N = rng.random(100)
        significance.settled(np.stack([base_N, base_N + noise_N + factor * error], axis=1), images)
        assert (len(calls) == 1) is far
    decisions = {
        significance.settled(np.stack([base_N, base_N + noise_N + 2.1 * error], axis=1), images, seed=seed)[0][0]
        <= 0.05
        for seed in range(4)
    }
    assert len(decisions) == 1
