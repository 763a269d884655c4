"""Audit the printed numbers: wrong averages, shifted labels, disagreements between papers, impossible shares.

Everything is computed from the CSV files and the sizes of the splits alone. The search of shifted labels uses the
printed labels. The corrected ones are only compared with what was found.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rrsis_bench.config import cards
from rrsis_bench.results.published import numbers as published
from rrsis_bench.results.published.attainable import Attainability, attainability
from rrsis_bench.results.published.numbers import AVERAGE, PAPERS, Overall, PerCategory

SHIFTS = (-2, -1, 0, 1, 2)
"""Shifts of a column's values against its labels that are tried, in rows."""

ROUNDING = 0.01
"""Largest gap that rounding to two decimals explains: half a unit in the rows and half a unit in their mean."""


@dataclass(frozen=True, slots=True)
class Average:
    """A column's printed average beside the mean of the rows over it, in percent.

    Attributes:
        data: the dataset's name.
        source: paper and table.
        split: the split as the table names it.
        method: the column.
        n: categories that the column prints.
        printed: the average as printed.
        mean: the mean of the `n` rows.
        absent: categories that other columns of the dataset have and this one lacks.
        implied: what the one absent category would hold if the printed average included it; None if the average
            is right or not exactly one category is absent.
        seen: paper and table that print `implied` in a column otherwise equal to this one; None if there is none.
    """

    data: str
    source: str
    split: str
    method: str
    n: int
    printed: float
    mean: float
    absent: tuple[str, ...]
    implied: float | None
    seen: str | None

    @property
    def gap(self) -> float:
        """Printed average minus mean."""
        return self.printed - self.mean

    @property
    def right(self) -> bool:
        """Whether rounding explains the gap."""
        return abs(self.gap) <= ROUNDING


@dataclass(frozen=True, slots=True)
class Correlation:
    """A column against another one, per shift of its values against its labels.

    Attributes:
        against: source of the other column.
        method: method of the other column.
        pearson: shift -> correlation of the values.
        spearman: shift -> correlation of their ranks.
        n: shift -> categories that both columns then have.
    """

    against: str
    method: str
    pearson: dict[int, float]
    spearman: dict[int, float]
    n: dict[int, int]

    @property
    def best(self) -> int:
        """The shift of the highest Pearson correlation."""
        return max(self.pearson, key=self.pearson.__getitem__)


