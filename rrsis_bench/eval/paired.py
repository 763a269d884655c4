"""Paired test of two rows on the same samples: a symmetric bootstrap-t over images (Hall, 1988).

Both rows are scored on the same resampled images, so what makes an image easy or hard cancels out. Per resample the
change of the difference is divided by its own standard error, taken from the sums per image: t* = (d* - d) / se*. The
95% interval is d +- q se with q the 95% quantile of |t*|, and p = (1 + #{|t*| >= |d| / se}) / (1 + resamples), so the
interval holds 0 exactly if p > 0.05.

The plain percentile interval was rejected: with log-normal target areas and 300 images, its nominal
95% interval of an oIoU difference held the truth in 92% to 93% of the simulated pairs (this one: 95% to 96%), and in a
category of five images without any difference it was significant in 11% of the cases (this one: at most 1%).

Several seeds: a resample's score is the mean over the seeds of each seed's score, so the difference is that of the
tables' means. With three seeds or more on both sides, seeds are drawn too (`rrsis_bench.eval.seeds`), and the test is
about the models. With fewer, it is about these trainings.
"""

# R = bootstrap replicates, K = images, M = samples of a group, G = groups

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.errors import UserError
from rrsis_bench.eval.bootstrap import RESAMPLES, Ratio, clusters, draws
from rrsis_bench.eval.counts import Array, CountsTable
from rrsis_bench.eval.metrics import METRICS, SampleScores, score_samples
from rrsis_bench.eval.scores import SIZE_CLASSES, category_class, size_class
from rrsis_bench.eval.seeds import MIN_SEEDS, random_signs, seed_draws, seed_errors, with_images

LEVEL = 0.95
MIN_IMAGES = 2
_TINY = 1e-12  # of a ratio in [0, 1]: below it, a difference is rounding
_FEW = 10  # replicates beyond the observed t below which their share says little
_EXTRAPOLATED_FROM = 30  # images


@dataclass(frozen=True)
class Samples:
    """What the samples of a row contribute, sorted by sample id.

    Attributes:
        ids: (N) sample ids.
        images: (N) image ids.
        categories: (N) categories, `UNMATCHED` for none.
        sizes: scheme -> (N) size classes.
        seeds: contributions of the samples, one entry per seed.
        strata: stratum -> (N) classes; empty if they are unknown.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]
    categories: tuple[str, ...]
    sizes: dict[str, tuple[str, ...]]
    seeds: tuple[SampleScores, ...]
    strata: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def iou_N(self) -> Array:
        """Mean IoU over the seeds."""
        return np.asarray(np.mean([seed.iou_N for seed in self.seeds], axis=0))

    @cached_property
    def _key(self) -> bytes:
        columns = ("iou_N", "intersection_N", "union_N")
        return b"".join(getattr(seed, name).tobytes() for name in columns for seed in self.seeds)


@dataclass(frozen=True, slots=True)
class Gap:
    """The difference of one score between two rows, with its paired test; in percent.

    Attributes:
        value: b minus a; None if the score is not defined (no sample, an empty union).
        low: lower end of the 95% interval; None if the resamples do not bound it (too few images).
        high: its upper end.
        p: two-sided; None below two images.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def __neg__(self) -> Gap:
        """The same test with the sides exchanged."""
        return Gap(_minus(self.value), _minus(self.high), _minus(self.low), self.p)


@dataclass(frozen=True, slots=True)
class Wins:
    """On how many samples each side has the higher IoU (mean over its seeds)."""

    a: int
    b: int
    ties: int


def samples(tables: Sequence[CountsTable], protocol: Protocol) -> Samples:
    """Return the samples of a row from the integers of its seeds.

    Raises:
        UserError: the seeds do not have the same samples.
    """
    ordered = [sorted(table, key=lambda row: row.sample_id) for table in tables]
    first = ordered[0]
    ids = tuple(row.sample_id for row in first)
    if any(tuple(row.sample_id for row in rows) != ids for rows in ordered):
        raise UserError("The seeds of one row were scored on different samples. Evaluate them again on the same data.")
    known = tables[0].membership
    return Samples(
        ids,
        tuple(row.image_id for row in first),
        tuple(category_class(row) for row in first),
        {scheme: tuple(size_class(row, scheme) for row in first) for scheme in SIZE_CLASSES},
        tuple(score_samples(CountsTable(rows), protocol) for rows in ordered),
        {} if known is None else {name: tuple(known.classes(name, ids)) for name in known.strata},
    )


