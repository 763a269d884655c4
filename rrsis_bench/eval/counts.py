"""Integers per sample, the source of every number in every table.

A `CountsTable` travels as ``<run_id>.csv.gz`` beside the run's record, so that any row can be scored again later,
under another rule or a corrected metric, without the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rrsis_bench.data.pixels.rle import Spans, overlap
from rrsis_bench.errors import UserError
from rrsis_bench.eval import packed
from rrsis_bench.eval.membership import Membership

if TYPE_CHECKING:
    from rrsis_bench.interfaces import Sample


Array = npt.NDArray[Any]
"""An array of any dtype; its shape is in the name's suffix, such as ``iou_N``."""


class Counts(NamedTuple):
    """Pixels of one prediction against its target."""

    intersection: int
    union: int
    pred_area: int
    target_area: int


def count(pred_HW: Array, target_HW: Array) -> Counts:
    """Count pixels of two bool (H, W) masks of the same size.

    Raises:
        ValueError: masks that are not bool or differ in shape; a bug of the caller, not of the user.
    """
    for name, mask_HW in (("prediction", pred_HW), ("target", target_HW)):
        if mask_HW.dtype != np.bool_ or mask_HW.ndim != 2:
            raise ValueError(f"The {name} must be a bool (H, W) array, not {mask_HW.dtype} {mask_HW.shape}.")
    if pred_HW.shape != target_HW.shape:
        raise ValueError(f"Prediction {pred_HW.shape} and target {target_HW.shape} differ in size.")
    intersection = int(np.count_nonzero(pred_HW & target_HW))
    pred_area, target_area = int(np.count_nonzero(pred_HW)), int(np.count_nonzero(target_HW))
    return Counts(intersection, pred_area + target_area - intersection, pred_area, target_area)


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """One row of the table; the fields are the columns of ``<run_id>.csv.gz``.

    Attributes:
        sample_id: unique within the dataset.
        image_id: equal for samples that show the same image; the bootstrap resamples these.
        category: None if the dataset has none, or none was matched.
        language: of the expression.
        n_targets: objects that the expression denotes, None if unknown.
        height: of the target mask at native size.
        width: of the target mask at native size.
        native_area: target pixels at native size; decides the size class under every protocol.
        intersection: at the size that the protocol scores.
        union: at the size that the protocol scores.
        pred_area: at the size that the protocol scores.
        target_area: at the size that the protocol scores; equal to `native_area` at native size.
    """

    sample_id: str
    image_id: str
    category: str | None
    language: str
    n_targets: int | None
    height: int
    width: int
    native_area: int
    intersection: int
    union: int
    pred_area: int
    target_area: int

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise UserError(f"The counts of sample '{self.sample_id}' contradict themselves: {problem}.")

    def _problem(self) -> str | None:
        areas = (self.intersection, self.union, self.pred_area, self.target_area, self.native_area)
        if min(*areas, self.height, self.width) < 0:
            return "a negative number"
        if self.pred_area + self.target_area - self.intersection != self.union:
            return "predicted area + target area - intersection is not the union"
        if self.intersection > min(self.pred_area, self.target_area):
            return "the intersection exceeds an area"
        if self.native_area > self.height * self.width:
            return "the native area exceeds height x width"
        return None

    @classmethod
    def of(cls, sample: Sample, native: tuple[int, int, int], counts: Counts) -> SampleCounts:
        """Label integers with a sample's ids, category and language.

        Args:
            sample: the sample that was predicted.
            native: height, width and foreground pixels of the target at native size.
            counts: pixels at the size that the protocol scores.
        """
        return cls(
            sample.sample_id, sample.image_id, sample.category, sample.language, sample.n_targets, *native, *counts
        )


COLUMNS = tuple(entry.name for entry in fields(SampleCounts))
_VALUES = attrgetter(*COLUMNS)
_OPTIONAL_TEXT = frozenset({"category"})
_OPTIONAL_INT = frozenset({"n_targets"})
_TEXT = frozenset({"sample_id", "image_id", "language"})


def count_pixels(sample: Sample, pred_HW: Array, target_HW: Array, native_HW: Array | None = None) -> SampleCounts:
    """Turn one prediction into a row of integers.

    Args:
        sample: its ids, category and language label the row.
        pred_HW: bool, at the size that the protocol scores.
        target_HW: bool, at the same size.
        native_HW: bool, the target at native size; None if `target_HW` is the native one.
    """
    whole_HW = target_HW if native_HW is None else native_HW
    native = (int(whole_HW.shape[0]), int(whole_HW.shape[1]), int(np.count_nonzero(whole_HW)))
    return SampleCounts.of(sample, native, count(pred_HW, target_HW))


