"""The numbers that papers print, from ``<root>/published/``: read as they are, never merged with measured rows.

One CSV per dataset and kind: ``<data>_overall.csv``, ``<data>_per_category.csv``, ``<data>_ablations.csv``; and
``efficiency.csv`` for all datasets. One line is one printed number. A number belongs to the paper that prints it: two
papers' numbers for one method are two results. The folder's README.md describes the columns and the known defects.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args, overload

from rrsis_bench.csv_files import read_text, records
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.eval.metrics import grouped_metrics

Kind = Literal["overall", "per_category", "ablations", "efficiency"]
FOLDER = "published"

PAPERS = {
    "aerial_d": "Aerial-D", "csinet": "CSINet", "fianet": "FIANet", "geopixel": "GeoPixel", "lrb_wrel": "LRB-WREL",
    "mrsnet": "MRSNet", "saarn": "SAARN", "sgsrf": "SGSRF",
}  # fmt: skip
"""Keys of the papers, which are the systems or datasets that they propose -> the name as written."""

ONE_METHOD = {"RNN": "RRN", "ConvLSTM": "RRN"}
"""Labels of the papers that are other names of one method (Li et al., CVPR 2018) -> the name used here."""

QUANTITIES = ("params_m", "trainable_params_m", "gflops", "latency_ms", "fps")
"""Figures of ``efficiency.csv``: millions of parameters, GFLOPs, milliseconds, frames per second."""

AVERAGE = "average"
"""The category of a table's last row, its mean over the categories."""

COPIED = re.compile(r"stated: .+|equal: (?P<paper>\w+) (?P<table>Table \w+|README)")
"""What ``copied_from`` can hold: sources that the text names, or an earlier table whose row equals this one."""


@dataclass(frozen=True, slots=True)
class PrintedNumber:
    """One printed number.

    Attributes:
        paper: key of the paper that prints it, as in `PAPERS`.
        table: the table's name in that paper; ``README`` if the authors print it there only.
        method: the system that it is about.
        value: the number as printed, with its digits.
        notes: remarks for the reader, separated by ``;``; may be empty.
    """

    paper: str
    table: str
    method: str
    value: str
    notes: str

    @property
    def system(self) -> str:
        """The method under one name in all papers; `method` is the paper's own label."""
        return ONE_METHOD.get(self.method, self.method)

    @property
    def number(self) -> float:
        """The value as a number."""
        return float(self.value)

    @property
    def source(self) -> str:
        """Paper and table in words, as in ``FIANet Table IV``."""
        return f"{PAPERS[self.paper]} {self.table}"


@dataclass(frozen=True, slots=True)
class Overall(PrintedNumber):
    """A score over a whole split, in percent.

    Attributes:
        data: the dataset's name.
        split: the split as the table names it.
        vision_encoder: as printed; empty if the table names none.
        text_encoder: as `vision_encoder`.
        metric: a metric of groups, such as miou, oiou, pr50.
        copied_from: empty, or as described at `COPIED`.
    """

    data: str
    split: str
    vision_encoder: str
    text_encoder: str
    metric: str
    copied_from: str


@dataclass(frozen=True, slots=True)
class PerCategory(PrintedNumber):
    """A category's score, in percent.

    Attributes:
        data: the dataset's name.
        split: the split; ``val+test`` if the table pools both.
        category: the label as printed, or `AVERAGE`.
        corrected_category: the category that the number is about, if the table's labels are shifted; else empty.
        metric: a metric of groups, such as miou, oiou, pr50.
        copied_from: empty, or as described at `COPIED`.
    """

    data: str
    split: str
    category: str
    corrected_category: str
    metric: str
    copied_from: str


@dataclass(frozen=True, slots=True)
class Ablation(PrintedNumber):
    """A score of a variant of the paper's own method, in percent.

    Attributes:
        data: the dataset's name.
        split: the split; ``not stated`` or ``val or test`` if the paper does not say.
        group: what is varied.
        setting: the variant.
        metric: a metric of groups, such as miou, oiou, pr50.
    """

    data: str
    split: str
    group: str
    setting: str
    metric: str


