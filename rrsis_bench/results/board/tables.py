"""The leaderboards: CSV files that are a pure function of the records.

A row is one train hash under one protocol: mean and standard deviation over its seeds. Rows are ranked among those that
can be compared: same split, protocol, metric version and dataset fingerprint. The rank is 1 + the number of rows with a
significantly higher mIoU (`significance`), so rows that the data cannot tell apart share one. In a table, rows stand
in the order of their mIoU. A record that cannot be trusted as a result stands in a row of its own at the end, without a
rank and with the reason.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrsis_bench.errors import UserError
from rrsis_bench.files import write_files
from rrsis_bench.results.board import significance
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import (
    CONTROLS,
    EFFICIENCY_COLUMNS,
    INTERVALS,
    LEADERBOARD_COLUMNS,
    MACRO_ROW,
    PER_CATEGORY_COLUMNS,
    PER_SIZE_COLUMNS,
    PER_THRESHOLD_COLUMNS,
    PRECISIONS,
    THRESHOLDS,
    Record,
)

EFFICIENCY = "efficiency.csv"
_SPLITS = ("test", "val", "train")
_PER_DATA = {  # file name suffix -> columns
    "": LEADERBOARD_COLUMNS,
    "_per_category": PER_CATEGORY_COLUMNS,
    "_per_threshold": PER_THRESHOLD_COLUMNS,
    "_per_size": PER_SIZE_COLUMNS,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a leaderboard.

    Attributes:
        records: one per seed, by seed.
        reason: why the row is not ranked; empty where it is.
        rank: 1 + the number of significantly better rows; None where the row is not ranked.
    """

    records: tuple[Record, ...]
    reason: str
    rank: int | None = None

    @property
    def head(self) -> Record:
        """The first seed's record; what makes a row (model, protocol, hashes) is equal in all of them."""
        return self.records[0]

    @property
    def label(self) -> str:
        """The model's name, and what makes the row another than the model's default, for people."""
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
        """What each seed's record holds at `path` (fields and keys, outermost first), None where it holds nothing."""
        return [_lookup(record, path) for record in self.records]

    def mean(self, *path: str) -> float | None:
        """Mean over the seeds that have the value; None where none has."""
        values = [value for value in self.values(*path) if value is not None]
        return math.fsum(values) / len(values) if values else None

    def std(self, *path: str) -> float | None:
        """Sample standard deviation over the seeds; None below two of them."""
        values = [value for value in self.values(*path) if value is not None]
        if len(values) < 2:
            return None
        centre = math.fsum(values) / len(values)
        return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))

    def text(self, *path: str) -> str:
        """The value of every seed, once where they agree."""
        return " | ".join(dict.fromkeys(map(_cell, self.values(*path))))

    def names(self, *path: str) -> list[str]:
        """The keys of the mappings at `path`, in the order in which the records hold them."""
        return list(dict.fromkeys(name for mapping in self.values(*path) for name in mapping or ()))


def _lookup(record: Record, path: Sequence[str]) -> Any:
    value: Any = record
    for step in path:
        value = None if value is None else value.get(step) if isinstance(value, dict) else getattr(value, step)
    return value


def unranked_reason(record: Record) -> str:
    """Why a record must not be ranked; empty where nothing speaks against it."""
    reasons = []
    if record.status != "finished":
        reasons.append(f"status {record.status}")
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
    if record.git_dirty is None:
        reasons.append("no git revision")
    elif record.git_dirty:
        reasons.append("dirty tree")
    if record.status == "finished" and record.metrics.miou is None:
        reasons.append("not scored")
    return "; ".join(reasons)


