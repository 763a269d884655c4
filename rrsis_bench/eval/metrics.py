"""From integers per sample to every score: a pure function of a `CountsTable` and a `Protocol`.

``miou`` is the mean of the samples' IoU (gIoU in gRefCOCO), ``oiou`` the summed intersection over the summed union
(cIoU), ``prX`` the share of samples with IoU >= X. Thresholds are compared as integers, so that an IoU of exactly 0.5
counts; sums are int64 or exact floats, so that the order of samples does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.eval import bootstrap
from rrsis_bench.eval.counts import CountsTable, SampleCounts
from rrsis_bench.results.record.schema import (
    INTERVALS,
    NO_TARGET,
    PRECISIONS,
    TARGET_CLASSES,
    THRESHOLDS,
    UNMATCHED,
    GroupScores,
    Metrics,
)

SIZE_CLASSES: dict[str, tuple[str, ...]] = {
    # COCO's areas (Lin et al., ECCV 2014): below 32 x 32, below 96 x 96, above; native pixels.
    "pixels": ("small", "medium", "large", NO_TARGET),
    # Share of the picture, a decade each: comparable between datasets of different picture sizes.
    "share": ("<0.1%", "0.1-1%", "1-10%", ">=10%", NO_TARGET),
}
_PIXEL_BOUNDS = (32 * 32, 96 * 96)
_SHARE_BOUNDS = (1000, 100, 10)  # one part in so many of the picture


@dataclass(frozen=True, slots=True)
class Scored:
    """What each sample contributes under a protocol; every score is a sum or a mean over these.

    Attributes:
        iou_N: float64, in [0, 1].
        intersection_N: int64, contribution to oIoU's numerator.
        union_N: int64, contribution to oIoU's denominator.
        hit_NT: bool, IoU reaches each threshold.
        counted_N: bool, the sample counts in Pr@X.
        targeted_N: bool, its target (as scored) is not empty.
        silent_N: bool, its prediction says "no target".
    """

    iou_N: np.ndarray
    intersection_N: np.ndarray
    union_N: np.ndarray
    hit_NT: np.ndarray
    counted_N: np.ndarray
    targeted_N: np.ndarray
    silent_N: np.ndarray


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that one table of integers says; the fields are the record's."""

    metrics: Metrics
    per_category: dict[str, GroupScores]
    per_size: dict[str, dict[str, GroupScores]]
    per_language: dict[str, GroupScores]
    per_target: dict[str, GroupScores]


