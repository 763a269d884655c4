"""Records on disk: one immutable JSON file per run, with the integers of its samples beside it.

``<root>/records/<data>/<model>/<run_id>.json`` and ``<run_id>-<first 12 characters of its sha256>.csv.gz``. The JSON is
written last and names the other file, so that the moment of its renaming replaces a record as a whole.

``<root>/records/<data>/strata-<split>-<12 characters of the dataset's fingerprint>-<12 of its sha256>.csv.gz`` has the
strata of a split's samples. Records that name none, because they are older, are read with the file of their split.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from rrsis_bench import codec
from rrsis_bench.config.protocol import METRIC_VERSION, Protocol
from rrsis_bench.errors import UserError
from rrsis_bench.eval.bootstrap import RESAMPLES
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.membership import Membership
from rrsis_bench.eval.metrics import compute_metrics, score_strata
from rrsis_bench.eval.scores import ScoreSet
from rrsis_bench.files import locked, sha256_bytes, write_files
from rrsis_bench.results.record.identity import counts_name, duplicates, strata_name
from rrsis_bench.results.record.invariants import check_against_counts, check_invariants
from rrsis_bench.results.record.schema import SCHEMA_VERSION, CountsFile, Record, StrataFile

RECORDS = "records"
T = TypeVar("T")
Strata = dict[str, dict[str, ScoreSet]]
"""Stratum -> class -> scores."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def record_path(root: Path, data: str, model: str, run_id: str) -> Path:
    """Return the path of a run's record; UserError if a name is not a plain file name."""
    for kind, name in (("data", data), ("model", model), ("run_id", run_id)):
        if not _NAME.fullmatch(name):
            raise UserError(f"The {kind} '{name}' cannot name a file: use letters, digits, '.', '_', '+' and '-'.")
    return root / RECORDS / data / model / f"{run_id}.json"


def find(root: Path, run_id: str) -> Path | None:
    """Return the path of a run id's record below `root`, of any dataset and model; None if there is none."""
    return next(iter(sorted((root / RECORDS).glob(f"*/*/{run_id}.json"))), None) if _NAME.fullmatch(run_id) else None


def write(root: Path, record: Record, table: CountsTable | None, *, force: bool = False) -> Path:
    """Store a record and its integers, and return the JSON's path.

    Args:
        root: the leaderboards folder.
        record: its ``counts`` section is filled in here.
        table: the integers; None for a run that scored nothing.
        force: replace a different record under the same run id.

    Raises:
        UserError: the record contradicts itself or its integers, another one has the same run id, or a write
            failed. Existing files are then intact.
    """
    path = record_path(root, record.data, record.model, record.run_id)
    files: dict[Path, bytes] = {}
    counts = None
    if table is not None:
        packed = table.to_csv_gz()
        sha256 = sha256_bytes(packed)
        counts = CountsFile(counts_name(record.run_id, sha256), sha256, len(table))
        files[path.with_name(counts.file)] = packed
    strata = None
    if table is not None and table.membership is not None and record.per_stratum is not None:
        packed = table.membership.to_csv_gz()
        name = strata_name(record.split, record.dataset_fingerprint, sha256_bytes(packed))
        strata = StrataFile(name, sha256_bytes(packed))
        if not (path.parent.parent / name).is_file():
            files[path.parent.parent / name] = packed
    record = dataclasses.replace(record, counts=counts, strata=strata)
    check_invariants(record)
    if table is not None:
        check_against_counts(record, table)
    text = codec.dumps(record)
    with locked(path.parent):
        if path.exists() and not force:
            if path.read_text(encoding="utf-8") == text:
                return path
            raise UserError(
                f"{path} holds another record of this run. Records are immutable: use force=true to replace it, "
                "or another seed for another run."
            )
        replaced = _stored_counts(path)
        write_files({**files, path: text.encode("utf-8")})
        if replaced is not None and replaced != counts:
            path.with_name(replaced.file).unlink(missing_ok=True)
    return path