@dataclass(frozen=True, slots=True)
class Alignment:
    """The shift of a column's values against their labels.

    Attributes:
        data: the dataset's name.
        source: paper and table.
        method: the column.
        shift: rows; 1 = each value belongs to the category one row above its label. The labels that most columns
            agree on (equal columns counted once) are taken as right.
        unprinted: the categories that the column then has no value for.
        equal_to: the earliest other column of the same method with the same values at the same labels, or None.
        recorded: whether `corrected_category` in the files says the same.
        correlations: against the columns of other papers, and of the same paper where that column is not shifted.
    """

    data: str
    source: str
    method: str
    shift: int
    unprinted: tuple[str, ...]
    equal_to: str | None
    recorded: bool
    correlations: tuple[Correlation, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One score of one method that papers print differently, in percent.

    Attributes:
        data: the dataset's name.
        split: the split.
        method: the method, under one name in all papers.
        metric: the metric.
        values: paper and table -> score, lowest first.
    """

    data: str
    split: str
    method: str
    metric: str
    values: tuple[tuple[str, float], ...]

    @property
    def gap(self) -> float:
        """Highest minus lowest."""
        return self.values[-1][1] - self.values[0][1]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same value at several labels of one column: a copying error, or chance.

    Attributes:
        data: the dataset's name.
        source: paper and table.
        method: the column.
        value: percent.
        categories: the labels, in the printed order.
    """

    data: str
    source: str
    method: str
    value: float
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """All results of the audit; lists are in the tables' order, disagreements from the largest gap down."""

    averages: tuple[Average, ...]
    repeats: tuple[Repeat, ...]
    alignments: tuple[Alignment, ...]
    disagreements: tuple[Disagreement, ...]
    attainability: tuple[Attainability, ...]


@dataclass(frozen=True, slots=True)
class PublishedColumn:
    """A method's column of a table per category; `values` in the printed order, the average left out."""

    data: str
    paper: str
    table: str
    split: str
    method: str
    values: dict[str, float]
    corrected: dict[str, str]
    average: float | None

    @property
    def source(self) -> str:
        """Paper and table in words."""
        return f"{PAPERS[self.paper]} {self.table}"


def audit(root: Path) -> Audit:
    """Audit the published numbers under `root`; UserError as `published.load`."""
    columns = columns_of(published.load(root, "per_category"))
    overall = published.load(root, "overall")
    known = set(cards.dataset_names()).intersection(figure.data for figure in overall)
    counts = {data: cards.data_config(data).counts or {} for data in known}
    return Audit(
        tuple(averages(columns)),
        tuple(repeats(columns)),
        tuple(alignments(columns)),
        tuple(disagreements(overall)),
        tuple(attainability(overall, counts)),
    )


def columns_of(figures: Iterable[PerCategory]) -> list[PublishedColumn]:
    """The tables' columns of mIoU, in the figures' order."""
    groups: dict[tuple[str, str, str, str, str], list[PerCategory]] = {}
    for figure in figures:
        if figure.metric == "miou":
            identity = (figure.data, figure.paper, figure.table, figure.split, figure.method)
            groups.setdefault(identity, []).append(figure)
    columns = []
    for identity, members in groups.items():
        rows = [figure for figure in members if figure.category != AVERAGE]
        average = next((figure.number for figure in members if figure.category == AVERAGE), None)
        values = {figure.category: figure.number for figure in rows}
        corrected = {figure.category: figure.corrected_category or figure.category for figure in rows}
        columns.append(PublishedColumn(*identity, values, corrected, average))
    return columns


def averages(columns: Sequence[PublishedColumn]) -> list[Average]:
    """Compare every printed average with the mean of its rows."""
    found = []
    for column in columns:
        if column.average is None:
            continue
        mean = statistics.fmean(column.values.values())
        absent = tuple(name for name in _categories(columns, column.data) if name not in column.values)
        implied, seen = None, None
        if abs(column.average - mean) > ROUNDING and len(absent) == 1:
            implied = round(column.average * (len(column.values) + 1) - sum(column.values.values()), 2)
            seen = _printed_elsewhere(columns, column, absent[0], implied)
        found.append(
            Average(
                column.data, column.source, column.split, column.method, len(column.values), column.average, mean,
                absent, implied, seen,
            )
        )  # fmt: skip
    return found


def repeats(columns: Iterable[PublishedColumn]) -> list[Repeat]:
    """Values that a column prints at more than one label."""
    found = []
    for column in columns:
        for value, count in Counter(column.values.values()).items():
            if count > 1:
                labels = tuple(name for name, other in column.values.items() if other == value)
                found.append(Repeat(column.data, column.source, column.method, value, labels))
    return found


def alignments(columns: Sequence[PublishedColumn]) -> list[Alignment]:
    """Find shifted labels in every dataset that two papers print per category."""
    found = []
    for data in dict.fromkeys(column.data for column in columns):
        members = [column for column in columns if column.data == data]
        if len({column.paper for column in members}) > 1:
            found += _align(members, _categories(columns, data))
    return found


def disagreements(figures: Iterable[Overall]) -> list[Disagreement]:
    """Scores that two papers or more print for one method, where they differ; the largest gap first."""
    groups: dict[tuple[str, str, str, str], list[Overall]] = {}
    for figure in figures:
        groups.setdefault((figure.data, figure.split, figure.system, figure.metric), []).append(figure)
    found = []
    for key, members in groups.items():
        values = sorted({(figure.source, figure.number) for figure in members}, key=lambda pair: (pair[1], pair[0]))
        if len({figure.paper for figure in members}) > 1 and values[0][1] < values[-1][1]:
            found.append(Disagreement(*key, tuple(values)))
    return sorted(found, key=lambda entry: (-round(entry.gap, 2), entry.data, entry.split, entry.method, entry.metric))


def shifted(values: dict[str, float], categories: Sequence[str], shift: int) -> dict[str, float]:
    """Category -> value, with every value moved `shift` rows up.

    The rows form a cycle: the printed ones in their order, then the categories that the column lacks.

    Args:
        values: label -> value, in the printed order.
        categories: every category of the dataset.
        shift: rows to move up; negative moves down.
    """
    cycle = [*values, *(name for name in categories if name not in values)]
    return {cycle[(row - shift) % len(cycle)]: value for row, value in enumerate(values.values())}


def correlate(column: PublishedColumn, other: PublishedColumn, categories: Sequence[str]) -> Correlation:
    """Correlate `column`, its values moved by each of `SHIFTS`, with `other` as printed."""
    pearson, spearman, n = {}, {}, {}
    for shift in SHIFTS:
        both = pd.DataFrame(
            {"a": pd.Series(shifted(column.values, categories, shift)), "b": pd.Series(other.values)}
        ).dropna()
        pearson[shift], spearman[shift] = _correlation(both), _correlation(both.rank())
        n[shift] = len(both)
    return Correlation(other.source, other.method, pearson, spearman, n)


def _correlation(both: pd.DataFrame) -> float:
    value = float(both["a"].corr(both["b"])) if len(both) > 1 else math.nan
    # A constant column correlates with nothing.
    return -1.0 if math.isnan(value) else value


def _align(columns: Sequence[PublishedColumn], categories: Sequence[str]) -> list[Alignment]:
    relative = [correlate(column, columns[0], categories).best for column in columns]
    copies = [_equal(columns[:place], column) for place, column in enumerate(columns)]
    votes = Counter(shift for shift, copy in zip(relative, copies, strict=True) if copy is None)
    shifts = [shift - votes.most_common(1)[0][0] for shift in relative]
    aligned = [column for column, shift in zip(columns, shifts, strict=True) if shift == 0]
    found = []
    for column, shift, copy in zip(columns, shifts, copies, strict=True):
        values = shifted(column.values, categories, shift)
        found.append(
            Alignment(
                column.data, column.source, column.method, shift,
                tuple(name for name in categories if name not in values),
                copy.source if copy else None,
                dict(zip(column.values, values, strict=True)) == column.corrected,
                tuple(correlate(column, other, categories) for other in _references(column, aligned)),
            )
        )  # fmt: skip
    return found


def _references(column: PublishedColumn, aligned: Sequence[PublishedColumn]) -> list[PublishedColumn]:
    """Return a column's references: the same method in every other aligned table, else that paper's own method."""
    found = []
    for source in dict.fromkeys(other.source for other in aligned):
        table = {other.method: other for other in aligned if other.source == source}
        # An aligned column adds no information about the labels of its own table.
        if source != column.source or column.method not in table:
            other = table.get(column.method) or table.get(PAPERS[next(iter(table.values())).paper])
            found += [other] if other else []
    return found


def _categories(columns: Iterable[PublishedColumn], data: str) -> list[str]:
    return list(dict.fromkeys(name for column in columns if column.data == data for name in column.values))


def _equal(others: Iterable[PublishedColumn], column: PublishedColumn) -> PublishedColumn | None:
    """The first of `others` that prints this column's method with the same value at every label both have."""
    for other in others:
        both = other.values.keys() & column.values.keys()
        same = (other.data, other.split, other.method) == (column.data, column.split, column.method)
        if same and len(both) > 1 and all(other.values[name] == column.values[name] for name in both):
            return other
    return None


def _printed_elsewhere(
    columns: Iterable[PublishedColumn], column: PublishedColumn, category: str, value: float
) -> str | None:
    """Paper and table that print `value` for the absent category in a column that otherwise equals this one."""
    able = (other for other in columns if other is not column and other.values.get(category) == value)
    other = _equal(able, column)
    return other.source if other else None
