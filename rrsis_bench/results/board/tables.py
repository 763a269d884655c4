"""The CSV files of the leaderboards: columns and cells, as a pure function of the rows.

An empty cell means "not measured", never 0. Percentages have two decimals, as in papers; the records keep all digits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rrsis_bench.csv_files import write_csv
from rrsis_bench.eval.metrics import METRICS, PRECISIONS, grouped_metrics
from rrsis_bench.eval.scores import CONTROLS
from rrsis_bench.results.board.rows import BoardRow, cell
from rrsis_bench.results.record.identity import attestation
from rrsis_bench.results.record.schema import Record

EFFICIENCY = "efficiency.csv"
PROBES = "_probes"
"""End of the name of the table of the probes, which datasets without probes do not have."""
STRATA_TABLE = "_per_stratum"
"""End of the name of the table by stratum. A dataset whose strata are unknown has none."""
MACRO_ROW = "(macro mean)"
"""The row of ``<data>_per_category.csv`` that averages over the categories."""

_ROW = ("rank", "model", "variant", "size", "split", "protocol", "n_seeds")
_PROVENANCE = (  # a row is one train hash; if its seeds differ, these columns list all values
    "reason", "verified_by", "attestation",
    "notes", "data", "dataset_fingerprint", "n", "n_expected", "limit", "metric_version", "protocol_id",
    "selection_split", "selection_metric", "status", "epochs", "seeds", "run_ids", "train_hash", "eval_hash",
    "weights_sha256", "predictions_sha256", "init_weights", "model_source", "git_sha", "git_dirty", "package_version",
    "torch", "cuda", "device", "device_name", "world_size", "precision", "started_utc", "wall_s", "schema_version",
)  # fmt: skip
_RENAMED: dict[str, tuple[str, ...]] = {  # column -> field of the record
    "protocol_id": ("protocol", "scoring_id"), "seeds": ("seed",), "run_ids": ("run_id",),
    "package_version": ("versions", "rrsis_bench"), "torch": ("versions", "torch"), "cuda": ("versions", "cuda"),
}  # fmt: skip
_EFFICIENCY_COLUMNS = (
    "model", "variant", "size", "data", "params_total", "params_trainable", "gflops", "gflops_batch", "input_size",
    "latency_ms", "fps", "batch", "device", "precision", "peak_mem_gb", "wall_s", "n_runs", "train_hash",
)  # fmt: skip

_PROBE_COLUMNS = ("probe", "group", "n", "figure", "value", "std", "lo", "hi", "refused", "predictions")
_AMP = "latency_amp_ms"


def leaderboard_columns() -> tuple[str, ...]:
    """Return the columns of ``<data>.csv``."""
    scores = [f"{name}{end}" for name, metric in METRICS.items()
              for end in ("", "_std", *(() if metric.mean_of else ("_lo", "_hi")))]  # fmt: skip
    costs = ("params_m", "gflops", "fps", "peak_mem_gb")
    return (*_ROW, *scores, *(f"{control}_miou" for control in CONTROLS), *costs, *_PROVENANCE)


def files(data: str, rows: Sequence[BoardRow]) -> dict[str, bytes]:
    """Return the tables of one dataset: file name -> CSV in UTF-8."""
    scores = [f"{metric.name}{end}" for metric in grouped_metrics() for end in ("", "_std")]
    ends = ("train_hash", "reason")
    columns: dict[str, tuple[tuple[str, ...], Callable[[Sequence[BoardRow]], Iterable[dict[str, Any]]]]] = {
        "": (leaderboard_columns(), leaderboard_cells),
        "_per_category": ((*_ROW, "category", "n", *scores, *ends), _per_category),
        "_per_threshold": ((*_ROW, "threshold", "pr", "pr_std", "pr_lo", "pr_hi", *ends), _per_threshold),
        "_per_size": ((*_ROW, "scheme", "size_class", "n", *scores, *ends), _per_size),
    }
    if any(row.names("probes") for row in rows):  # a file of its own from the first record that has probes
        columns[PROBES] = ((*_ROW, *_PROBE_COLUMNS, *ends), _probes)
    if any(row.names("per_stratum") for row in rows):
        means = [f"{name}{end}" for name, metric in METRICS.items() if metric.mean_of for end in ("", "_std")]
        bounds = [f"{name}{end}" for name in ("miou", "macro_miou") for end in ("_lo", "_hi")]
        columns[STRATA_TABLE] = ((*_ROW, "stratum", "class", "n", *scores, *means, *bounds, *ends), _per_stratum)
    return {f"{data}{suffix}.csv": _csv(names, cells(rows)) for suffix, (names, cells) in columns.items()}


def efficiency_file(rows: Sequence[BoardRow]) -> bytes:
    """Return ``efficiency.csv``: the costs of every model of every dataset."""
    lines = list(_efficiency(rows))
    place = _EFFICIENCY_COLUMNS.index("latency_ms") + 1
    measured = any(line[_AMP] for line in lines)  # a column of its own from the first record that has it
    return _csv((*_EFFICIENCY_COLUMNS[:place], *[_AMP] * measured, *_EFFICIENCY_COLUMNS[place:]), lines)


def leaderboard_cells(rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    """Yield the cells of ``<data>.csv``, column -> text, one mapping per row."""
    for row in rows:
        cells = _identity(row)
        for name in METRICS:
            score = row.score(name)
            cells |= {name: _two(score.value), f"{name}_std": _two(row.deviation(name))}
            cells |= {f"{name}_lo": _two(score.lo), f"{name}_hi": _two(score.hi)}
        for name in CONTROLS:
            cells[f"{name}_miou"] = _two(row.score("miou", "control", name).value)
        params = row.mean("efficiency", "params_total")
        cells["params_m"] = None if params is None else f"{params / 1e6:.3f}"
        for name in ("gflops", "fps", "peak_mem_gb"):
            cells[name] = _figure(row.mean("efficiency", name))
        cells |= {"verified_by": "; ".join(row.verified_by), "attestation": attestation(row.records)}
        cells["wall_s"] = _figure(row.mean("wall_s"))
        for name in _PROVENANCE:
            if name not in cells:
                cells[name] = row.text(*_RENAMED.get(name, (name,)))
        yield cells


def _identity(row: BoardRow) -> dict[str, Any]:
    head = row.head
    return {
        "rank": row.rank, "model": head.model, "variant": "; ".join(head.variant), "size": head.size,
        "split": head.split, "protocol": head.protocol.name, "n_seeds": len(row.records),
        "train_hash": head.train_hash, "reason": row.reason,
    }  # fmt: skip


def _per_category(rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for category in row.names("per_category"):
            yield _identity(row) | {"category": category} | _group_cells(row, "per_category", category)
        macro = _identity(row) | {"category": MACRO_ROW}
        for name, metric in METRICS.items():
            if metric.mean_of:
                macro[metric.mean_of] = _two(row.score(name).value)
                macro[f"{metric.mean_of}_std"] = _two(row.deviation(name))
        if macro["miou"]:
            yield macro


def _per_size(rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for scheme in row.names("per_size"):
            for name in row.names("per_size", scheme):
                labels = {"scheme": scheme, "size_class": name}
                yield _identity(row) | labels | _group_cells(row, "per_size", scheme, name)


def _probes(rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    """One line per figure of a probe, over all of its cases (an empty group), then per group."""
    for row in rows:
        for probe in row.names("probes"):
            costs = {name: row.text("probes", probe, name) for name in ("refused", "predictions")}
            for group in ("", *row.names("probes", probe, "groups")):
                path = ("probes", probe, *(("groups", group) if group else ()))
                for figure in row.names(*path, "scores"):
                    score = row.score(figure, *path)
                    cells = {"value": score.value, "lo": score.lo, "hi": score.hi, "std": row.deviation(figure, *path)}
                    labels = {"probe": probe, "group": group, "n": row.text(*path, "n"), "figure": figure}
                    yield _identity(row) | labels | {key: _two(value) for key, value in cells.items()} | costs


def _per_stratum(rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for stratum in row.names("per_stratum"):
            for name in row.names("per_stratum", stratum):
                path = ("per_stratum", stratum, name)
                cells = _identity(row) | {"stratum": stratum, "class": name} | _group_cells(row, *path)
                for metric, definition in METRICS.items():
                    score = row.score(metric, *path)
                    if definition.mean_of:
                        cells |= {metric: _two(score.value), f"{metric}_std": _two(row.deviation(metric, *path))}
                    cells |= {f"{metric}_lo": _two(score.lo), f"{metric}_hi": _two(score.hi)}
                yield cells


def _per_threshold(rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for name, threshold in PRECISIONS.items():
            score = row.score(name)
            cells = {"pr": score.value, "pr_lo": score.lo, "pr_hi": score.hi, "pr_std": row.deviation(name)}
            yield _identity(row) | {"threshold": threshold} | {key: _two(value) for key, value in cells.items()}


def _efficiency(rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    """One line per model and conditions; figures of several seeds under the same conditions are averaged."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    measured: dict[tuple[Any, ...], Record] = {}
    for record in (record for row in rows for record in row.records):  # one measurement for all splits of a run
        figures = cell(dataclasses.asdict(record.efficiency))
        key = (record.data, record.model, record.train_hash, record.seed, record.machine, figures)
        measured.setdefault(key, record)
    for record in measured.values():
        cost = record.efficiency
        if any(value is not None for value in dataclasses.asdict(cost).values()):
            conditions = (cost.device, cost.precision, cost.batch, cost.gflops_batch, cost.input_size)
            group = (record.model, record.size, record.data, record.train_hash, *map(cell, conditions))
            groups.setdefault(group, []).append(record)
    for group in sorted(groups):
        members = BoardRow(tuple(sorted(groups[group], key=lambda record: (record.seed, record.run_id))), "")
        cells = _identity(members) | {"data": members.head.data, "n_runs": len(members.records)}
        for name in ("gflops", "latency_ms", _AMP, "fps", "peak_mem_gb"):
            cells[name] = _figure(members.mean("efficiency", name))
        for name in ("params_total", "params_trainable", "gflops_batch", "input_size", "batch", "device", "precision"):
            cells[name] = members.text("efficiency", name)
        cells["wall_s"] = _figure(members.mean("wall_s"))
        yield cells


def _group_cells(row: BoardRow, *group: str) -> dict[str, str]:
    cells = {"n": row.text(*group, "n")}
    for metric in grouped_metrics():
        cells[metric.name] = _two(row.score(metric.name, *group).value)
        cells[f"{metric.name}_std"] = _two(row.deviation(metric.name, *group))
    return cells


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _figure(value: float | None) -> str:
    """Four significant digits, never in scientific notation; numbers of five digits and more keep them all."""
    if value is None:
        return ""
    digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _csv(columns: Sequence[str], lines: Iterable[dict[str, Any]]) -> bytes:
    return write_csv(columns, ({name: cell(line.get(name)) for name in columns} for line in lines)).encode("utf-8")