def read(path: Path) -> Record:
    """Read one record; check its path, its invariants and the sha256 of its counts file.

    Raises:
        UserError: any of these checks fails; the message names the file.
    """
    return _settled(path, _read)


def _settled(path: Path, load: Callable[[Path], T]) -> T:
    """Load from a record's files; again if the record was replaced meanwhile, which removes its counts file."""
    while True:
        before = _stamp(path)
        try:
            return load(path)
        except UserError:
            if _stamp(path) in (before, None):
                raise


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> Record:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"The record {path} cannot be read: {error}.") from error
    record = _parse(path, text)
    if record.counts is not None:
        _counts_bytes(path, record.counts)
    return record


@lru_cache(maxsize=4096)  # tables are written after every run, from records that have not changed
def _parse(path: Path, text: str) -> Record:
    try:
        data = codec.parse_json(text)
    except ValueError as error:
        raise UserError(f"The record {path} cannot be read: {error}.") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"The record {path} has schema version {version}; this suite reads version {SCHEMA_VERSION}. "
            "Evaluate the run again."
        )
    record = codec.decode(Record, data, f"The record {path}")
    if (record.data, record.model, record.run_id) != (path.parent.parent.name, path.parent.name, path.stem):
        raise UserError(
            f"{path} holds the record {record.data}/{record.model}/{record.run_id}. Its place is "
            f"{RECORDS}/<data>/<model>/<run_id>.json: move it, or delete it."
        )
    check_invariants(record)
    return record


def read_counts(path: Path) -> CountsTable:
    """Read the integers of the record at `path` and check their sha256."""
    return _settled(path, _read_counts)


def _read_counts(path: Path) -> CountsTable:
    record = _read(path)
    if record.counts is None:
        raise UserError(f"{path} has no counts file: the run ended as '{record.status}' before it was scored.")
    table = CountsTable.from_csv_gz(_counts_bytes(path, record.counts), str(path.with_name(record.counts.file)))
    file = _strata_file(path, record)
    table.membership = None if file is None else _read_membership(file)
    return table


def strata_of(root: Path, record: Record) -> Strata | None:
    """Return a record's scores by stratum; those of an older record are computed from its integers.

    None if nothing was scored, or if the strata of its dataset are unknown.
    """
    if record.per_stratum is not None or record.counts is None:
        return record.per_stratum
    path = record_path(root, record.data, record.model, record.run_id)
    file = _strata_file(path, record)
    return (
        None
        if file is None or not path.is_file()
        else _computed_strata(path, record.counts.sha256, record.protocol, file)
    )


@lru_cache(maxsize=1024)
def _computed_strata(path: Path, sha256: str, protocol: Protocol, strata: Path) -> Strata | None:  # noqa: ARG001 - the key
    return score_strata(read_counts(path), protocol)


def write_membership(root: Path, data: str, split: str, fingerprint: str, membership: Membership) -> Path:
    """Store the strata of a split for records that name none, and return the path; UserError if a write failed."""
    packed = membership.to_csv_gz()
    path = record_path(root, data, "any", "any").parent.parent / strata_name(split, fingerprint, sha256_bytes(packed))
    if not path.is_file():
        write_files({path: packed})
    return path


def _strata_file(path: Path, record: Record) -> Path | None:
    """Return the file with the strata that belong to a record; None if there is none."""
    folder = path.parent.parent
    if record.strata is not None:
        return folder / record.strata.file
    if record.dataset_fingerprint is None:
        return None
    found = sorted(folder.glob(strata_name(record.split, record.dataset_fingerprint, "*")))
    return max(found, key=lambda file: len(_read_membership(file).strata), default=None)


def _read_membership(file: Path) -> Membership:
    """Read a strata file, whose name has its content's hash; it is kept for the process until the file changes."""
    return _load_membership(file, _stamp(file))