def require_pairs(a: Samples, b: Samples) -> None:
    """Raise UserError if two rows do not have the same samples: then there are no pairs to test."""
    if a.ids != b.ids:
        only_a, only_b = sorted(set(a.ids) - set(b.ids)), sorted(set(b.ids) - set(a.ids))
        some = ", ".join((only_a + only_b)[:5])
        raise UserError(
            f"The two rows were not scored on the same samples: {len(only_a)} only in the first, {len(only_b)} only in "
            f"the second ({some}). A paired comparison needs the same split of the same data."
        )


def gaps(
    a: Samples, b: Samples, groups: Mapping[str, Array], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, Gap]]:
    """Test b against a: the differences of every metric in every group.

    Args:
        a: the first row.
        b: the second, on the same samples.
        groups: name -> indices of its samples. All groups see the same resampled images.
        resamples: bootstrap replicates.
        seed: of the generator.

    Returns:
        group -> metric -> difference. Exchanging a and b changes only the signs.

    Raises:
        UserError: the samples differ.
    """
    require_pairs(a, b)
    if a._key > b._key:  # one order of the columns for both orders of the arguments, so that sums round the same way
        turned = gaps(b, a, groups, resamples=resamples, seed=seed)
        return {group: {name: -gap for name, gap in found.items()} for group, found in turned.items()}
    image_N, n_images = clusters(a.images)
    scores = _ratios(a), _ratios(b)
    prepared = {name: _Group(scores, index_M, image_N) for name, index_M in groups.items()}
    if n_images >= MIN_IMAGES:
        for times_RK in draws(n_images, resamples, seed):
            for group in prepared.values():
                group.add(times_RK)
    return {name: group.results(seed) for name, group in prepared.items()}


def wins(a: Samples, b: Samples, index_M: Array) -> Wins:
    """Count the samples of a group that each side wins."""
    gap_M = b.iou_N[index_M] - a.iou_N[index_M]
    n_a, n_b = int(np.count_nonzero(gap_M < 0)), int(np.count_nonzero(gap_M > 0))
    return Wins(n_a, n_b, len(index_M) - n_a - n_b)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjust the p of one family of tests (Holm, 1979); None stays None and does not count."""
    order = sorted((value, index) for index, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        adjusted[index] = highest
    return adjusted


def p_value(beyond: int, replicates: int, t: float, spread: float, n_images: int) -> float:
    """Two-sided p of a bootstrap-t.

    Args:
        beyond: replicates with |t*| >= |t|.
        replicates: all of them.
        t: the observed one.
        spread: root of the mean of t*^2 (1 where t* is standard normal).
        n_images: images behind the score.

    Returns:
        ``(1 + beyond) / (1 + replicates)``. If fewer than ten replicates are beyond, that share is little more than
        an upper bound, too coarse for the many pairs of a long table; from 30 images on, a normal tail of the
        replicates' own spread then continues it downwards.
    """
    counted = (1 + beyond) / (1 + replicates)
    if beyond >= _FEW or n_images < _EXTRAPOLATED_FROM or not math.isfinite(t) or not 0 < spread < math.inf:
        return counted
    return min(counted, math.erfc(t / (spread * math.sqrt(2))))


def _ratios(side: Samples) -> dict[str, list[Ratio]]:
    """Metric -> one ratio of sums per seed; their mean is the row's score. Means over categories have no test."""
    has_empty = not side.seeds[0].targeted_N.all()
    found = {}
    for name, metric in METRICS.items():
        if metric.ratio and (has_empty or not metric.no_target):
            pairs = [metric.ratio(seed) for seed in side.seeds]
            found[name] = [(up_N.astype(np.float64), down_N.astype(np.float64)) for up_N, down_N in pairs]
    return found


