"""Predicted masks as files: read those of other systems to score them, write those of ``predictions=save``.

Two forms:

- a file of JSON Lines (UTF-8), one prediction per line, in any order::

      {"sample_id": "00012", "rle": {"size": [800, 800], "counts": "..."}}

  ``size`` is height, width; ``counts`` is COCO's compressed string, or the plain list of run lengths (background first,
  column-major order);
- a folder of PNG masks of one channel, with the levels 0 and 255 or 0 and 1, named ``<sample id>.png``. Every character
  of the id other than letters, digits, ``_``, ``.``, ``-`` and ``~`` is percent-encoded as in a URL: sample ``a/b`` is
  ``a%2Fb.png``.

There must be exactly one mask per sample of the split, at the native size of the sample's own mask.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

import numpy as np

from rrsis_bench.codec import parse_json
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.mask_files import read_mask
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import Array, CountsTable, SampleCounts, count_spans
from rrsis_bench.files import replacing
from rrsis_bench.interfaces import ReferringDataset, Sample

Size = tuple[int, int]  # height, width

_SHOWN = 10  # ids or defects that a message lists of each kind


@dataclass(frozen=True, slots=True)
class Entry:
    """One prediction: a line, or a file of the folder.

    Attributes:
        where: how a message names it.
        sample_id: the predicted sample; None if it cannot be read.
        problem: why the entry cannot be used; then `read` is None.
        read: (H, W) of the sample's own mask -> the predicted mask.
    """

    where: str
    sample_id: str | None
    problem: str = ""
    read: Callable[[Size], masks.Spans] | None = None

    def mask(self, size: Size) -> masks.Spans:
        """Return the predicted mask of a sample with masks of `size`; ValueError says why there is none."""
        if self.read is None:
            raise ValueError(self.problem)
        return self.read(size)


def file_name(sample_id: str) -> str:
    """Return the name of a sample's PNG in a folder of predictions."""
    return f"{quote(sample_id, safe='')}.png"


def count_predictions(
    source: Path, dataset: ReferringDataset, on_entry: Callable[[], None] = lambda: None
) -> tuple[CountsTable, str]:
    """Check the predictions at `source` against a split, and count them at native size.

    Args:
        source: a JSON Lines file or a folder of PNG masks.
        dataset: the split.
        on_entry: called after every prediction, for progress.

    Returns:
        The integers in the order of the split, and a sha256 (hex) over ids and masks: the same for the
        same masks in any form and order.

    Raises:
        UserError: `source` cannot be read or does not fit the split. The message names every problem.
    """
    samples = {sample.sample_id: sample for sample in (dataset[index] for index in range(len(dataset)))}
    places: dict[str, str] = {}
    rows: dict[str, SampleCounts] = {}
    digests: dict[str, str] = {}
    problems = _Problems()
    for entry in _entries(source):
        sample_id = entry.sample_id
        if sample_id is None:
            problems.unusable.add(f"{entry.where}: {entry.problem}")
        elif sample_id not in samples:
            problems.extra.add(f"{sample_id!r} ({entry.where})")
        elif sample_id in places:
            problems.twice.add(f"{sample_id!r} ({places[sample_id]} and {entry.where})")
        else:
            places[sample_id] = entry.where
            sample = samples[sample_id]
            size, target = _target(sample)
            try:
                pred = entry.mask(size)
            except ValueError as error:
                problems.unusable.add(f"{sample_id!r} ({entry.where}): {error}")
            else:
                rows[sample_id] = count_spans(sample, size, pred, target)
                digests[sample_id] = _digest(sample_id, size, pred)
        on_entry()
    for sample_id in samples:
        if sample_id not in places:
            problems.missing.add(repr(sample_id))
    problems.raise_if_any(source, dataset, empty=not places)
    total = hashlib.sha256(b"predictions 1\n")
    for sample_id in sorted(digests):
        total.update(digests[sample_id].encode() + b"\n")
    return CountsTable([rows[sample_id] for sample_id in samples]), total.hexdigest()


def _target(sample: Sample) -> tuple[Size, masks.Spans]:
    """Native (H, W) and the target mask, not decoded if the dataset stores run lengths."""
    if sample.read_rle is not None:
        rle = sample.read_rle()
        return (rle["size"][0], rle["size"][1]), masks.spans_of_runs(masks.check_rle(rle))
    mask_HW = sample.read_mask()
    return (mask_HW.shape[0], mask_HW.shape[1]), masks.spans_of_mask(mask_HW)


def _digest(sample_id: str, size: Size, mask: masks.Spans) -> str:
    head = json.dumps([sample_id, *size]).encode()
    return hashlib.sha256(head + np.stack([mask.start_R, mask.stop_R]).astype("<i8").tobytes()).hexdigest()


