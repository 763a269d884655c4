"""Compare two counts files sample by sample: did a change of the code, or another machine, move a single pixel?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import CountsTable, SampleCounts

SUFFIX = ".csv.gz"


@dataclass(frozen=True, slots=True)
class ChangedSample:
    """A sample whose integers differ; `old` or `new` is None if that file lacks the sample."""

    sample_id: str
    old: SampleCounts | None
    new: SampleCounts | None


@dataclass(frozen=True, slots=True)
class IntegerComparison:
    """Two counts files.

    Attributes:
        old: the first file or run folder, as given.
        new: the second one.
        n: samples in either file.
        same_bytes: whether the decompressed files are equal, including the order of their rows.
        changed: the samples whose integers or labels differ, in the order of the first file.
    """

    old: Path
    new: Path
    n: int
    same_bytes: bool
    changed: tuple[ChangedSample, ...]


def is_counts(name: str) -> bool:
    """Return whether `name` is a counts file, or the folder of a run."""
    return name.endswith(SUFFIX) or (Path(name) / "record").is_dir()


def compare_integers(old: Path, new: Path) -> IntegerComparison:
    """Compare the integers of two counts files, or of the records of two run folders.

    Raises:
        UserError: a run folder without exactly one counts file, or a file that cannot be read.
    """
    tables = [_read(_counts_file(path)) for path in (old, new)]
    before, after = ({row.sample_id: row for row in table} for table in tables)
    changed = tuple(
        ChangedSample(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    )
    same_bytes = tables[0].to_csv_gz() == tables[1].to_csv_gz()
    return IntegerComparison(old, new, len(before.keys() | after.keys()), same_bytes, changed)


def _counts_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted((path / "record").glob(f"records/*/*/*{SUFFIX}"))  # the strata of the split lie above
    if len(found) == 1:
        return found[0]
    problem = "has no counts file: it was not scored" if not found else f"has {len(found)} counts files"
    raise UserError(f"{path} {problem}. Name a finished run folder, or a {SUFFIX} file of its record.")


def _read(file: Path) -> CountsTable:
    try:
        return CountsTable.from_csv_gz(file.read_bytes(), str(file))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