def score_samples(table: CountsTable, protocol: Protocol) -> Scored:
    """Apply the protocol's rules (thresholds, empty targets, "no target" answers) to every sample.

    The ``rela`` rule follows gRefCOCO's evaluator: a prediction that says "no target" counts as an empty mask, also
    where it has up to ``no_target_pixels`` pixels; on an empty target it scores 1 and adds nothing to the sums; any
    other prediction on an empty target scores 0 and its pixels join the union.
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
    tenths_T = np.array(THRESHOLDS, dtype=np.int64)
    reach = np.greater if protocol.strict else np.greater_equal
    hit_NT = reach(10 * intersection_N[:, None], tenths_T * union_N[:, None]) & (union_N > 0)[:, None]
    counted_N = targeted_N if protocol.empty == "rela" else np.ones(len(table), dtype=bool)
    return Scored(iou_N, intersection_N, union_N, hit_NT, counted_N, targeted_N, silent_N)


def evaluate(
    table: CountsTable, protocol: Protocol, *, resamples: int = bootstrap.RESAMPLES, seed: int = 0
) -> Evaluation:
    """Compute every score of a record.

    Args:
        table: integers per sample, counted at the size that `protocol` scores.
        protocol: the rules.
        resamples: bootstrap replicates; 0 leaves the intervals out.
        seed: of the bootstrap.

    Returns:
        Scores in percent; None where a score is not defined (no sample, an empty union).
    """
    scored = score_samples(table, protocol)
    overall = _group(scored, np.arange(len(table)))
    per_category = _by(table, scored, lambda row: UNMATCHED if row.category is None else row.category)
    per_language = _by(table, scored, lambda row: row.language)
    per_target = _by(table, scored, lambda row: target_class(row.n_targets), TARGET_CLASSES)
    named = [scores for name, scores in per_category.items() if name != UNMATCHED]
    targeted, silent = scored.targeted_N, scored.silent_N
    has_empty = not bool(targeted.all())
    values: dict[str, Any] = {
        **{key: value for key, value in asdict(overall).items() if key != "n"},
        **(_interval_fields(table, scored, resamples, seed) if resamples else {}),
        "miou_targeted": _percent(scored.iou_N[targeted]),
        "macro_miou": _mean([scores.miou for scores in named]),
        "macro_oiou": _mean([scores.oiou for scores in named]),
        "nacc": _percent(silent[~targeted]) if has_empty else None,
        "tacc": _percent(~silent[targeted]) if has_empty else None,
    }
    per_size = {
        scheme: _by(table, scored, lambda row, scheme=scheme: size_class(row, scheme), order)  # type: ignore[misc]
        for scheme, order in SIZE_CLASSES.items()
    }
    return Evaluation(
        Metrics(**values),
        per_category,
        per_size,
        per_language if len(per_language) > 1 else {},
        per_target if len(per_target) > 1 else {},
    )


def target_class(n_targets: int | None) -> str:
    """The class of a sample, one of `TARGET_CLASSES`, by the number of objects that its expression denotes."""
    single, multi, none, unknown = TARGET_CLASSES
    if n_targets is None:
        return unknown
    return none if n_targets == 0 else single if n_targets == 1 else multi


def size_class(row: SampleCounts, scheme: str) -> str:
    """The class of a sample's target by its native area, in the scheme ``pixels`` or ``share``."""
    area, names = row.native_area, SIZE_CLASSES[scheme]
    if area == 0:
        return NO_TARGET
    if scheme == "pixels":
        return names[sum(area >= bound for bound in _PIXEL_BOUNDS)]
    return names[sum(area * parts >= row.height * row.width for parts in _SHARE_BOUNDS)]


def _by(
    table: CountsTable, scored: Scored, label: Callable[[SampleCounts], str], order: tuple[str, ...] = ()
) -> dict[str, GroupScores]:
    """Scores per label; in `order` where it is given, else by name with the unmatched ones last."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(table):
        members.setdefault(label(row), []).append(index)
    names = [name for name in order if name in members] or sorted(members, key=lambda name: (name == UNMATCHED, name))
    return {name: _group(scored, np.array(members[name])) for name in names}


def _group(scored: Scored, index_M: np.ndarray) -> GroupScores:
    intersection, union = int(scored.intersection_N[index_M].sum()), int(scored.union_N[index_M].sum())
    counted = scored.hit_NT[index_M][scored.counted_N[index_M]]
    return GroupScores(
        n=len(index_M),
        n_targeted=int(np.count_nonzero(scored.targeted_N[index_M])),
        intersection=intersection,
        union=union,
        miou=_percent(scored.iou_N[index_M]),
        oiou=100.0 * intersection / union if union else None,
        **{name: _percent(counted[:, column]) for column, name in enumerate(PRECISIONS)},
    )


def _interval_fields(table: CountsTable, scored: Scored, resamples: int, seed: int) -> dict[str, float | None]:
    ones_N, counted_N = np.ones(len(table)), scored.counted_N
    ratios: dict[str, bootstrap.Ratio] = {
        "miou": (scored.iou_N, ones_N),
        "oiou": (scored.intersection_N, scored.union_N),
        **{name: (scored.hit_NT[:, column] & counted_N, counted_N) for column, name in enumerate(PRECISIONS)},
    }
    bounds = bootstrap.intervals(ratios, [row.image_id for row in table], resamples=resamples, seed=seed)
    fields: dict[str, float | None] = {}
    for name in INTERVALS:
        pair = bounds[name]
        # Six decimals: far below the bootstrap's own noise, and the same digits whatever order a BLAS sums in.
        fields[f"{name}_lo"], fields[f"{name}_hi"] = (round(100.0 * end, 6) for end in pair) if pair else (None, None)
    return fields


def _percent(values_M: np.ndarray) -> float | None:
    """100 times the mean, exactly rounded; None for no values."""
    return 100.0 * math.fsum(values_M.tolist()) / len(values_M) if len(values_M) else None


def _mean(values: list[float | None]) -> float | None:
    """Mean of the defined values; None where there is none."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None
