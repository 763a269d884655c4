"""Read a results table that a reviewer typed, and compare its figures with a number of samples.

Two layouts are read. A wide table has one row per system and one column per metric, as it is printed::

    method,split,Pr@0.5,Pr@0.6,oIoU
    LAVT,test,69.52,63.61,77.19

A long table has one figure per row, with the columns ``metric`` and ``value``, like the files of ``published/``. Only
shares of samples are compared: columns or metrics named Pr@X, P@X, Prec@X, Precision@X or pr50, unless others are
named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrsis_bench.csv_files import CsvRow, CsvTable, read_csv
from rrsis_bench.errors import UserError
from rrsis_bench.results.published.attainable import Attainability, examine, is_figure

EMPTY = ("", "-", "--", "–", "—", "n/a", "N/A")
"""Cells without a figure."""

_PRECISION = re.compile(r"p(r|rec|recision)?(@0?\.\d+|@?\d\d)", re.IGNORECASE)
_APART = ("value", "metric", "notes", "copied_from")  # of a long table: what does not tell rows of a table apart


def check(
    path: Path, n: int, others: Mapping[str, int] | None = None, columns: Sequence[str] = ()
) -> list[Attainability]:
    """Compare every row of a table with the number of samples that it should be over.

    Args:
        path: a CSV file with commas, semicolons or tabs.
        n: samples of the split.
        others: name -> other numbers of samples that may have been scored, such as another split's.
        columns: columns, or metrics of a long table, to compare; empty: all named like Pr@X.

    Raises:
        UserError: the file cannot be read, has no such column, or a cell is no percentage; with the line.
    """
    table = read_csv(path, needed=None)
    rows = _long(table, columns) if {"metric", "value"} <= set(table.columns) else _wide(table, columns)
    found = [
        examine(figures, n, others, data=path.name, source=where, method=name)
        for where, name, figures in rows
        if figures
    ]
    if not found:
        raise UserError(
            f"{path} has no figure to compare. Name columns such as Pr@0.5, or choose others with --columns."
        )
    return found


def _chosen(name: str, columns: Sequence[str]) -> bool:
    return name in columns if columns else _PRECISION.fullmatch(name.replace(" ", "")) is not None


def _wide(table: CsvTable, columns: Sequence[str]) -> list[tuple[str, str, dict[str, str]]]:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(
            f"{table.where} has no column {', '.join(missing)}. Its columns are: {', '.join(table.columns)}."
        )
    named = [name for name in table.columns if _chosen(name, columns)]
    if not named:
        raise UserError(
            f"{table.where} has no column such as Pr@0.5. Its columns are: {', '.join(table.columns)}. "
            "Rename the shares of samples, or choose columns with --columns."
        )
    found = []
    for row in table.rows:
        cells = {name: _figure(table, row, name) for name in named}
        # What is no number names the row; other metrics of the table do not.
        others = {name: text for name, text in row.cells.items() if name not in named and text not in EMPTY}
        labels = [text for text in others.values() if not is_figure(_plain(text))]
        found.append((f"line {row.line}", ", ".join(labels), {name: cell for name, cell in cells.items() if cell}))
    return found


def _long(table: CsvTable, columns: Sequence[str]) -> list[tuple[str, str, dict[str, str]]]:
    groups: dict[str, tuple[int, dict[str, str]]] = {}
    for row in table.rows:
        metric = row.cells["metric"]
        if not _chosen(metric, columns):
            continue
        name = ", ".join(text for column, text in row.cells.items() if column not in _APART and text)
        _, figures = groups.setdefault(name, (row.line, {}))
        if metric in figures:
            raise table.error(row, f"a second {metric} of '{name}'. Tell the rows apart by another column")
        figures[metric] = _figure(table, row, "value")
    return [
        (f"line {line}", name, {metric: figure for metric, figure in figures.items() if figure})
        for name, (line, figures) in groups.items()
    ]


def _plain(text: str) -> str:
    return text.rstrip("%").strip().replace(",", ".")


def _figure(table: CsvTable, row: CsvRow, column: str) -> str:
    """Return a cell's figure with its digits; empty if there is none."""
    text = row.cells[column]
    if text in EMPTY:
        return ""
    plain = _plain(text)
    if not is_figure(plain):
        raise table.error(row, f"{column} is '{text[:40]}', which is not a percentage from 0 to 100 such as 66.40")
    return plain
