"""The metrics: one list, from which record fields, tables, intervals, paired tests, charts and comparisons follow.

To add a metric, add one `Metric` to `METRICS`. A metric is a ratio of two sums over samples: that gives its value, its
bootstrap interval and its paired test. Thresholds are compared as integers, so that an IoU of exactly 0.5 counts. Sums
are int64 or exact floats, so that the order of samples does not matter.
"""

# M = samples of a group

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.eval import bootstrap
from rrsis_bench.eval.bootstrap import Ratio
from rrsis_bench.eval.counts import Array, CountsTable, SampleCounts
from rrsis_bench.eval.membership import class_order
from rrsis_bench.eval.scores import (
    SIZE_CLASSES,
    TARGET_CLASSES,
    UNMATCHED,
    Score,
    ScoreSet,
    category_class,
    size_class,
    target_class,
)

GROUP_RESAMPLES = 1000
"""Bootstrap replicates of the intervals of groups; those of the whole split have `bootstrap.RESAMPLES`."""


@dataclass(frozen=True, slots=True)
class SampleScores:
    """Contribution of each sample under a protocol. Every metric is computed from these.

    Attributes:
        iou_N: float64, in [0, 1].
        intersection_N: int64, contribution to oIoU's numerator.
        union_N: int64, contribution to oIoU's denominator.
        counted_N: bool, the sample counts in Pr@X.
        targeted_N: bool, its target (at the scored size) is not empty.
        silent_N: bool, its prediction says "no target".
        strict: Pr@X counts IoU > X instead of IoU >= X.
    """

    iou_N: Array
    intersection_N: Array
    union_N: Array
    counted_N: Array
    targeted_N: Array
    silent_N: Array
    strict: bool

    def reaches(self, percent: int) -> Array:
        """Return bool (N,): the IoU reaches a threshold, given in whole percent."""
        reach = np.greater if self.strict else np.greater_equal
        return np.asarray(reach(100 * self.intersection_N, percent * self.union_N) & (self.union_N > 0))


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its definition and how tables show it.

    Attributes:
        name: key in records and column in CSV files.
        label: heading in tables, such as ``Pr@0.5``.
        meaning: one line for people.
        ratio: numerator and denominator per sample; the value is the sum of the numerators over the sum of the
            denominators. None for a mean over categories.
        mean_of: name of the metric whose mean over the named categories this is; empty for a ratio.
        no_target: the metric is about "no target" answers. It is computed for a whole split with empty targets only.
        higher_is_better: decides the value in bold, the colour of a difference, and the winner of a comparison.
        unit: ``%`` multiplies the ratio by 100 and bounds it by 0 and 100; any other unit keeps the ratio.
        short: heading in narrow terminal tables; the label if it is empty.
        rank: columns of the highest rank are left out first if a terminal is too narrow; those of rank 0 never.
    """

    name: str
    label: str
    meaning: str
    ratio: Callable[[SampleScores], Ratio] | None = None
    mean_of: str = ""
    no_target: bool = False
    higher_is_better: bool = True
    unit: str = "%"
    short: str = ""
    rank: int = 3

    @property
    def grouped(self) -> bool:
        """Whether the metric is computed for categories, size classes and languages as well."""
        return self.ratio is not None and not self.no_target

    @property
    def scale(self) -> float:
        """Factor from the ratio to the unit."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def heading(self) -> str:
        """Heading of a narrow column."""
        return self.short or self.label

    def best(self, values: Iterable[float | None]) -> float | None:
        """Return the best of the defined values; None if there is none."""
        defined = [value for value in values if value is not None]
        return (max if self.higher_is_better else min)(defined) if defined else None


def _hits(percent: int, scored: SampleScores) -> Ratio:
    return scored.reaches(percent) & scored.counted_N, scored.counted_N


def _precision(percent: int) -> Metric:
    tenth = percent // 10
    return Metric(
        f"pr{percent}", f"Pr@0.{tenth}", f"share of expressions with IoU of 0.{tenth} or more",
        partial(_hits, percent), short=f"P@.{tenth}", rank=2 if tenth in (6, 8) else 1,
    )  # fmt: skip


PRECISIONS: dict[str, str] = {f"pr{tenth}0": f"0.{tenth}" for tenth in (5, 6, 7, 8, 9)}
"""Names of the metrics Pr@X -> X, for the curve over the threshold."""

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("miou", "mIoU", "mean of the expressions' IoU (gIoU in gRefCOCO)",
               lambda scored: (scored.iou_N, np.ones(len(scored.iou_N))), rank=0),
        Metric("oiou", "oIoU", "summed intersection over summed union (cIoU in gRefCOCO)",
               lambda scored: (scored.intersection_N, scored.union_N), rank=0),
        *(_precision(int(name[2:])) for name in PRECISIONS),
        Metric("miou_targeted", "mIoU targeted", "mIoU over the expressions with a target that is not empty",
               lambda scored: (scored.iou_N * scored.targeted_N, scored.targeted_N), no_target=True),
        Metric("nacc", "N-acc", "no-target expressions answered by an empty mask",
               lambda scored: (scored.silent_N & ~scored.targeted_N, ~scored.targeted_N), no_target=True),
        Metric("tacc", "T-acc", "targeted expressions answered by a mask",
               lambda scored: (~scored.silent_N & scored.targeted_N, scored.targeted_N), no_target=True),
        Metric("macro_miou", "mIoU, mean over categories", "mean of the categories' mIoU", mean_of="miou"),
        Metric("macro_oiou", "oIoU, mean over categories", "mean of the categories' oIoU", mean_of="oiou"),
    )
}  # fmt: skip
"""Every metric by its name, in the order of the tables. The first one ranks the rows."""


