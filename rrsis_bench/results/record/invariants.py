"""Invariants of every record, whatever the model. Most bugs of a scorer break one of them."""

from __future__ import annotations

from collections.abc import Mapping

from rrsis_bench.config.protocol import METRIC_VERSION
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.metrics import METRICS, PRECISIONS, compute_metrics, mean
from rrsis_bench.eval.scores import UNMATCHED, ScoreSet
from rrsis_bench.results.record.identity import area_problems, identity_problems
from rrsis_bench.results.record.schema import Record

TOLERANCE = 1e-9  # in the metric's unit; the identities hold up to the rounding of a float
_SUMS = ("n", "n_targeted", "intersection", "union")


def check_invariants(record: Record) -> None:
    """Raise UserError with the record's name and every invariant that it breaks."""
    broken = [*violations(record), *identity_problems(record)]
    if broken:
        raise UserError(
            f"The record {record.data}/{record.model}/{record.run_id} contradicts itself:\n  "
            + "\n  ".join(broken)
            + "\nIt was edited, or a faulty scorer wrote it. Delete it, or evaluate the run again."
        )


def violations(record: Record) -> list[str]:
    """Return one line per broken invariant; empty for a valid record."""
    whole = record.overall
    if record.counts is None or whole is None:
        empty = record.counts is None and whole is None and not record.n and record.status != "finished"
        return [] if empty else ["it has scores, samples or the status 'finished', but no counts file"]
    broken: list[str] = []
    if record.counts.n != record.n:
        broken.append(f"n is {record.n}, but the counts file has {record.counts.n} rows")
    if whole.n != record.n:
        broken.append(f"n is {record.n}, but overall.n is {whole.n}")
    broken += _ranges(whole)
    broken += _precisions(whole, over_targeted=record.protocol.empty == "rela")
    if record.n and not record.per_category:
        broken.append("the scores per category are missing")
    for kind, groups in _groups(record).items():
        if groups:
            broken += _sums(kind, groups, whole)
    if (record.per_stratum is None) != (record.strata is None):
        broken.append("it has scores by stratum without the file of the strata, or the file without the scores")
    for name, metric in METRICS.items():
        if metric.mean_of and name in whole.scores:
            expected = mean(g.value(metric.mean_of) for n, g in record.per_category.items() if n != UNMATCHED)
            if not _same(expected, whole.value(name)):
                broken.append(f"the mean over per_category is {expected}, overall {name} is {whole.value(name)}")
    return broken


def check_against_counts(record: Record, table: CountsTable) -> None:
    """Raise UserError if the record's scores do not follow from its integers.

    Records of another metric version are not checked: another scorer computed them.
    """
    if record.metric_version != METRIC_VERSION:
        return
    derived = compute_metrics(table, record.protocol, resamples=0)
    wrong = _differences("overall", derived.overall, record.overall)
    pairs = {f"per_size.{scheme}": (groups, record.per_size.get(scheme, {}))
             for scheme, groups in derived.per_size.items()}  # fmt: skip
    for field in ("per_category", "per_language", "per_target"):
        pairs[field] = (getattr(derived, field), getattr(record, field))
    if record.per_stratum is not None:
        for name in sorted((derived.per_stratum or {}).keys() | record.per_stratum.keys()):
            pairs[f"per_stratum.{name}"] = ((derived.per_stratum or {}).get(name, {}), record.per_stratum.get(name, {}))
    for kind, (expected, stored) in pairs.items():
        for name in sorted(expected.keys() | stored.keys()):
            wrong += _differences(f"{kind}.{name}", expected.get(name), stored.get(name))
    wrong += area_problems(record, table)
    if wrong:
        raise UserError(
            f"The record {record.data}/{record.model}/{record.run_id} does not follow from its counts file:\n  "
            + "\n  ".join(wrong)
            + "\nScore it again with `rrsis-bench evaluate --rescore`."
        )


def _groups(record: Record) -> dict[str, Mapping[str, ScoreSet]]:
    return {
        "per_category": record.per_category, "per_language": record.per_language, "per_target": record.per_target,
        **{f"per_size.{scheme}": groups for scheme, groups in record.per_size.items()},
        **{f"per_stratum.{name}": groups for name, groups in (record.per_stratum or {}).items()},
    }  # fmt: skip


def _ranges(whole: ScoreSet) -> list[str]:
    broken = []
    for name, score in whole.scores.items():
        percent = name not in METRICS or METRICS[name].unit == "%"
        if percent and score.value is not None and not 0 <= score.value <= 100:
            broken.append(f"{name} = {score.value} is not a percentage")
        if (score.lo is None) != (score.hi is None) or (
            score.lo is not None and score.hi is not None and score.lo > score.hi
        ):
            broken.append(f"the interval of {name} is [{score.lo}, {score.hi}]")
    return broken


def _precisions(whole: ScoreSet, *, over_targeted: bool) -> list[str]:
    """Pr@X falls with X, and it bounds the mean IoU of the samples that it counts from both sides."""
    found = [whole.value(name) for name in PRECISIONS]
    targeted = whole.value("miou_targeted") if over_targeted and whole.n_targeted < whole.n else whole.value("miou")
    p = [value for value in found if value is not None]
    if len(p) < len(found) or targeted is None:
        return [] if not p and targeted is None else ["Pr@X and the mean IoU are not both present"]
    broken = [
        f"{high} = {p[index + 1]} exceeds {low} = {p[index]}"
        for index, (low, high) in enumerate(zip(PRECISIONS, list(PRECISIONS)[1:], strict=False))
        if p[index + 1] > p[index]
    ]
    floor, ceiling = 0.5 * p[0] + 0.1 * sum(p[1:]), 50 + 0.1 * sum(p)
    if not floor - TOLERANCE <= targeted <= ceiling + TOLERANCE:
        broken.append(f"the mean IoU {targeted} is outside [{floor}, {ceiling}], the range that Pr@X allows")
    return broken


def _sums(kind: str, groups: Mapping[str, ScoreSet], whole: ScoreSet) -> list[str]:
    broken = []
    for name in _SUMS:
        summed, total = sum(getattr(group, name) for group in groups.values()), getattr(whole, name)
        if summed != total:
            broken.append(f"{name} over {kind} sums to {summed}, overall it is {total}")
    if whole.union:
        oiou = 100.0 * sum(group.intersection for group in groups.values()) / whole.union
        if oiou != whole.value("oiou"):
            broken.append(f"the sums over {kind} give oIoU {oiou}, overall it is {whole.value('oiou')}")
    if whole.n:
        miou = sum(group.n * (group.value("miou") or 0.0) for group in groups.values()) / whole.n
        if not _same(miou, whole.value("miou")):
            broken.append(f"{kind}, weighted by n, gives mIoU {miou}, overall it is {whole.value('miou')}")
    return broken


def _differences(where: str, expected: ScoreSet | None, stored: ScoreSet | None) -> list[str]:
    if expected is None or stored is None:
        return [f"{where} is {'missing' if stored is None else 'not a group of its integers'}"]
    wrong = [f"{where}.{name} is {getattr(stored, name)}, its integers give {getattr(expected, name)}"
             for name in _SUMS if getattr(stored, name) != getattr(expected, name)]  # fmt: skip
    for name in stored.scores:  # a record from before a metric was added lacks it
        if not _same(stored.value(name), expected.value(name)):
            wrong.append(f"{where}.{name} is {stored.value(name)}, its integers give {expected.value(name)}")
    return wrong


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= TOLERANCE