class _Contrast:
    """One score's difference in one group: a weighted sum of ratios of sums over images.

    `terms` hold (weight, numerator per image, denominator per image). Its columns are the centred numerators, the
    denominators and the products of all pairs of these, from whose resampled sums t* follows.
    """

    def __init__(self, terms: list[tuple[float, Array, Array]]) -> None:
        totals = [(numerator_K.sum(), denominator_K.sum()) for _, numerator_K, denominator_K in terms]
        self.defined = all(denominator > 0 for _, denominator in totals)
        self.columns: list[Array] = []
        self.places: list[int] = []  # of the columns, among those of the group
        if not self.defined:
            return
        self.weights = [weight for weight, _, _ in terms]
        ratios = [numerator / denominator for numerator, denominator in totals]
        self.value = math.fsum(weight * ratio for weight, ratio in zip(self.weights, ratios, strict=True))
        self.parts: list[Array] = []
        influence_K = np.zeros(len(terms[0][1]))
        self.seed_errors, self.freedom = np.zeros(0), 0
        for (weight, numerator_K, denominator_K), ratio, (_, total) in zip(terms, ratios, totals, strict=True):
            centred_K = numerator_K - ratio * denominator_K
            self.parts += [centred_K, denominator_K]
            influence_K += weight / total * centred_K
        self.pairs = [(i, j) for i in range(len(self.parts)) for j in range(i, len(self.parts))]
        self.columns = [*self.parts, *(self.parts[i] * self.parts[j] for i, j in self.pairs)]
        self.error = math.sqrt(float(influence_K @ influence_K))
        self.t: list[Array] = []

    def add(self, sums_RC: Array) -> None:
        """Append |t*| of a chunk of resamples from the resampled sums of the group's columns."""
        n, place = len(self.parts), self.places
        factors: list[Array] = []
        change_R = np.zeros(len(sums_RC))
        with np.errstate(divide="ignore", invalid="ignore"):
            for term, weight in enumerate(self.weights):
                denominator_R = sums_RC[:, place[2 * term + 1]]
                ratio_R = sums_RC[:, place[2 * term]] / denominator_R  # NaN where no sample was drawn
                change_R = change_R + weight * ratio_R
                factors += [weight / denominator_R, -weight * ratio_R / denominator_R]
            variance_R = np.zeros(len(sums_RC))
            for position, (i, j) in zip(place[n:], self.pairs, strict=True):
                variance_R += (1 if i == j else 2) * factors[i] * factors[j] * sums_RC[:, position]
        change_R = change_R[~np.isnan(change_R)]
        self.t.append(studentised(change_R, variance_R[~np.isnan(variance_R)]))

    def with_seeds(self, a: Sequence[float], b: Sequence[float]) -> None:
        """Take the seeds' own scores into the test, if both sides have enough of them."""
        if self.defined and min(len(a), len(b)) >= MIN_SEEDS:
            self.seed_errors, self.freedom = seed_errors([a, b])

    def result(self, n_images: int, scale: float, seed: int) -> Gap:
        """Return the test over all chunks. `scale` is the metric's; few images bound p from below."""
        if not self.defined:
            return Gap(None)
        value = scale * self.value
        t_R = np.sort(np.concatenate(self.t)) if self.t else np.empty(0)
        if n_images < MIN_IMAGES or not len(t_R):
            return Gap(value)
        if self.freedom:
            return self._hierarchical(np.concatenate(self.t), scale, seed)
        t = observed(self.value, self.error)
        beyond = len(t_R) - int(np.searchsorted(t_R, t))
        finite_R = t_R[np.isfinite(t_R)]
        spread = math.sqrt(float(np.mean(finite_R**2))) if len(finite_R) else math.inf
        p = p_value(beyond, len(t_R), t, spread, n_images)
        position = math.ceil(LEVEL * (len(t_R) + 1)) - 1
        if position >= len(t_R) or not math.isfinite(t_R[position]):
            return Gap(value, p=p)
        half = scale * float(t_R[position]) * self.error
        return Gap(value, value - half, value + half, p)

    def _hierarchical(self, t_R: Array, scale: float, seed: int) -> Gap:
        rng = np.random.default_rng((seed, 1))
        drawn_R2 = seed_draws(self.seed_errors, self.freedom, len(t_R), rng)
        change_R = with_images(drawn_R2[:, 1] - drawn_R2[:, 0], t_R, random_signs(len(t_R), rng), self.error)
        change_R.sort()
        beyond = len(change_R) - int(np.searchsorted(change_R, max(0.0, abs(self.value) - _TINY)))
        value, p = scale * self.value, (1 + beyond) / (1 + len(change_R))
        position = math.ceil(LEVEL * (len(change_R) + 1)) - 1
        if position >= len(change_R) or not math.isfinite(change_R[position]):
            return Gap(value, p=p)
        half = scale * float(change_R[position])
        return Gap(value, value - half, value + half, p)