def grouped_metrics() -> list[Metric]:
    """Return the metrics that are computed for groups of samples as well."""
    return [metric for metric in METRICS.values() if metric.grouped]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of one table of integers. The fields are the record's.

    Attributes:
        overall: the whole split, with every metric.
        per_category: category -> scores.
        per_size: scheme -> size class -> scores.
        per_language: language -> scores; empty if there is one language.
        per_target: class in `TARGET_CLASSES` -> scores; empty if there is one class.
        per_stratum: stratum -> class -> scores, the means over categories included; None if the strata of the samples
            are unknown.
    """

    overall: ScoreSet
    per_category: dict[str, ScoreSet]
    per_size: dict[str, dict[str, ScoreSet]]
    per_language: dict[str, ScoreSet]
    per_target: dict[str, ScoreSet]
    per_stratum: dict[str, dict[str, ScoreSet]] | None = None


def score_samples(table: CountsTable, protocol: Protocol) -> SampleScores:
    """Apply the protocol's rules (thresholds, empty targets, "no target" answers) to every sample.

    The ``rela`` rule follows gRefCOCO's evaluator. A prediction that says "no target" counts as an empty mask, even if
    it has up to ``no_target_pixels`` pixels. On an empty target it scores 1 and adds nothing to the sums. Any other
    prediction on an empty target scores 0, and its pixels join the union.
    """
    columns = table.arrays
    intersection_N, union_N = columns["intersection"].copy(), columns["union"].copy()
    targeted_N = columns["target_area"] > 0
    silent_N = columns["pred_area"] <= protocol.no_target_pixels
    if protocol.empty == "rela":
        intersection_N[silent_N] = 0
        union_N[silent_N] = columns["target_area"][silent_N]
    iou_N = np.divide(intersection_N, union_N, out=np.zeros(len(table)), where=union_N > 0)
    if protocol.empty == "rela":
        iou_N[silent_N & ~targeted_N] = 1.0
    counted_N = targeted_N if protocol.empty == "rela" else np.ones(len(table), dtype=bool)
    return SampleScores(iou_N, intersection_N, union_N, counted_N, targeted_N, silent_N, protocol.strict)


def compute_overall(table: CountsTable, protocol: Protocol) -> ScoreSet:
    """Return the scores of the whole split, without intervals; None for a score that is not defined."""
    return compute_metrics(table, protocol, resamples=0).overall


def compute_metrics(
    table: CountsTable, protocol: Protocol, *, resamples: int = bootstrap.RESAMPLES, seed: int = 0
) -> Evaluation:
    """Compute every score of a record.

    Args:
        table: integers per sample, counted at the size that `protocol` scores.
        protocol: the rules.
        resamples: bootstrap replicates, at most `GROUP_RESAMPLES` of them for groups; 0 leaves the intervals out.
        seed: of the bootstrap.

    Returns:
        Scores in the metrics' units; None for a score that is not defined (no sample, an empty union).
    """
    scored = score_samples(table, protocol)
    images = [row.image_id for row in table]
    has_empty = not bool(scored.targeted_N.all())
    everything = np.arange(len(table))
    wanted = [metric for metric in METRICS.values() if metric.ratio and (has_empty or not metric.no_target)]
    overall = _score_sets(scored, images, {"": everything}, wanted, resamples, seed)[""]

    def by(label: Callable[[SampleCounts], str], order: tuple[str, ...] = ()) -> dict[str, ScoreSet]:
        members = _members(table, label, order)
        return _score_sets(scored, images, members, grouped_metrics(), min(resamples, GROUP_RESAMPLES), seed)

    per_category = by(category_class)
    per_language = by(lambda row: row.language)
    per_target = by(lambda row: target_class(row.n_targets), TARGET_CLASSES)
    per_size = {scheme: by(partial(size_class, scheme=scheme), order) for scheme, order in SIZE_CLASSES.items()}
    named = [group for name, group in per_category.items() if name != UNMATCHED]
    scores = {
        name: Score(mean([group.value(metric.mean_of) for group in named])) if metric.mean_of
        else overall.scores.get(name, Score(None))
        for name, metric in METRICS.items()
    }  # fmt: skip
    return Evaluation(
        ScoreSet(overall.n, overall.n_targeted, overall.intersection, overall.union, scores),
        per_category,
        per_size,
        per_language if len(per_language) > 1 else {},
        per_target if len(per_target) > 1 else {},
        score_strata(table, protocol, resamples=resamples, seed=seed),
    )


def score_strata(
    table: CountsTable, protocol: Protocol, *, resamples: int = bootstrap.RESAMPLES, seed: int = 0
) -> dict[str, dict[str, ScoreSet]] | None:
    """Return stratum -> class -> scores, in the order of `STRATA`; None if `table` has no membership.

    Beside the grouped metrics, every class has the means over the categories that occur in it. Arguments as in
    `compute_metrics`.
    """
    if table.membership is None:
        return None
    scored, ids = score_samples(table, protocol), [row.sample_id for row in table]
    images, categories = [row.image_id for row in table], np.array([category_class(row) for row in table])
    resamples = min(resamples, GROUP_RESAMPLES)
    found = {}
    for stratum in table.membership.strata:
        classes = np.array(table.membership.classes(stratum, ids))
        members = {name: np.flatnonzero(classes == name) for name in class_order(stratum, classes.tolist())}
        sets = _score_sets(scored, images, members, grouped_metrics(), resamples, seed)
        means = _category_means(scored, images, members, categories, resamples, seed)
        found[stratum] = {
            name: dataclasses.replace(group, scores=group.scores | means[name]) for name, group in sets.items()
        }
    return found


def _category_means(
    scored: SampleScores, images: list[str], members: Mapping[str, Array], categories: Array, resamples: int, seed: int
) -> dict[str, dict[str, Score]]:
    """Means over the named categories of each group, with intervals in which the categories are resampled together."""
    wanted = [metric for metric in METRICS.values() if metric.mean_of]
    ratios: dict[tuple[str, str, str], Ratio] = {}
    means: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    values: dict[tuple[str, str], list[float]] = {}
    for group, index_M in members.items():
        for metric in wanted:
            base = METRICS[metric.mean_of]
            assert base.ratio is not None, f"{metric.mean_of} is no ratio"
            up_N, down_N = base.ratio(scored)
            for category in sorted(set(categories[index_M].tolist()) - {UNMATCHED}):
                member_N = np.zeros(len(images), dtype=bool)
                member_N[index_M] = True
                member_N &= categories == category
                key = (group, category, base.name)
                ratios[key] = (up_N * member_N, down_N * member_N)
                means.setdefault((group, "", metric.name), []).append(key)
                total = math.fsum(ratios[key][1].tolist())
                if total:
                    value = metric.scale * math.fsum(ratios[key][0].tolist()) / total
                    values.setdefault((group, metric.name), []).append(value)
    bounds = bootstrap.intervals(ratios, images, means=means, resamples=resamples, seed=seed) if resamples else {}
    return {
        group: {
            metric.name: Score(
                mean(values.get((group, metric.name), [])), *_ends(metric, bounds.get((group, "", metric.name)))
            )
            for metric in wanted
        }
        for group in members
    }


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the defined values; None if there is none."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _members(table: CountsTable, label: Callable[[SampleCounts], str], order: tuple[str, ...]) -> dict[str, Array]:
    """Indices of the samples per label; in `order` if it is given, else by name with the unmatched ones last."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(table):
        members.setdefault(label(row), []).append(index)
    names = [name for name in order if name in members] or sorted(members, key=lambda name: (name == UNMATCHED, name))
    return {name: np.array(members[name]) for name in names}


