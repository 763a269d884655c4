"""Two rows of a leaderboard side by side, with their differences."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.registry import unknown
from rrsis_bench.results import store, tables
from rrsis_bench.results.schema import CONTROLS, INTERVALS
from rrsis_bench.results.tables import Row


@dataclass(frozen=True, slots=True)
class Difference:
    """One score of both rows, in percent; `gap` is b minus a, None where either was not measured."""

    name: str
    a: float | None
    b: float | None

    @property
    def gap(self) -> float | None:
        """B minus A."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two comparable rows.

    Attributes:
        a: the first row.
        b: the second row.
        overall: mIoU, oIoU, Pr@X, macro mean, the language controls.
        per_category: mIoU per category.
        per_size: mIoU per size class in pixels.
    """

    a: Row
    b: Row
    overall: tuple[Difference, ...]
    per_category: tuple[Difference, ...]
    per_size: tuple[Difference, ...]


def compare(
    root: Path, a: str, b: str, data: str, *, split: str | None = None, protocol: str | None = None
) -> Comparison:
    """Compare two models or runs.

    Args:
        root: the leaderboards folder.
        a: a model's name, which stands for its best ranked row, or a run id.
        b: likewise.
        data: the dataset's name.
        split: only rows of this split; None leaves the choice to the records.
        protocol: only rows of this protocol; likewise.

    Raises:
        UserError: a name without a record, a name that could mean several rows, or rows that cannot be compared.
    """
    records = store.read_all(root)
    available = sorted({record.data for record in records})
    if data not in available:
        raise unknown("dataset with records", data, available or ["none yet: run `make bench` first"])
    everything = [
        row for row in tables.rows(record for record in records if record.data == data)
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
    paths: dict[str, tuple[str, ...]] = {name: ("metrics", name) for name in (*INTERVALS, "macro_miou")}
    paths |= {name: ("control", name, "miou") for name in CONTROLS}
    overall = tuple(Difference(name, row_a.mean(*path), row_b.mean(*path)) for name, path in paths.items())
    per_size = _groups(row_a, row_b, "per_size", "pixels")
    return Comparison(row_a, row_b, overall, _groups(row_a, row_b, "per_category"), per_size)


def _candidates(everything: list[Row], name: str) -> list[Row]:
    """The rows that a name can mean: those of the model, or the run's own record as a row of one."""
    runs = ((row, record) for row in everything for record in row.records)
    of_run = [dataclasses.replace(row, records=(record,)) for row, record in runs if record.run_id == name]
    found = of_run or [row for row in everything if row.head.model == name]
    if not found:
        models = sorted({row.head.model for row in everything})
        run_ids = sorted(record.run_id for row in everything for record in row.records)
        raise unknown("model or run id", name, models + run_ids)
    return found


def _choose(rows: list[Row], name: str) -> Row:
    """The best ranked row; without a ranked one, the only one there is."""
    ranked = [row for row in rows if row.rank is not None]
    if ranked:
        return ranked[0]
    if len(rows) > 1:
        raise UserError(f"'{name}' has several rows and none of them is ranked. Name a run id:\n{_listing(rows)}")
    return rows[0]


def _listing(rows: list[Row]) -> str:
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


def _groups(a: Row, b: Row, *path: str) -> tuple[Difference, ...]:
    names = dict.fromkeys(a.names(*path) + b.names(*path))
    return tuple(Difference(name, a.mean(*path, name, "miou"), b.mean(*path, name, "miou")) for name in names)