@dataclass(frozen=True, slots=True)
class Cost(PrintedNumber):
    """What a method costs.

    Attributes:
        quantity: one of `QUANTITIES`.
        condition: device and precision; ``not stated`` if the paper does not say.
    """

    quantity: str
    condition: str


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One line of a paper's table of results.

    Attributes:
        paper: key of the paper, as in `PAPERS`.
        table: the table's name in that paper.
        data: the dataset's name.
        split: the split as the table names it.
        method: the system.
        vision_encoder: as printed; distinguishes two sizes of one method. Empty if the table names none.
        text_encoder: as `vision_encoder`.
        scores: metric -> percent; metrics that the table lacks are absent.
        notes: remarks on any of the numbers, separated by ``;``.
        copied_from: source of the numbers, as described at `COPIED`.
    """

    paper: str
    table: str
    data: str
    split: str
    method: str
    vision_encoder: str
    text_encoder: str
    scores: dict[str, float]
    notes: str
    copied_from: str

    @property
    def source(self) -> str:
        """Paper and table in words, as in ``FIANet Table III``."""
        return f"{PAPERS[self.paper]} {self.table}"


F = TypeVar("F", bound=PrintedNumber)

# The columns of each file, in order: its identity, the number, the remarks.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "overall": (
        "paper", "table", "data", "split", "method", "vision_encoder", "text_encoder", "metric", "value",
        "copied_from", "notes",
    ),
    "per_category": (
        "paper", "table", "data", "split", "method", "category", "corrected_category", "metric", "value",
        "copied_from", "notes",
    ),
    "ablations": ("paper", "table", "data", "split", "group", "setting", "metric", "value", "notes"),
    "efficiency": ("paper", "table", "method", "quantity", "value", "condition", "notes"),
}  # fmt: skip
_MAY_BE_EMPTY = {"vision_encoder", "text_encoder", "corrected_category", "copied_from", "notes"}
_VOCABULARY: dict[str, Callable[[], Iterable[str]]] = {
    "paper": lambda: PAPERS, "quantity": lambda: QUANTITIES,
    "metric": lambda: [metric.name for metric in grouped_metrics()],
}  # fmt: skip
_NUMBER = re.compile(r"\d+(\.\d+)?")


def datasets(root: Path) -> list[str]:
    """Names of the datasets with published numbers, sorted; empty if `root` has no such folder."""
    return sorted(path.name.removesuffix("_overall.csv") for path in (root / FOLDER).glob("*_overall.csv"))


@overload
def load(root: Path, kind: Literal["overall"], data: str | None = None) -> list[Overall]: ...
@overload
def load(root: Path, kind: Literal["per_category"], data: str | None = None) -> list[PerCategory]: ...
@overload
def load(root: Path, kind: Literal["ablations"], data: str | None = None) -> list[Ablation]: ...
@overload
def load(root: Path, kind: Literal["efficiency"], data: None = None) -> list[Cost]: ...
def load(
    root: Path, kind: Kind, data: str | None = None
) -> list[Overall] | list[PerCategory] | list[Ablation] | list[Cost]:
    """Return every number of one kind, in the files' order.

    Args:
        root: the leaderboards folder.
        kind: ``overall``, ``per_category``, ``ablations`` or ``efficiency``.
        data: only this dataset; None reads all. A dataset without a file of this kind gives an empty list.

    Raises:
        UserError: `root` has no published numbers, or a file is not as described; names file and line.
    """
    if kind == "overall":
        return list(_figures(root, kind, data, Overall))
    if kind == "per_category":
        return list(_figures(root, kind, data, PerCategory))
    if kind == "ablations":
        return list(_figures(root, kind, data, Ablation))
    if kind == "efficiency":
        return list(_figures(root, kind, data, Cost))
    raise unknown("kind of published numbers", kind, list(get_args(Kind)))


def overall(root: Path, data: str, split: str | None = None) -> list[PublishedRow]:
    """The papers' results on a dataset, one row per line of a table and split, in the tables' order.

    Args:
        root: the leaderboards folder.
        data: the dataset's name. One that no paper reports gives an empty list.
        split: only this split; None gives all.

    Raises:
        UserError: as `load`.
    """
    rows: dict[tuple[str, str, str, str, str, str, str], list[Overall]] = {}
    for figure in load(root, "overall", data):
        if split in (None, figure.split):
            key = (
                figure.paper, figure.table, figure.data, figure.split, figure.method, figure.vision_encoder,
                figure.text_encoder,
            )  # fmt: skip
            rows.setdefault(key, []).append(figure)
    return [
        PublishedRow(
            *key,
            {figure.metric: figure.number for figure in figures},
            _joined(note for figure in figures for note in figure.notes.split("; ")),
            _joined(figure.copied_from for figure in figures),
        )
        for key, figures in rows.items()
    ]


def _joined(remarks: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(remark for remark in remarks if remark))


def _figures(root: Path, kind: str, data: str | None, row_type: type[F]) -> Iterator[F]:
    folder = root / FOLDER
    if not folder.is_dir():
        raise UserError(
            f"{root} has no published numbers (no folder '{FOLDER}'). The suite's own: --leaderboards leaderboards"
        )
    ending = f"_{kind}.csv" if data is None else f"{data}_{kind}.csv"
    name = "efficiency.csv" if kind == "efficiency" else None if data is None else ending
    for path in sorted(folder.glob("*.csv")):
        if path.name == name or (name is None and path.name.endswith(ending)):
            yield from _read(path, kind, row_type)


def _read(path: Path, kind: str, row_type: type[F]) -> Iterator[F]:
    """The lines of one file. Strict: a line that is not understood is an error, never left out."""
    columns = _COLUMNS[kind]
    known = {column.name for column in dataclasses.fields(row_type)}
    seen: dict[tuple[str, ...], int] = {}
    found = records(io.StringIO(read_text(path), newline=""), str(path))
    _, header = next(found, (1, []))
    if tuple(header) != columns:
        raise _error(path, 1, _header_message(header, columns))
    for line, cells in found:
        if len(cells) != len(columns):
            raise _error(path, line, f"{len(cells)} cells, but there are {len(columns)} columns")
        entry = dict(zip(columns, cells, strict=True))
        _check(path, line, kind, entry)
        identity = tuple(cell for name, cell in entry.items() if name not in ("value", "copied_from", "notes"))
        if identity in seen:
            raise _error(path, line, f"the same number as in line {seen[identity]}. Remove one of them")
        seen[identity] = line
        # An ablation is about the paper's own method, which its table does not repeat.
        method = {} if "method" in entry else {"method": PAPERS[entry["paper"]]}
        yield row_type(**{name: cell for name, cell in (entry | method).items() if name in known})


def _check(path: Path, line: int, kind: str, entry: dict[str, str]) -> None:
    for name, cell in entry.items():
        if cell != cell.strip():
            raise _error(path, line, f"spaces around '{cell.strip()}' in column '{name}'")
        if not cell and name not in _MAY_BE_EMPTY:
            raise _error(path, line, f"column '{name}' is empty")
        allowed = list(_VOCABULARY[name]()) if name in _VOCABULARY else []
        if allowed and cell not in allowed:
            raise _error(path, line, f"unknown {name} '{cell}'. Known: {', '.join(allowed)}")
    value = entry["value"]
    if not _NUMBER.fullmatch(value) or not math.isfinite(float(value)):
        raise _error(path, line, f"value '{value}' is not a plain number such as 66.40")
    if "metric" in entry and float(value) > 100:
        raise _error(path, line, f"value {value} is more than 100 percent")
    data = entry.get("data")
    if data is not None and path.name != f"{data}_{kind}.csv":
        raise _error(path, line, f"a number of '{data}' belongs in {data}_{kind}.csv")
    copied = entry.get("copied_from")
    if copied and not COPIED.fullmatch(copied):
        raise _error(
            path,
            line,
            f"copied_from '{copied}' is neither 'stated: <papers>' nor 'equal: <paper> Table <n>' (or README)",
        )


def _header_message(header: list[str], columns: tuple[str, ...]) -> str:
    strange = [name for name in header if name not in columns]
    absent = [name for name in columns if name not in header]
    parts = [f"unknown column '{name}'" for name in strange] + [f"no column '{name}'" for name in absent]
    return f"{', '.join(parts) or 'columns in another order'}. The header is: {','.join(columns)}"


def _error(path: Path, line: int, message: str) -> UserError:
    return UserError(f"{path}, line {line}: {message}")
