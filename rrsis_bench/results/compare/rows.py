"""Compare two rows of a leaderboard: differences with a paired test, and the samples on which they differ most."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rrsis_bench.data.text.strata import stratum_label
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.eval import paired
from rrsis_bench.eval.bootstrap import RESAMPLES
from rrsis_bench.eval.counts import Array
from rrsis_bench.eval.metrics import METRICS, grouped_metrics
from rrsis_bench.eval.paired import Gap, Samples, Wins
from rrsis_bench.eval.scores import CONTROLS
from rrsis_bench.results.board.rows import BoardRow, rank
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record

MOST = 10
"""Number of samples in the list of the largest differences."""

Expressions = Callable[[Record], tuple[dict[str, str], str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One score of both rows, in percent.

    Attributes:
        name: of the score.
        a: first row; None if it was not measured.
        b: second row; None if it was not measured.
        test: the paired test; None if the records do not hold the integers for one (language controls).
        p_holm: its p after Holm's correction over the groups of its family; None outside families.
    """

    name: str
    a: float | None
    b: float | None
    test: Gap | None = None
    p_holm: float | None = None

    @property
    def gap(self) -> float | None:
        """B minus A; None if either was not measured."""
        return None if self.a is None or self.b is None else self.b - self.a

    def above(self, floor: float) -> Difference:
        """Return the difference with no p below what the resamples can tell, 1 / (1 + resamples)."""
        test = self.test
        if test is not None and test.p is not None:
            test = dataclasses.replace(test, p=max(test.p, floor))
        return dataclasses.replace(self, test=test, p_holm=None if self.p_holm is None else max(self.p_holm, floor))


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """Both rows on some of the samples.

    Attributes:
        name: of the category or size class.
        n: samples.
        wins: on how many each row has the higher IoU; None without integers.
        scores: the grouped metrics.
    """

    name: str
    n: int | None
    wins: Wins | None
    scores: tuple[Difference, ...]

    @property
    def miou(self) -> Difference:
        """The difference of mIoU."""
        return next(score for score in self.scores if score.name == "miou")