def rows(records: Iterable[Record], root: Path) -> list[Row]:
    """Group records into rows, rank them, and order them as the tables show them.

    Args:
        records: of any datasets.
        root: the leaderboards folder, which holds the integers that the ranks are tested on; read only where a
            comparable group has two rows or more.

    Raises:
        UserError: one train hash has two records of the same seed (they cannot both count), or the integers of a
            ranked record are missing or damaged.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        reason = unranked_reason(record)
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
    grouped = []
    for (*_, reason), members in groups.items():
        members.sort(key=lambda record: (record.seed, record.run_id))
        for first, second in zip(members, members[1:], strict=False):
            if first.seed == second.seed:
                raise UserError(
                    f"The records {first.run_id} and {second.run_id} of {first.data}/{first.model} are the same "
                    f"training (train hash {first.train_hash}, seed {first.seed}), scored the same way. Delete one."
                )
        grouped.append(Row(tuple(members), reason))
    grouped.sort(key=_order)
    return _ranked(grouped, root)


def regenerate(root: Path) -> list[Path]:
    """Write every table below `root`, and the report page, anew from its records, and return their paths.

    Tables of datasets that have no record any more are deleted.

    Raises:
        UserError: a record is not sound, or the disk refused; every table is then the old or the new one, never torn.
    """
    from rrsis_bench.results.render import page

    records = store.read_all(root)
    by_data: dict[str, list[Record]] = {}
    for record in records:
        by_data.setdefault(record.data, []).append(record)
    files: dict[Path, bytes] = {}
    everything: list[Row] = []
    for data in sorted(by_data):
        ranked = rows(by_data[data], root)
        everything += ranked
        for suffix, columns in _PER_DATA.items():
            files[root / f"{data}{suffix}.csv"] = _csv(columns, _CONTENT[suffix](ranked))
    if records:
        files[root / EFFICIENCY] = _csv(EFFICIENCY_COLUMNS, _efficiency(everything))
        files[root / page.INDEX] = page.build(root, everything)
    write_files(files)
    for marker in root.glob("*_per_threshold.csv"):
        if marker not in files:
            stale = marker.name.removesuffix("_per_threshold.csv")
            for suffix in _PER_DATA:
                (root / f"{stale}{suffix}.csv").unlink(missing_ok=True)
    if not records:
        for name in (EFFICIENCY, page.INDEX):
            (root / name).unlink(missing_ok=True)
    return list(files)


def _order(row: Row) -> tuple[Any, ...]:
    """Ranked rows first; test before val, the native protocol before others, best mIoU first."""
    head, miou = row.head, row.mean("metrics", "miou")
    return (
        bool(row.reason), _SPLITS.index(head.split), head.protocol.name != "native", row.comparable,
        math.inf if miou is None else -miou, head.model, head.size, head.train_hash, head.model_source, row.reason,
    )  # fmt: skip


def _ranked(ordered: Sequence[Row], root: Path) -> list[Row]:
    """The rows with their ranks, in the same order."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(ordered):
        if not row.reason and row.mean("metrics", "miou") is not None:
            groups.setdefault(row.comparable, []).append(index)
    out = list(ordered)
    for members in groups.values():
        beaten_by = significance.better([ordered[index].records for index in members], root)
        for index, winners in zip(members, beaten_by, strict=True):
            out[index] = dataclasses.replace(ordered[index], rank=1 + len(winners))
    return out


def _identity(row: Row) -> dict[str, Any]:
    head = row.head
    return {
        "rank": row.rank,
        "model": head.model,
        "variant": "; ".join(head.variant),
        "size": head.size,
        "split": head.split,
        "protocol": head.protocol.name,
        "n_seeds": len(row.records),
        "train_hash": head.train_hash,
        "reason": row.reason,
    }


def leaderboard_cells(ranked: Sequence[Row]) -> Iterable[dict[str, Any]]:
    """The cells of ``<data>.csv``, column -> text, one mapping per row."""
    renamed: dict[str, tuple[str, ...]] = {
        "protocol_id": ("protocol", "scoring_id"), "seeds": ("seed",), "run_ids": ("run_id",),
        "package_version": ("versions", "rrsis_bench"), "torch": ("versions", "torch"), "cuda": ("versions", "cuda"),
    }  # fmt: skip
    for row in ranked:
        cells = _identity(row)
        for name in INTERVALS:
            cells[name], cells[f"{name}_std"] = _two(row.mean("metrics", name)), _two(row.std("metrics", name))
        for name in ("miou_lo", "miou_hi", "oiou_lo", "oiou_hi", "macro_miou", "nacc", "tacc"):
            cells[name] = _two(row.mean("metrics", name))
        for name in CONTROLS:
            cells[f"{name}_miou"] = _two(row.mean("control", name, "miou"))
        params = row.mean("efficiency", "params_total")
        cells["params_m"] = None if params is None else f"{params / 1e6:.3f}"
        for name in ("gflops", "fps", "peak_mem_gb"):
            cells[name] = _figure(row.mean("efficiency", name))
        cells["wall_s"] = _figure(row.mean("wall_s"))
        for name in LEADERBOARD_COLUMNS:
            if name not in cells:
                cells[name] = row.text(*renamed.get(name, (name,)))
        yield cells


