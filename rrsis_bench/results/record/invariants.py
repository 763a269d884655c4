"""What must hold in every record, whatever the model: most scorer bugs of other leaderboards break one of these."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from rrsis_bench.config.protocol import METRIC_VERSION
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.metrics import evaluate
from rrsis_bench.results.record.schema import INTERVALS, PRECISIONS, UNMATCHED, GroupScores, Metrics, Record

TOLERANCE = 1e-9  # percent; the identities hold up to the rounding of a float


def check_invariants(record: Record) -> None:
    """Raise UserError naming the record and every invariant that it breaks."""
    broken = violations(record)
    if broken:
        raise UserError(
            f"The record {record.data}/{record.model}/{record.run_id} contradicts itself:\n  "
            + "\n  ".join(broken)
            + "\nIt was edited by hand or written by a faulty scorer. Delete it, or evaluate the run again."
        )


def violations(record: Record) -> list[str]:
    """One line per broken invariant; empty for a sound record."""
    broken: list[str] = []
    metrics = record.metrics
    if record.counts is None:
        measured = [name for name, value in dataclasses.asdict(metrics).items() if value is not None]
        if measured or record.n or record.status == "finished":
            broken.append("it has scores, samples or the status 'finished', but no counts file")
        return broken
    if record.counts.n != record.n:
        broken.append(f"n is {record.n}, but the counts file has {record.counts.n} rows")
    broken += _ranges(metrics)
    broken += _precisions(metrics, over_targeted=record.protocol.empty == "rela")
    groups = {"categories": record.per_category, "languages": record.per_language, "targets": record.per_target}
    groups |= {f"size classes ({scheme})": rows for scheme, rows in record.per_size.items()}
    if record.n and not record.per_category:
        broken.append("the scores per category are missing")
    for kind, rows in groups.items():
        if rows:
            broken += _sums(kind, rows, record)
    broken += _macro(record)
    return broken


def check_against_counts(record: Record, table: CountsTable) -> None:
    """Raise UserError where the record's scores are not what its integers say.

    Records of another metric version are left alone: their scorer is not this one.
    """
    if record.metric_version != METRIC_VERSION:
        return
    derived = evaluate(table, record.protocol, resamples=0)
    wrong = []
    for name, value in dataclasses.asdict(derived.metrics).items():
        if not name.endswith(("_lo", "_hi")) and not _same(value, getattr(record.metrics, name)):
            wrong.append(f"metrics.{name} is {getattr(record.metrics, name)}, its integers say {value}")
    pairs = [("per_category", derived.per_category, record.per_category)]
    pairs += [("per_language", derived.per_language, record.per_language)]
    if record.per_target:  # a record of schema version 1 has none
        pairs += [("per_target", derived.per_target, record.per_target)]
    for scheme, rows in derived.per_size.items():
        pairs.append((f"per_size.{scheme}", rows, record.per_size.get(scheme, {})))
    for kind, expected, stored in pairs:
        for name in sorted(expected.keys() | stored.keys()):
            if name not in expected or name not in stored or not _same_scores(expected[name], stored[name]):
                wrong.append(f"{kind}.{name} differs from what its integers say")
    if wrong:
        raise UserError(
            f"The record {record.data}/{record.model}/{record.run_id} does not follow from its counts file:\n  "
            + "\n  ".join(wrong)
            + "\nScore it again with `rrsis-bench evaluate --rescore`."
        )


def _ranges(metrics: Metrics) -> list[str]:
    broken = []
    counts = ("n_targeted", "intersection", "union")
    for name, value in dataclasses.asdict(metrics).items():
        if value is not None and name not in counts and not 0 <= value <= 100:
            broken.append(f"{name} = {value} is no percentage")
    for name in INTERVALS:
        low, high = getattr(metrics, f"{name}_lo"), getattr(metrics, f"{name}_hi")
        if (low is None) != (high is None) or (low is not None and low > high):
            broken.append(f"the interval of {name} is [{low}, {high}]")
    return broken


def _precisions(metrics: Metrics, *, over_targeted: bool) -> list[str]:
    """Pr@X falls with X, and bounds the mean IoU of the samples that it counts from both sides."""
    p = [getattr(metrics, name) for name in PRECISIONS]
    mean = metrics.miou_targeted if over_targeted else metrics.miou
    if any(value is None for value in p) or mean is None:
        missing = all(value is None for value in p) and mean is None
        return [] if missing else ["Pr@X and the mean IoU are not both there"]
    broken = [
        f"{high} = {p[index + 1]} exceeds {low} = {p[index]}"
        for index, (low, high) in enumerate(zip(PRECISIONS, PRECISIONS[1:], strict=False))
        if p[index + 1] > p[index]
    ]
    floor, ceiling = 0.5 * p[0] + 0.1 * sum(p[1:]), 50 + 0.1 * sum(p)
    if not floor - TOLERANCE <= mean <= ceiling + TOLERANCE:
        broken.append(f"the mean IoU {mean} is outside [{floor}, {ceiling}], which Pr@X allows")
    return broken


def _sums(kind: str, rows: Mapping[str, GroupScores], record: Record) -> list[str]:
    broken = []
    totals = {
        "n": record.n,
        "n_targeted": record.metrics.n_targeted,
        "intersection": record.metrics.intersection,
        "union": record.metrics.union,
    }
    for name, total in totals.items():
        summed = sum(getattr(row, name) for row in rows.values())
        if summed != total:
            broken.append(f"{name} over the {kind} sums to {summed}, the whole has {total}")
    if record.metrics.union:
        oiou = 100.0 * sum(row.intersection for row in rows.values()) / record.metrics.union
        if oiou != record.metrics.oiou:
            broken.append(f"the sums over the {kind} give oIoU {oiou}, the record says {record.metrics.oiou}")
    if record.n:
        miou = sum(row.n * (row.miou or 0.0) for row in rows.values()) / record.n
        if not _same(miou, record.metrics.miou):
            broken.append(f"the {kind}, weighted by n, give mIoU {miou}, the record says {record.metrics.miou}")
    return broken


def _macro(record: Record) -> list[str]:
    values = [row.miou for name, row in record.per_category.items() if name != UNMATCHED and row.miou is not None]
    macro = sum(values) / len(values) if values else None
    if not _same(macro, record.metrics.macro_miou):
        return [f"the categories' mean mIoU is {macro}, the record says {record.metrics.macro_miou}"]
    return []


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= TOLERANCE


def _same_scores(a: GroupScores, b: GroupScores) -> bool:
    return all(_same(value, getattr(b, name)) for name, value in dataclasses.asdict(a).items())