def count_spans(sample: Sample, size: tuple[int, int], pred: Spans, target: Spans) -> SampleCounts:
    """Return the result of `count_pixels` for two masks of native `size` (H, W), from their spans."""
    intersection = overlap(pred, target)
    counts = Counts(intersection, pred.area + target.area - intersection, pred.area, target.area)
    return SampleCounts.of(sample, (*size, target.area), counts)


@dataclass
class CountsTable:
    """Rows of integers, each sample exactly once, in the order of the split.

    Attributes:
        rows: the integers.
        membership: the strata of the samples; None if unknown. It is stored in a file of its own.

    Raises:
        UserError: a sample id is there twice.
    """

    rows: list[SampleCounts] = field(default_factory=list)
    membership: Membership | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        twice = [sample_id for sample_id, times in Counter(row.sample_id for row in self.rows).items() if times > 1]
        if twice:
            raise UserError(f"Samples counted more than once: {_some(twice)}. Every sample counts exactly once.")
        self._seen = {row.sample_id for row in self.rows}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)

    def __iter__(self) -> Iterator[SampleCounts]:
        """The rows in order."""
        return iter(self.rows)

    def add(self, row: SampleCounts) -> None:
        """Append a row; UserError if the sample is there already."""
        if row.sample_id in self._seen:
            raise UserError(f"Sample '{row.sample_id}' was counted already. Every sample counts exactly once.")
        self._seen.add(row.sample_id)
        self.rows.append(row)
        self.__dict__.pop("arrays", None)

    def extend(self, rows: Iterable[SampleCounts]) -> None:
        """Append rows; UserError if a sample is there already."""
        for row in rows:
            self.add(row)

    def in_order(self, sample_ids: Sequence[str]) -> CountsTable:
        """Return the same rows in the order of `sample_ids`; UserError if a sample is missing or does not belong."""
        by_id = {row.sample_id: row for row in self.rows}
        missing = [sample_id for sample_id in sample_ids if sample_id not in by_id]
        surplus = sorted(by_id.keys() - set(sample_ids))
        if missing or surplus:
            parts = [f"{kind}: {_some(ids)}" for kind, ids in (("missing", missing), ("surplus", surplus)) if ids]
            raise UserError(f"The counts do not cover the split: {'; '.join(parts)}. Evaluate again.")
        return CountsTable([by_id[sample_id] for sample_id in sample_ids], self.membership)

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Integer columns as int64 (N,) arrays; ``n_targets`` is left out, since it may be unknown."""
        names = [name for name in COLUMNS if name not in _TEXT | _OPTIONAL_TEXT | _OPTIONAL_INT]
        return {name: np.array([getattr(row, name) for row in self.rows], dtype=np.int64) for name in names}

    def to_csv_gz(self) -> bytes:
        """Return the table as gzip-compressed CSV (UTF-8); the same rows give the same bytes."""
        return packed.pack([COLUMNS, *map(_VALUES, self.rows)])

    @classmethod
    def from_csv_gz(cls, data: bytes, where: str = "the counts file") -> CountsTable:
        """Read what `to_csv_gz` wrote.

        Args:
            data: the compressed bytes.
            where: how an error message names the file.

        Raises:
            UserError: a torn file, other columns, a value that is not an integer, a sample twice, or
                contradicting counts.
        """
        lines = packed.unpack(data, where)
        _, header = next(lines)
        if tuple(header) != COLUMNS:
            raise UserError(f"{where} has the columns {', '.join(header)}; expected: {', '.join(COLUMNS)}.")
        return cls([_row(where, line, cells) for line, cells in lines])


def _row(where: str, line: int, cells: list[str]) -> SampleCounts:
    if len(cells) != len(COLUMNS):
        raise UserError(f"{where}, line {line}: {len(cells)} values instead of {len(COLUMNS)}.")
    try:
        return SampleCounts(*map(_parse, COLUMNS, cells))
    except ValueError as error:
        raise UserError(f"{where}, line {line}: {error}.") from error


def _parse(name: str, value: str) -> Any:
    if name in _TEXT:
        return value
    if value == "" and name in _OPTIONAL_TEXT | _OPTIONAL_INT:
        return None
    return value if name in _OPTIONAL_TEXT else int(value)


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