def _per_category(ranked: Sequence[Row]) -> Iterable[dict[str, Any]]:
    for row in ranked:
        for category in row.names("per_category"):
            yield _identity(row) | {"category": category} | _group_cells(row, "per_category", category)
        macro = _identity(row) | {"category": MACRO_ROW}
        for name in ("miou", "oiou"):
            macro[name] = _two(row.mean("metrics", f"macro_{name}"))
            macro[f"{name}_std"] = _two(row.std("metrics", f"macro_{name}"))
        if macro["miou"]:
            yield macro


def _per_size(ranked: Sequence[Row]) -> Iterable[dict[str, Any]]:
    for row in ranked:
        for scheme in row.names("per_size"):
            for name in row.names("per_size", scheme):
                labels = {"scheme": scheme, "size_class": name}
                yield _identity(row) | labels | _group_cells(row, "per_size", scheme, name)


def _per_threshold(ranked: Sequence[Row]) -> Iterable[dict[str, Any]]:
    for row in ranked:
        for tenths, name in zip(THRESHOLDS, PRECISIONS, strict=True):
            scores = {"pr": name, "pr_lo": f"{name}_lo", "pr_hi": f"{name}_hi"}
            cells = {column: _two(row.mean("metrics", field)) for column, field in scores.items()}
            yield _identity(row) | cells | {"threshold": f"0.{tenths}", "pr_std": _two(row.std("metrics", name))}


_CONTENT: dict[str, Callable[[Sequence[Row]], Iterable[dict[str, Any]]]] = {
    "": leaderboard_cells,
    "_per_category": _per_category,
    "_per_threshold": _per_threshold,
    "_per_size": _per_size,
}


def _efficiency(everything: Sequence[Row]) -> Iterable[dict[str, Any]]:
    """One line per model and conditions; figures of several seeds under the same conditions are averaged."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in (record for row in everything for record in row.records):
        cost = record.efficiency
        if any(value is not None for value in dataclasses.asdict(cost).values()):
            conditions = (cost.device, cost.precision, cost.batch, cost.gflops_batch, cost.input_size)
            key = (record.model, record.size, record.data, record.train_hash, *map(_cell, conditions))
            groups.setdefault(key, []).append(record)
    for key in sorted(groups):
        members = Row(tuple(sorted(groups[key], key=lambda record: (record.seed, record.run_id))), "")
        cells = _identity(members) | {"data": members.head.data, "n_runs": len(members.records)}
        for name in ("gflops", "latency_ms", "fps", "peak_mem_gb"):
            cells[name] = _figure(members.mean("efficiency", name))
        for name in ("params_total", "params_trainable", "gflops_batch", "input_size", "batch", "device", "precision"):
            cells[name] = members.text("efficiency", name)
        yield cells


def _group_cells(row: Row, *path: str) -> dict[str, str]:
    cells = {"n": row.text(*path, "n")}
    for name in INTERVALS:
        cells[name], cells[f"{name}_std"] = _two(row.mean(*path, name)), _two(row.std(*path, name))
    return cells


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return " ".join(f"{key}={entry}" for key, entry in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _two(value: float | None) -> str:
    """A percentage with two decimals, as papers print it; the records keep all digits."""
    return "" if value is None else f"{value:.2f}"


def _figure(value: float | None) -> str:
    """Four significant digits, never in scientific notation; whole numbers of five digits and more are kept."""
    if value is None:
        return ""
    digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _csv(columns: Sequence[str], lines: Iterable[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(line.get(name)) for name in columns} for line in lines)
    return text.getvalue().encode("utf-8")
