"""Compare two leaderboard files: changed, added and removed rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rrsis_bench.csv_files import CsvRow, CsvTable, original, read_csv
from rrsis_bench.errors import UserError
from rrsis_bench.eval.metrics import METRICS

_KEYS = ("model", "variant", "size", "split", "protocol")
_FINER = ("data", "train_hash", "category", "scheme", "size_class", "threshold", "reason")
"""Columns that identify a row if the first ones do not. A file may lack some of them."""
_METRICS = (*(name for name, metric in METRICS.items() if not metric.mean_of), "pr")


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


@dataclass(frozen=True, slots=True)
class _Line:
    """One row of a file: the cells that identify it, and its rank and metrics as numbers, None if empty."""

    cells: dict[str, str]
    figures: dict[str, float | None]


def compare_files(old: Path, new: Path) -> FileComparison:
    """Match the rows of two leaderboard files by model, variant, size, split and protocol.

    If a file has several such rows (other training settings, categories, thresholds), the train hash and the
    columns that identify the row are compared as well. Numbers are compared as numbers, however they are written.

    Raises:
        UserError: a file that cannot be read, is not a leaderboard, or has a row twice.
    """
    tables = [_read(path) for path in (old, new)]
    metrics = tuple(
        name for name in _METRICS if any(line.figures[name] is not None for table in tables for line in table)
    )
    for fields in _candidates(tables):
        keyed = [{tuple(line.cells.get(field, "") for field in fields): line for line in table} for table in tables]
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
            change = "same" if a.figures == b.figures else "changed"
        ranks = dict.fromkeys(_rank(line) for line in (a, b) if line is not None)
        lines.append(FileRow(name, change, " -> ".join(ranks), gaps))
    return FileComparison(str(old), str(new), metrics, tuple(lines))


def _candidates(tables: list[list[_Line]]) -> list[tuple[str, ...]]:
    """Keys to try, the coarsest first; a file's own columns (category, ...) always belong to them."""
    columns = {column for table in tables for line in table[:1] for column in line.cells}
    made_by = tuple(name for name in ("data", "category", "scheme", "size_class", "threshold") if name in columns)
    base = tuple(name for name in _KEYS if name in columns) + made_by
    rest = [name for name in _FINER if name in columns and name not in base]
    return [base + tuple(rest[:n]) for n in range(len(rest) + 1)]


def _read(path: Path) -> list[_Line]:
    table = read_csv(path, ["model", "train_hash"])
    if not set(table.columns).intersection(_METRICS):
        raise UserError(f"{path} has no scores to compare: none of its columns is one of {', '.join(_METRICS)}.")
    return [_line(table, row) for row in table.rows]


def _line(table: CsvTable, row: CsvRow) -> _Line:
    cells = {name: original(cell) for name, cell in row.cells.items()}
    threshold = table.number(row, "threshold")
    if threshold is not None:
        cells["threshold"] = f"{threshold:g}"
    return _Line(cells, {name: table.number(row, name) for name in ("rank", *_METRICS)})


def _rank(line: _Line) -> str:
    rank = line.figures["rank"]
    return "none" if rank is None else f"{rank:g}"


def _gap(a: _Line | None, b: _Line | None, metric: str) -> float | None:
    before, after = (None if line is None else line.figures[metric] for line in (a, b))
    return None if before is None or after is None else after - before
