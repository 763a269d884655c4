"""Rows of a leaderboard: records grouped by training, then ranked.

A row is one train hash under one protocol: mean and standard deviation over its seeds. Rows are ranked among comparable
ones: same split, protocol, metric version and dataset fingerprint. The rank is 1 + the number of rows with a
significantly better mIoU (`significance`), so rows that the data cannot tell apart share one. Rows are in the order of
their mIoU. A record that cannot be trusted as a result is a row of its own at the end, without a rank and with the
reason.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrsis_bench.errors import UserError
from rrsis_bench.eval.scores import Score, ScoreSet
from rrsis_bench.results.board import significance
from rrsis_bench.results.record import store
from rrsis_bench.results.record.identity import attestation, duplicates
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.record.verified import verifications

SPLITS = ("test", "val", "train")
MOST_OVERLAP = 0.01  # share of the samples whose image may also be a training image


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One row of a leaderboard.

    Attributes:
        records: one per seed, by seed.
        reason: why the row is not ranked; empty if it is.
        rank: 1 + the number of rows with a significantly better mIoU; None if the row is not ranked.
        verified_by: who confirmed the preprocessing and the numbers of all records.
        strata: ``per_stratum`` of each record; computed from the integers if the record is older. None if the strata of
            its dataset are unknown.
    """

    records: tuple[Record, ...]
    reason: str
    rank: int | None = None
    verified_by: tuple[str, ...] = ()
    strata: tuple[dict[str, dict[str, ScoreSet]] | None, ...] = ()

    @property
    def head(self) -> Record:
        """The first seed's record. Model, protocol and hashes are equal in all records of a row."""
        return self.records[0]

    @property
    def label(self) -> str:
        """The model's name, followed by the fields in which the row differs from the model's default."""
        return " ".join([self.head.model, *self.head.variant])

    @property
    def comparable(self) -> tuple[str, ...]:
        """Rows with equal keys may be ranked against each other."""
        head = self.head
        return (
            head.data,
            head.split,
            head.protocol.name,
            head.protocol.scoring_id,
            head.metric_version,
            head.dataset_fingerprint or "",
        )

    def values(self, *path: str) -> list[Any]:
        """Return the value of each seed's record at `path` (fields and keys, outermost first); None if it has none."""
        if path[0] == "per_stratum":
            return [_lookup(strata, path[1:]) for strata in self.strata]
        return [_lookup(record, path) for record in self.records]

    def mean(self, *path: str) -> float | None:
        """Return the mean over the seeds that have the value; None if none has it."""
        values = [value for value in self.values(*path) if value is not None]
        return math.fsum(values) / len(values) if values else None

    def std(self, *path: str) -> float | None:
        """Return the sample standard deviation over the seeds; None below two of them."""
        values = [value for value in self.values(*path) if value is not None]
        if len(values) < 2:
            return None
        centre = math.fsum(values) / len(values)
        return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))

    def score(self, metric: str, *group: str) -> Score:
        """Return a metric and its interval, each averaged over the seeds.

        Args:
            metric: a name in `METRICS`.
            group: fields and keys of a group, such as ``per_category``, ``ship``; the whole split if left out.
        """
        path = (*(group or ("overall",)), "scores", metric)
        return Score(self.mean(*path, "value"), self.mean(*path, "lo"), self.mean(*path, "hi"))

    def deviation(self, metric: str, *group: str) -> float | None:
        """Return the standard deviation of a metric over the seeds; None below two of them."""
        return self.std(*(group or ("overall",)), "scores", metric, "value")

    def text(self, *path: str) -> str:
        """Return the values of all seeds; one if they agree."""
        return " | ".join(dict.fromkeys(map(cell, self.values(*path))))

    def names(self, *path: str) -> list[str]:
        """Return the keys of the mappings at `path`, in the order of the records."""
        return list(dict.fromkeys(name for mapping in self.values(*path) for name in mapping or ()))


def _lookup(record: Any, path: Sequence[str]) -> Any:
    value = record
    for step in path:
        value = None if value is None else value.get(step) if isinstance(value, dict) else getattr(value, step)
    return value