@dataclass(frozen=True, slots=True)
class SampleGap:
    """A sample and its IoU under both rows, in percent, mean over the seeds."""

    sample_id: str
    expression: str | None
    category: str
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two comparable rows.

    Attributes:
        a: the first row.
        b: the second row.
        overall: every metric, then the language controls. Means over categories and controls have no test.
        wins: on how many samples each row has the higher IoU.
        families: family of groups (`FAMILIES`, then the labels of the strata) -> its groups. Holm's correction covers
            the groups of a family, for each score separately.
        most: the samples on which the rows differ most, largest difference first.
        resamples: bootstrap replicates.
        remarks: for the reader of the tables.
    """

    a: BoardRow
    b: BoardRow
    overall: tuple[Difference, ...]
    wins: Wins | None
    families: dict[str, tuple[GroupDifference, ...]]
    most: tuple[SampleGap, ...]
    resamples: int
    remarks: tuple[str, ...]


FAMILIES: dict[str, tuple[str, ...]] = {
    "category": ("per_category",),
    "size in pixels": ("per_size", "pixels"),
    "size as share": ("per_size", "share"),
}


def compare(
    root: Path,
    a: str,
    b: str,
    data: str,
    *,
    split: str | None = None,
    protocol: str | None = None,
    resamples: int = RESAMPLES,
    expressions: Expressions | None = None,
) -> Comparison:
    """Compare two models or runs.

    Args:
        root: the leaderboards folder.
        a: a model's name, which means its best ranked row (of its default setting if it has one), the label
            of a row with a variant, or a run id.
        b: as `a`.
        data: the dataset's name.
        split: only rows of this split; None leaves the choice to the records.
        protocol: only rows of this protocol; None leaves the choice to the records.
        resamples: bootstrap replicates.
        expressions: returns the expressions of a record's split, and why there are none; None leaves them out.

    Raises:
        UserError: a name without a record, an ambiguous name, or rows that cannot be compared.
    """
    row_a, row_b = choose(root, a, b, data, split=split, protocol=protocol)
    remarks = [f"{row.head.run_id} is not ranked: {row.reason}" for row in (row_a, row_b) if row.reason]
    unscored = [record.run_id for row in (row_a, row_b) for record in row.records if record.counts is None]
    if unscored:
        remarks.append(f"There is no test: {', '.join(unscored)} was never scored.")
        return Comparison(row_a, row_b, _overall(row_a, row_b, {}), None, {}, (), resamples, tuple(remarks))
    side_a, side_b = (load(row, root) for row in (row_a, row_b))
    paired.require_pairs(side_a, side_b)
    members = {"": {"": np.arange(len(side_a.ids))}}
    paths = FAMILIES | {
        stratum_label(name): ("per_stratum", name)
        for name in row_a.names("per_stratum")
        if name in row_b.names("per_stratum") and len(set(side_a.strata.get(name, ()))) > 1
    }
    for family, (kind, *scheme) in paths.items():
        labels_of = {"per_category": {"": side_a.categories}, "per_size": side_a.sizes, "per_stratum": side_a.strata}
        labels = np.array(labels_of[kind]["".join(scheme)])
        names = dict.fromkeys(row_a.names(*paths[family]) + row_b.names(*paths[family]))
        members[family] = {name: np.flatnonzero(labels == name) for name in names}
    flat = {f"{family}/{name}": index for family, groups in members.items() for name, index in groups.items()}
    gaps = paired.gaps(side_a, side_b, flat, resamples=resamples)
    families = {
        family: _family(row_a, row_b, path, {
            name: (index, gaps[f"{family}/{name}"], paired.wins(side_a, side_b, index))
            for name, index in members[family].items()
        })
        for family, path in paths.items()
    }  # fmt: skip
    found, why = expressions(row_a.head) if expressions is not None else ({}, "")
    if why:
        remarks.append(why)
    wins = paired.wins(side_a, side_b, members[""][""])
    floor = 1 / (resamples + 1)
    overall = tuple(score.above(floor) for score in _overall(row_a, row_b, gaps["/"]))
    families = {
        family: tuple(
            dataclasses.replace(group, scores=tuple(s.above(floor) for s in group.scores)) for group in groups
        )
        for family, groups in families.items()
    }
    most = _most(side_a, side_b, found)
    return Comparison(row_a, row_b, overall, wins, families, most, resamples, tuple(remarks))


def choose(
    root: Path, a: str, b: str, data: str, *, split: str | None = None, protocol: str | None = None
) -> tuple[BoardRow, BoardRow]:
    """Return the two rows that the names mean; arguments and errors as in `compare`."""
    records = store.read_all(root)
    available = sorted({record.data for record in records})
    if data not in available:
        raise unknown("dataset with records", data, available or ["none yet: run `make bench` first"])
    everything = [
        row for row in rank((record for record in records if record.data == data), root)
        if split in (None, row.head.split) and protocol in (None, row.head.protocol.name)
    ]  # fmt: skip
    candidates_a, candidates_b = _candidates(everything, a), _candidates(everything, b)
    shared = {row.comparable for row in candidates_a} & {row.comparable for row in candidates_b}
    if not shared:
        raise UserError(
            f"'{a}' and '{b}' have no rows that can be compared: split, protocol, metric version and dataset "
            f"fingerprint must be equal.\n{_listing(candidates_a + candidates_b)}"
        )
    # The tables' own order decides: test before val, native before other protocols.
    group = next(row.comparable for row in everything if row.comparable in shared)
    if sum(key[1:3] == group[1:3] for key in shared) > 1:
        raise UserError(
            f"'{a}' and '{b}' have rows on several versions of {data}. Name two run ids:\n"
            + _listing([row for row in candidates_a + candidates_b if row.comparable in shared])
        )
    row_a = _choose([row for row in candidates_a if row.comparable == group], a)
    row_b = _choose([row for row in candidates_b if row.comparable == group], b)
    return row_a, row_b


def load(row: BoardRow, root: Path) -> Samples:
    """Return the samples of a row from the integers of its seeds."""
    places = [store.record_path(root, record.data, record.model, record.run_id) for record in row.records]
    return paired.samples([store.read_counts(path) for path in places], row.head.protocol)


def _overall(a: BoardRow, b: BoardRow, gaps: dict[str, Gap]) -> tuple[Difference, ...]:
    found = [Difference(name, a.score(name).value, b.score(name).value, gaps.get(name)) for name in METRICS]
    shown = [entry for entry in found if METRICS[entry.name].grouped or (entry.a, entry.b) != (None, None)]
    for name in CONTROLS:
        path = ("control", name)
        shown.append(Difference(name, a.score("miou", *path).value, b.score("miou", *path).value))
    return tuple(shown)


def _family(
    a: BoardRow, b: BoardRow, path: tuple[str, ...], found: dict[str, tuple[Array, dict[str, Gap], Wins]]
) -> tuple[GroupDifference, ...]:
    names = [metric.name for metric in grouped_metrics()]
    adjusted = {
        metric: dict(zip(found, paired.holm([gaps[metric].p for _, gaps, _ in found.values()]), strict=True))
        for metric in names
    }
    groups = []
    for group, (index, gaps, wins) in found.items():
        scores = []
        for metric in names:
            first, second = (row.score(metric, *path, group).value for row in (a, b))
            scores.append(Difference(metric, first, second, gaps[metric], adjusted[metric][group]))
        groups.append(GroupDifference(group, len(index), wins, tuple(scores)))
    return tuple(groups)


def _most(a: Samples, b: Samples, found: dict[str, str]) -> tuple[SampleGap, ...]:
    gap_N = np.abs(b.iou_N - a.iou_N)
    order = np.argsort(-gap_N, kind="stable")[:MOST]
    return tuple(
        SampleGap(a.ids[i], found.get(a.ids[i]), a.categories[i], 100 * float(a.iou_N[i]), 100 * float(b.iou_N[i]))
        for i in order.tolist()
        if gap_N[i] > 0
    )


def _candidates(everything: list[BoardRow], name: str) -> list[BoardRow]:
    """The rows that a name can mean: the run's own record as a row of one, a label's rows, or those of the model."""
    runs = ((row, record) for row in everything for record in row.records)
    of_run = [dataclasses.replace(row, records=(record,)) for row, record in runs if record.run_id == name]
    of_model = [row for row in everything if row.head.model == name]
    found = of_run or [row for row in everything if row.label == name] or of_model
    if not found:
        models = sorted({row.head.model for row in everything})
        run_ids = sorted(record.run_id for row in everything for record in row.records)
        labels = sorted({row.label for row in everything} - set(models))
        raise unknown("model or run id", name, models + labels + run_ids)
    return found


def _choose(rows: list[BoardRow], name: str) -> BoardRow:
    """The best ranked row; without a ranked one, the only one there is."""
    ranked = [row for row in rows if row.rank is not None]
    if ranked:
        return ranked[0]
    if len(rows) > 1:
        raise UserError(f"'{name}' has several rows and none of them is ranked. Name a run id:\n{_listing(rows)}")
    return rows[0]


def _listing(rows: list[BoardRow]) -> str:
    lines = []
    for row in rows:
        place = f"unranked: {row.reason}" if row.rank is None else f"rank {row.rank}"
        for record in row.records:
            fingerprint = (record.dataset_fingerprint or "unknown")[:8]
            lines.append(
                f"  {record.run_id}  {record.split}, protocol {record.protocol.name}, metric version "
                f"{record.metric_version}, data {fingerprint}, {place}"
            )
    return "\n".join(dict.fromkeys(lines))
