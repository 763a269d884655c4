"""Checks of what a record says about itself: its names, its commit, its costs, and that no result is there twice."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from rrsis_bench import codec
from rrsis_bench.config.hashes import scored_id
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.files import sha256_bytes
from rrsis_bench.results.record.schema import Record

COUNTS = ".csv.gz"
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")  # SHA-1 or SHA-256


def counts_name(run_id: str, sha256: str) -> str:
    """Return the name of a counts file. It contains its content's hash, so that two records never share a file."""
    return f"{run_id}-{sha256[:12]}{COUNTS}"


def strata_name(split: str, fingerprint: str | None, sha256: str) -> str:
    """Return the name of the file with the strata of a dataset's split; ``*`` for any content."""
    return f"strata-{split}-{(fingerprint or 'unknown')[:12]}-{sha256[:12]}{COUNTS}"


def attestation(records: Iterable[Record]) -> str:
    """Return one sha256 (hex) over records and their integers; the order of the records does not matter."""
    found = sorted(
        sha256_bytes(f"{codec.compact(record)}{record.counts.sha256 if record.counts else ''}".encode())
        for record in records
    )
    return found[0] if len(found) == 1 else sha256_bytes("\n".join(found).encode())


def identity_problems(record: Record) -> list[str]:
    """Return one line per contradiction between a record's fields; needs no other file."""
    return [*_names(record), *_origin(record), *_settings(record), *_ranges(record)]


def area_problems(record: Record, table: CountsTable) -> list[str]:
    """Return a line if targets were not compared at their own size, although the protocol says so."""
    if record.protocol.resolution != "native":
        return []
    wrong = [row.sample_id for row in table if row.target_area != row.native_area]
    some = ", ".join(wrong[:3])
    return [f"{len(wrong)} samples have another target area than at native size ({some})"] if wrong else []


def duplicates(records: Iterable[Record]) -> dict[str, str]:
    """Return run id -> why a record repeats an earlier one of the same data, split and protocol.

    Equal weights, equal masks or equal integers are one result, whatever their names are.
    """
    first: dict[tuple[Any, ...], Record] = {}
    found: dict[str, str] = {}
    for record in sorted(records, key=lambda record: (record.started_utc, record.run_id)):
        where = (record.data, record.dataset_fingerprint, record.split, record.protocol, record.metric_version)
        same = {
            "weights": record.weights_sha256, "masks": record.predictions_sha256,
            "integers": record.counts.sha256 if record.counts else None,
        }  # fmt: skip
        keys = [(*where, record.n, kind, value) for kind, value in same.items() if value]
        for key in keys:
            if key in first:
                found.setdefault(record.run_id, f"same {key[-2]} as {first[key].run_id}")
        for key in keys:
            first.setdefault(key, record)
    return found


def _names(record: Record) -> list[str]:
    start = f"{record.model}-{record.data}-{record.size}-"
    if record.seed is not None:
        expected = f"{start}s{record.seed}-{record.train_hash[:8]}"
        # behind it: another scoring, a split other than test, another machine
        fits = re.fullmatch(rf"{re.escape(expected)}(-[A-Za-z0-9]+){{0,3}}", record.run_id) is not None
    else:
        expected = f"{start}[{record.protocol.name}-]{record.eval_hash[:8]}"
        ends = {"", scored_id("", record.split)}
        names = {
            f"{start}{middle}{record.eval_hash[:8]}{end}" for middle in ("", f"{record.protocol.name}-") for end in ends
        }
        fits = record.run_id in names or record.rescored_from is not None
    broken = [] if fits else [f"run_id is {record.run_id}, but its fields give {expected}"]
    counts = record.counts
    if counts is not None and counts.file != counts_name(record.run_id, counts.sha256):
        broken.append(
            f"counts.file is {counts.file}, its run and content give {counts_name(record.run_id, counts.sha256)}"
        )
    return broken


def _origin(record: Record) -> list[str]:
    broken = []
    states = {"git_sha": (record.git_sha, record.git_dirty)}
    states |= {f"attempts[{i}].git_sha": (entry.git_sha, entry.git_dirty) for i, entry in enumerate(record.attempts)}
    for name, (sha, dirty) in states.items():
        if dirty is False and not (sha and _COMMIT.fullmatch(sha)):
            broken.append(f"{name} is {sha}, but a clean tree has a commit of 40 hexadecimal digits")
    if record.git_dirty is False and any(attempt.git_dirty is not False for attempt in record.attempts):
        broken.append("git_dirty is false, but an attempt of the training was dirty or unknown")
    return broken


def _settings(record: Record) -> list[str]:
    limit = record.limit or {}
    expected = {
        "model.name": record.model, "data.name": record.data, "train.epochs": record.epochs,
        **{f"limit.{split}": limit.get(split) for split in ("train", "val", "test")},
        **{f"protocol.{name}": value for name, value in record.protocol.as_dict().items()},
    }  # fmt: skip
    if record.seed is None or record.rescored_from is not None:
        return []
    return [
        f"settings say {name}={record.settings[name]}, the record says {value}"
        for name, value in expected.items()
        if name in record.settings and record.settings[name] != value
        and not (name.startswith("limit.") and record.settings[name] is None)  # an incomplete copy limits a split too
        and not (name.startswith("limit.") and value is None and _above(record, name[6:], record.settings[name]))
    ]  # fmt: skip


def _above(record: Record, split: str, limit: int) -> bool:
    """Return whether a split has no more samples than `limit`, so that all of them were used."""
    samples = {} if record.dataset_card is None else record.dataset_card.samples
    found = record.n_expected if split == record.split else samples.get(split)
    return found is not None and found <= limit


def _ranges(record: Record) -> list[str]:
    broken = [
        f"control.{name}.{metric} = {score.value} is not a percentage"
        for name, control in record.control.items()
        for metric, score in control.scores.items()
        if score.value is not None and not 0 <= score.value <= 100
    ]
    broken += [
        f"control.{name}.n = {found.n} of {record.n} samples"
        for name, found in record.control.items()
        if not 0 <= found.n <= record.n
    ]
    for name, probe in (record.probes or {}).items():
        groups = [probe.scores, *(group.scores for group in probe.groups.values())]
        broken += [
            f"probes.{name}.{figure} = {score.value} is not a percentage"
            for scores in groups
            for figure, score in scores.items()
            if score.value is not None and not 0 <= score.value <= 100
        ]
        numbers = {"n": probe.n, "predictions": probe.predictions, **probe.refused}
        numbers |= {f"groups.{group}.n": found.n for group, found in probe.groups.items()}
        broken += [f"probes.{name}.{key} = {value} is negative" for key, value in numbers.items() if value < 0]
    cost = record.efficiency
    amounts = {
        name: getattr(cost, name)
        for name in (
            "params_total",
            "gflops",
            "gflops_batch",
            "latency_ms",
            "latency_amp_ms",
            "fps",
            "batch",
            "peak_mem_gb",
        )
    }
    broken += [
        f"efficiency.{name} = {value} is not a positive number"
        for name, value in amounts.items()
        if value is not None and not (math.isfinite(value) and value > 0)
    ]
    trained, total = cost.params_trainable, cost.params_total
    if trained is not None and total is not None and not 0 <= trained <= total:
        broken.append(f"efficiency.params_trainable = {trained} of {total} parameters")
    if record.wall_s is not None and record.wall_s < 0:
        broken.append(f"wall_s = {record.wall_s} is negative")
    overlap = record.train_overlap or {}
    broken += [f"train_overlap.{split} = {n} is negative" for split, n in overlap.items() if n < 0]
    return broken