def unranked_reason(record: Record) -> str:
    """Return why a record must not be ranked; empty if it may be."""
    reasons = []
    if record.status != "finished":
        reasons.append(f"status {record.status}")
    if record.split == "train":
        reasons.append("scored on the training split")
    if record.selection_split == "test":
        reasons.append("checkpoint selected on test")
    if record.selection_split is None and record.status == "finished":
        reasons.append("unknown how the checkpoint was selected")
    if record.limit:
        reasons.append("limited to " + ", ".join(f"{n} {split}" for split, n in record.limit.items()) + " samples")
    if record.n_expected is None:
        reasons.append("split size unknown")
    elif record.n != record.n_expected:
        reasons.append(f"{record.n} of {record.n_expected} samples")
    if record.dataset_fingerprint is None:
        reasons.append("dataset fingerprint unknown")
    overlap = (record.train_overlap or {}).get(record.split, 0)
    if record.n and overlap > MOST_OVERLAP * record.n:
        reasons.append(f"{overlap} of {record.n} samples show training images")
    if record.git_dirty is None:
        reasons.append("no git revision")
    elif record.git_dirty:
        reasons.append("dirty tree")
    if record.status == "finished" and record.value("miou") is None:
        reasons.append("not scored")
    return "; ".join(reasons)


def rank(records: Iterable[Record], root: Path) -> list[BoardRow]:
    """Group records into rows, order them as the tables show them, and rank them.

    Args:
        records: of any datasets.
        root: the leaderboards folder, which holds the integers that the ranks are tested on; read only if a
            comparable group has two rows or more.

    Raises:
        UserError: one train hash has two records of the same seed, or the integers of a ranked record are missing or
            damaged.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    everything = list(records)
    repeated = duplicates(record for record in everything if not unranked_reason(record))
    for record in everything:
        reason = unranked_reason(record) or repeated.get(record.run_id, "")
        key = (
            record.data,
            record.split,
            record.protocol,
            record.metric_version,
            record.dataset_fingerprint,
            record.model,
            record.model_source,
            record.size,
            record.train_hash,
            reason,
        )
        groups.setdefault(key, []).append(record)
    verified = verifications(root)
    grouped = []
    for (*_, reason), members in groups.items():
        members.sort(key=lambda record: (record.seed is None, record.seed or 0, record.machine, record.run_id))
        for first, second in zip(members, members[1:], strict=False):
            if (first.seed, first.machine) == (second.seed, second.machine):
                raise UserError(
                    f"The records {first.run_id} and {second.run_id} of {first.data}/{first.model} are the same "
                    f"training (train hash {first.train_hash}, seed {first.seed}, machine {first.machine}), scored "
                    "the same way. Delete one."
                )
        confirmed = [verified.get(attestation([record]), ()) for record in members]
        by_all = tuple(name for name in confirmed[0] if all(name in names for names in confirmed))
        strata = tuple(store.strata_of(root, record) for record in members)
        grouped.append(BoardRow(tuple(members), reason, verified_by=by_all, strata=strata))
    grouped.sort(key=_order)
    return _ranked(grouped, root)


def _order(row: BoardRow) -> tuple[Any, ...]:
    """Ranked rows first; test before val, the native protocol before others, best mIoU first."""
    head, miou = row.head, row.score("miou").value
    return (
        bool(row.reason), SPLITS.index(head.split), head.protocol.name != "native", row.comparable,
        math.inf if miou is None else -miou, head.model, head.size, head.train_hash, head.model_source, row.reason,
    )  # fmt: skip


def _ranked(ordered: Sequence[BoardRow], root: Path) -> list[BoardRow]:
    """Return the rows with their ranks, in the same order."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(ordered):
        if not row.reason and row.score("miou").value is not None:
            groups.setdefault(row.comparable, []).append(index)
    out = list(ordered)
    for members in groups.values():
        beaten_by = significance.better([ordered[index].records for index in members], root)
        for index, winners in zip(members, beaten_by, strict=True):
            out[index] = dataclasses.replace(ordered[index], rank=1 + len(winners))
    return out


def cell(value: Any) -> str:
    """Return a record's value as the text of a table cell; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return " ".join(f"{key}={entry}" for key, entry in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
