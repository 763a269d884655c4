"""Compare two leaderboard files: changed, added and removed rows."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.eval.metrics import METRICS

_KEYS = ("model", "variant", "size", "split", "protocol")
_FINER = ("data", "train_hash", "category", "scheme", "size_class", "threshold", "reason")
"""Columns that identify a row if the first ones do not. A file may lack some of them."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of either file.

    Attributes:
        name: its identifying cells.
        change: `same`, `changed`, `added` or `removed`.
        rank: `2`, or `1 -> 2` if it changed; `none` for a row without one.
        gaps: new minus old per metric, in percent; None if either file has no number.
    """

    name: str
    change: str
    rank: str
    gaps: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class FileComparison:
    """Two files; `metrics` name the figures of each line."""

    old: str
    new: str
    metrics: tuple[str, ...]
    lines: tuple[FileRow, ...]

    @property
    def summary(self) -> str:
        """Number of rows that are the same, changed, added and removed."""
        counts = Counter(line.change for line in self.lines)
        return ", ".join(f"{counts[change]} {change}" for change in ("same", "changed", "added", "removed"))


def compare_files(old: Path, new: Path) -> FileComparison:
    """Match the rows of two leaderboard files by model, variant, size, split and protocol.

    If a file has several such rows (other training settings, categories, thresholds), the train hash and the
    columns that identify the row are compared as well.

    Raises:
        UserError: a file that cannot be read, is not a leaderboard, or has a row twice.
    """
    tables = [_read(path) for path in (old, new)]
    candidates = [name for name, metric in METRICS.items() if not metric.mean_of]
    metrics = tuple(name for name in (*candidates, "pr") if any(line.get(name) for table in tables for line in table))
    for fields in _candidates(tables):
        keyed = [{tuple(line.get(field, "") for field in fields): line for line in table} for table in tables]
        if all(len(by_key) == len(table) for by_key, table in zip(keyed, tables, strict=True)):
            break
    else:
        short = [len(by_key) < len(table) for by_key, table in zip(keyed, tables, strict=True)]
        where = old if short[0] else new
        raise UserError(f"{where} has a row twice; a leaderboard file has each row once. Write it again: make report.")
    before, after = keyed
    lines = []
    for key in dict.fromkeys([*after, *before]):
        name = " ".join(part for field, part in zip(fields, key, strict=True) if part and field != "reason")
        a, b = before.get(key), after.get(key)
        gaps = tuple(_gap(a, b, metric) for metric in metrics)
        if a is None or b is None:
            change = "added" if a is None else "removed"
        else:
            compared = ("rank", *metrics)
            change = "same" if all(a.get(metric) == b.get(metric) for metric in compared) else "changed"
        ranks = dict.fromkeys(line.get("rank") or "none" for line in (a, b) if line is not None)
        lines.append(FileRow(name, change, " -> ".join(ranks), gaps))
    return FileComparison(str(old), str(new), metrics, tuple(lines))


def _candidates(tables: list[list[dict[str, str]]]) -> list[tuple[str, ...]]:
    """Keys to try, the coarsest first; a file's own columns (category, ...) always belong to them."""
    columns = {column for table in tables for line in table[:1] for column in line}
    made_by = tuple(name for name in ("data", "category", "scheme", "size_class", "threshold") if name in columns)
    base = tuple(name for name in _KEYS if name in columns) + made_by
    rest = [name for name in _FINER if name in columns and name not in base]
    return [base + tuple(rest[:n]) for n in range(len(rest) + 1)]


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            lines = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"The leaderboard {path} cannot be read: {error}.") from error
    missing = [name for name in ("model", "train_hash") if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path} is not a leaderboard file: it has no column {', '.join(missing)}.")
    return lines


def _gap(a: dict[str, str] | None, b: dict[str, str] | None, metric: str) -> float | None:
    if a is None or b is None or not a.get(metric) or not b.get(metric):
        return None
    try:
        return float(b[metric]) - float(a[metric])
    except ValueError as error:
        raise UserError(f"The column {metric} has a value that is not a number: {error}.") from error