class _Group:
    """The contrasts of one group of samples, over the images that show any of them."""

    def __init__(
        self, scores: tuple[dict[str, list[Ratio]], dict[str, list[Ratio]]], index_M: Array, image_N: Array
    ) -> None:
        self.images_G, local_M = np.unique(image_N[index_M], return_inverse=True)
        n = len(self.images_G)

        def per_image(values_N: Array) -> Array:
            return np.bincount(local_M, weights=values_N[index_M], minlength=n)

        self.contrasts: dict[str, _Contrast] = {}
        for name, sides in ((name, (scores[0][name], scores[1][name])) for name in scores[0]):
            self.contrasts[name] = _Contrast(
                [(weight, per_image(up_N), per_image(down_N)) for weight, up_N, down_N in _terms(*sides)]
            )
            self.contrasts[name].with_seeds(*([_ratio(*seed, index_M) for seed in side] for side in sides))
        places: dict[bytes, int] = {}  # equal columns (mIoU and Pr@X share their denominator) are summed once
        columns: list[Array] = []
        for contrast in self.contrasts.values():
            for column_G in contrast.columns:
                contrast.places.append(places.setdefault(column_G.tobytes(), len(columns)))
                if len(places) > len(columns):
                    columns.append(column_G)
        self.columns_GC = np.stack(columns or [np.zeros(n)], axis=1)

    def add(self, times_RK: Array) -> None:
        """Take in a chunk of resamples."""
        whole = len(self.images_G) == times_RK.shape[1]
        sums_RC = (times_RK if whole else times_RK[:, self.images_G]) @ self.columns_GC
        for contrast in self.contrasts.values():
            if contrast.defined:
                contrast.add(sums_RC)

    def results(self, seed: int) -> dict[str, Gap]:
        """Return the difference of every metric."""
        n = len(self.images_G)
        return {name: contrast.result(n, METRICS[name].scale, seed) for name, contrast in self.contrasts.items()}


def _ratio(up_N: Array, down_N: Array, index_M: Array) -> float:
    """One seed's score in a group; NaN if it is not defined."""
    down = float(down_N[index_M].sum())
    return float(up_N[index_M].sum()) / down if down else math.nan


def _terms(a: list[Ratio], b: list[Ratio]) -> list[tuple[float, Array, Array]]:
    """The difference of two means of ratios; one ratio of differences if all denominators are equal."""
    down_N = a[0][1]
    if all(np.array_equal(other_N, down_N) for _, other_N in a + b):
        mean_a, mean_b = (np.mean([up_N for up_N, _ in side], axis=0) for side in (a, b))
        return [(1.0, mean_b - mean_a, down_N)]
    return [(sign / len(side), *ratio) for sign, side in ((-1.0, a), (1.0, b)) for ratio in side]


def studentised(change_R: Array, variance_R: Array) -> Array:
    """|t*| = |d* - d| / se*: 0 for no change, infinite for a change without any variance."""
    error_R = np.sqrt(np.maximum(variance_R, 0.0))
    change_R = np.where(np.abs(change_R) <= _TINY, 0.0, np.abs(change_R))
    t_R = np.divide(change_R, error_R, out=np.full(change_R.shape, np.inf), where=error_R > _TINY)
    return np.where(change_R == 0, 0.0, t_R)


def observed(gap: float, error: float) -> float:
    """|d| / se of the samples themselves."""
    if abs(gap) <= _TINY:
        return 0.0
    return abs(gap) / error if error > _TINY else math.inf


def _minus(value: float | None) -> float | None:
    return None if value is None else 0.0 - value