@lru_cache(maxsize=64)
def _load_membership(file: Path, _: tuple[int, int, int] | None) -> Membership:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"The strata {file} cannot be read: {error.strerror}. Restore the file.") from error
    if f"-{sha256_bytes(data)[:12]}." not in file.name:
        raise UserError(f"The strata {file} do not match the sha256 in their name. Restore the file.")
    return Membership.from_csv_gz(data, str(file))


def read_all(root: Path) -> list[Record]:
    """Read every record below `root`, in the order of their paths; UserError for the first invalid one."""
    found = []
    for path in sorted((root / RECORDS).glob("*/*/*.json")):
        try:
            found.append(read(path))
        except UserError:
            if path.exists():  # otherwise it was deleted after the listing
                raise
    return found


def listing(root: Path) -> dict[Path, tuple[int, int, int] | None]:
    """Return every record's path with a stamp that changes when the record is replaced."""
    return {path: _stamp(path) for path in sorted((root / RECORDS).glob("*/*/*.json"))}


def audit(root: Path) -> int:
    """Compute every record below `root` again from its integers; return the number of records.

    Raises:
        UserError: a record is invalid, its scores do not follow from its integers, or two records are one result.
    """
    paths = sorted((root / RECORDS).glob("*/*/*.json"))
    records = [read(path) for path in paths]
    for path, record in zip(paths, records, strict=True):
        if record.counts is not None:
            check_against_counts(record, read_counts(path))
    repeated = duplicates(records)
    if repeated:
        lines = "\n  ".join(f"{run_id}: {why}" for run_id, why in repeated.items())
        raise UserError(f"{root / RECORDS} has results twice:\n  {lines}\nDelete one of each pair.")
    return len(paths)


def rescore(
    record: Record, table: CountsTable, protocol: Protocol | None = None, *, resamples: int = RESAMPLES
) -> Record:
    """Score a record again from its integers, without the model.

    Args:
        record: the record; its language controls, probes and costs are kept.
        table: its integers.
        protocol: other rules; None keeps the record's. Controls and probes are dropped if the rules change, since
            their integers are not stored.
        resamples: bootstrap replicates.

    Raises:
        UserError: `protocol` compares masks at another size than the integers were counted at.
    """
    new = protocol or record.protocol
    old = record.protocol
    if (new.resolution, new.align_corners) != (old.resolution, old.align_corners):
        raise UserError(
            f"The integers of {record.run_id} were counted under '{old.name}' (resolution={old.resolution}, "
            f"align_corners={old.align_corners}); '{new.name}' needs other masks. Evaluate the checkpoint again."
        )
    result = compute_metrics(table, new, resamples=resamples)
    same_rules = new.scoring_id == old.scoring_id and record.metric_version == METRIC_VERSION
    derived_hash = sha256_bytes(f"{record.eval_hash} {new.scoring_id} {METRIC_VERSION}".encode())
    return dataclasses.replace(
        record,
        protocol=new,
        metric_version=METRIC_VERSION,
        eval_hash=record.eval_hash if same_rules else derived_hash,
        n=len(table),
        overall=result.overall,
        per_category=result.per_category,
        per_size=result.per_size,
        per_language=result.per_language,
        per_target=result.per_target,
        per_stratum=result.per_stratum,
        control=record.control if same_rules else {},
        probes=record.probes if same_rules else None,
        rescored_from=record.rescored_from or record.metric_version,
    )


def _stored_counts(path: Path) -> CountsFile | None:
    """Return what the record at `path` says about its counts file; None if there is none, or it cannot be read."""
    try:
        found = codec.parse_json(path.read_text(encoding="utf-8"))["counts"]
        return codec.decode(CountsFile, found, str(path))
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def _counts_bytes(path: Path, counts: CountsFile) -> bytes:
    file = path.with_name(counts.file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}, which belongs to {path.name}, cannot be read: {error.strerror}.") from error
    if sha256_bytes(data) != counts.sha256:
        raise UserError(f"{file} does not match the sha256 in {path.name}. Restore both files, or evaluate again.")
    return data