def _score_sets(
    scored: SampleScores,
    images: list[str],
    members: Mapping[str, Array],
    metrics: list[Metric],
    resamples: int,
    seed: int,
) -> dict[str, ScoreSet]:
    """Scores of each group; all groups and metrics see the same resampled images."""
    ratios = {metric.name: metric.ratio(scored) for metric in metrics if metric.ratio}
    bounds: dict[tuple[str, str], tuple[float, float] | None] = {}
    if resamples:
        masked: dict[tuple[str, str], Ratio] = {}
        for group, index_M in members.items():
            member_N = np.zeros(len(images), dtype=bool)
            member_N[index_M] = True
            masked |= {(group, name): (up_N * member_N, down_N * member_N) for name, (up_N, down_N) in ratios.items()}
        bounds = bootstrap.intervals(masked, images, resamples=resamples, seed=seed)
    found = {}
    for group, index_M in members.items():
        scores = {}
        for metric in metrics:
            up_N, down_N = ratios[metric.name]
            total = math.fsum(down_N[index_M].tolist())
            value = metric.scale * math.fsum(up_N[index_M].tolist()) / total if total else None
            scores[metric.name] = Score(value, *_ends(metric, bounds.get((group, metric.name))))
        found[group] = ScoreSet(
            len(index_M),
            int(np.count_nonzero(scored.targeted_N[index_M])),
            int(scored.intersection_N[index_M].sum()),
            int(scored.union_N[index_M].sum()),
            scores,
        )
    return found


def _ends(metric: Metric, pair: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """Return an interval in the metric's unit.

    It has six decimals: far below the bootstrap's own noise, and the same digits whatever order a BLAS sums in.
    """
    return (round(metric.scale * pair[0], 6), round(metric.scale * pair[1], 6)) if pair else (None, None)