@dataclass
class _Listing:
    """Count items and keep the first few."""

    n: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, item: str) -> None:
        self.n += 1
        if self.n <= _SHOWN:
            self.first.append(item)

    def text(self, separator: str) -> str:
        more = self.n - len(self.first)
        return separator.join([*self.first, f"and {more:,} more"] if more else self.first)


@dataclass
class _Problems:
    """Collect the reasons why predictions cannot be scored."""

    missing: _Listing = field(default_factory=_Listing)
    extra: _Listing = field(default_factory=_Listing)
    twice: _Listing = field(default_factory=_Listing)
    unusable: _Listing = field(default_factory=_Listing)

    def raise_if_any(self, source: Path, dataset: ReferringDataset, *, empty: bool) -> None:
        lines = []
        if self.missing.n:
            lines.append(f"missing ({self.missing.n:,} samples without a prediction): {self.missing.text(', ')}")
        if self.extra.n:
            lines.append(f"extra ({self.extra.n:,} predictions for no sample of the split): {self.extra.text(', ')}")
        if self.twice.n:
            lines.append(f"doubled ({self.twice.n:,} further predictions of a sample): {self.twice.text(', ')}")
        if self.unusable.n:
            lines.append(f"unusable ({self.unusable.n:,} predictions):\n    {self.unusable.text(f'{chr(10)}    ')}")
        if not lines:
            return
        holds = "holds no prediction of" if empty else "does not fit"
        raise UserError(
            f"{source} {holds} split '{dataset.split}' of {dataset.name} ({len(dataset):,} samples):\n  "
            + "\n  ".join(lines)
            + "\nThere must be exactly one mask per sample, at the sample's native size. Nothing was scored."
        )


def _entries(source: Path) -> Iterator[Entry]:
    try:
        if source.is_dir():
            for path in sorted(source.iterdir()):
                yield _of_file(path)
        else:
            with source.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    yield _of_line(f"line {number}", line)
    except OSError as error:
        raise UserError(f"The predictions {source} cannot be read: {error.strerror or error}.") from None


def _of_line(where: str, line: bytes) -> Entry:
    try:
        found = parse_json(line)
    except ValueError as error:  # not UTF-8, not JSON, or nested too deeply
        return Entry(where, None, f"not JSON ({error})" if line.strip() else "an empty line")
    if not isinstance(found, dict):
        return Entry(where, None, f"expected an object with 'sample_id' and 'rle', found {type(found).__name__}")
    sample_id = found.get("sample_id")
    if found.keys() != {"sample_id", "rle"}:
        fields = ", ".join(map(repr, found)) or "none"
        problem = f"expected the fields 'sample_id' and 'rle' and no others, found {fields}"
        return Entry(where, sample_id if isinstance(sample_id, str) else None, problem)
    if not isinstance(sample_id, str):
        return Entry(where, None, f"sample_id is {json.dumps(sample_id)[:40]}, expected a string")
    return Entry(where, sample_id, read=partial(_read_rle, found["rle"]))


def _of_file(path: Path) -> Entry:
    where = repr(path.name)  # escapes what cannot be printed
    stem, suffix = path.name[:-4], path.name[-4:]  # pathlib and os.path do not agree on names such as '...png'
    if suffix.lower() != ".png" or not path.is_file():
        return Entry(where, None, "not a PNG file: the folder may hold nothing else")
    try:
        sample_id = unquote(stem, errors="strict")
    except UnicodeDecodeError:
        return Entry(where, None, "the name is not a percent-encoded sample id")
    return Entry(where, sample_id, read=partial(_read_png, path))


def _read_rle(rle: object, size: Size) -> masks.Spans:
    if not isinstance(rle, dict):
        raise ValueError(f"rle is {type(rle).__name__}, expected an object with 'size' and 'counts'")
    return masks.spans_of_runs(masks.check_rle(masks.parse(rle, size)))


def _read_png(path: Path, size: Size) -> masks.Spans:
    try:
        mask_HW = read_mask(path)
    except UserError as error:
        raise ValueError(str(error)) from None
    if mask_HW.shape != size:
        height, width = mask_HW.shape
        raise ValueError(f"its mask is {height} x {width}, expected {size[0]} x {size[1]} (height x width)")
    return masks.spans_of_mask(mask_HW)


class PredictionWriter:
    """Write predicted masks to a JSON Lines file one by one; a context manager.

    The file replaces an older one when the block ends without an error.
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Self:
        with self._disk(), contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self._stack = stack.pop_all()
        return self

    def add(self, sample: Sample, mask_HW: Array) -> None:
        """Append the bool (H, W) mask predicted for a sample."""
        rle = masks.encode(mask_HW)
        line: dict[str, Any] = {"sample_id": sample.sample_id, "rle": {**rle, "counts": rle["counts"].decode("ascii")}}
        with self._disk():
            self._file.write(json.dumps(line) + "\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._disk():
            self._stack.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.path} could not be written: {error.strerror or error}.") from error
