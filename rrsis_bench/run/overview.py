"""What `rrsis-bench runs` and `rrsis-bench show` print of the runs in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.text import Text

from rrsis_bench.codec import parse_json
from rrsis_bench.config.schema import SPLITS, Split
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError, reason, unknown
from rrsis_bench.eval.metrics import METRICS
from rrsis_bench.eval.scores import CONTROLS
from rrsis_bench.results.board.rows import BoardRow
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.render.terminal.board import CONTROL_LABELS, plain_table, print_table, probe_summary
from rrsis_bench.run.folder import CONFIG, RunFolder
from rrsis_bench.run.sweep import run_folders


def find_run(name: str, runs: Path) -> RunFolder:
    """Return the run with the id or folder `name`, or the run and checkpoint of a checkpoint's folder.

    Raises:
        UserError: there is none. The message suggests close names.
    """
    path = RunFolder.locate(name, runs)
    if RunFolder.is_run(path):
        return RunFolder.open(path)
    known = [folder.path.name for folder in run_folders(runs)]
    raise unknown("run", name, known) if known else UserError(f"{runs} has no runs. Name their folder with --runs.")


def summaries(runs: Path) -> list[dict[str, Any]]:
    """Return id, status, variant, last validation, test mIoU in percent and reason of every run in a folder."""
    return [_summary(folder) for folder in run_folders(runs)]


def _summary(folder: RunFolder) -> dict[str, Any]:
    empty = dict.fromkeys(("epoch", "val_miou", "test_miou", "started_utc"))
    try:
        manifest, record = folder.manifest, _records(folder).get("test")
    except UserError as error:
        return {"run_id": folder.path.name, "status": "unreadable", "variant": [], **empty, "reason": reason(error)}
    validations = _validations(folder)
    last = validations[-1] if validations else {}
    return {
        "run_id": folder.path.name,
        "status": manifest.status,
        "variant": list(manifest.variant),
        "epoch": last.get("epoch"),
        "val_miou": last.get("miou"),
        "test_miou": None if record is None else record.value("miou"),
        "started_utc": manifest.attempts[0].started_utc if manifest.attempts else None,
        "reason": manifest.reason,
    }


def show_runs(console: Terminal, found: Sequence[dict[str, Any]]) -> None:
    """Print one line per run; `found` is from `summaries`."""
    table = plain_table()
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("epoch", "val mIoU", "test mIoU"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("started (UTC)", no_wrap=True)
    table.add_column("variant, reason", overflow="fold")
    for run in found:
        style = {"finished": "", "running": "yellow"}.get(run["status"], "red")
        note = ", ".join(run["variant"])
        if run["reason"]:
            note = f"{note}: {run['reason']}" if note else run["reason"]
        table.add_row(
            Text(run["run_id"]),
            Text(run["status"], style),
            "" if run["epoch"] is None else str(run["epoch"]),
            _percent(run["val_miou"]),
            _percent(run["test_miou"]),
            (run["started_utc"] or "")[:16].replace("T", " "),
            Text(note),
        )
    print_table(console, "", table, "Details of one run: rrsis-bench show RUN")


def show_run(console: Terminal, folder: RunFolder) -> None:
    """Print a run's settings, its validations, its scores, and where its files are."""
    manifest, records = folder.manifest, _records(folder)
    console.print(Text.assemble((folder.path.name, "bold"), f"  {manifest.status}"), soft_wrap=True)
    if manifest.reason:
        console.print(Text(manifest.reason), soft_wrap=True)
    console.print(Text("settings: " + (", ".join(manifest.variant) or "the model's defaults")), soft_wrap=True)
    for number, attempt in enumerate(manifest.attempts, start=1):
        dirty = " with local changes" if attempt.git_dirty else ""
        commit = (attempt.git_sha or "no git revision")[:12]
        console.print(
            Text(f"start {number}: {attempt.started_utc}, commit {commit}{dirty}, {attempt.device_name}"),
            soft_wrap=True,
        )
    if manifest.wall_s and manifest.status != "running":
        console.print(f"time of all starts: {timedelta(seconds=round(manifest.wall_s))}", highlight=False)
    validations = _validations(folder)
    if validations:
        table = plain_table()
        names = [name for name in ("miou", "oiou", "pr50") if name in validations[0]]
        for name in ("epoch", "step", *names):
            table.add_column(METRICS[name].label if name in METRICS else name, justify="right", no_wrap=True)
        for entry in validations:
            cells = [f"{entry[name]:.2f}{' *' if name == names[0] and entry.get('best') else ''}" for name in names]
            table.add_row(str(entry["epoch"]), str(entry["step"]), *cells)
        print_table(console, "validation", table, "*: the best so far")
    for record in records.values():
        show_scores(console, record)
    show_paths(console, folder)


def show_scores(console: Terminal, record: Record) -> None:
    """Print the scores of one record, in percent with their 95% intervals, its language controls and its probes."""
    table = plain_table()
    table.add_column("score", no_wrap=True)
    table.add_column("%", justify="right", no_wrap=True)
    table.add_column("95% interval", no_wrap=True)
    for name, score in (record.overall.scores if record.overall else {}).items():
        if score.value is not None and name in METRICS:
            interval = "" if score.lo is None or score.hi is None else f"[{score.lo:.2f}, {score.hi:.2f}]"
            table.add_row(METRICS[name].label, _percent(score.value), Text(interval))
    for name in CONTROLS:
        if name in record.control:
            table.add_row(f"mIoU, {CONTROL_LABELS[name]}", _percent(record.control[name].scores["miou"].value), "")
    print_table(console, f"{record.run_id} on {record.data} {record.split}, n = {record.n}", table)
    probe_summary(console, BoardRow((record,), ""))


def show_paths(console: Terminal, folder: RunFolder) -> None:
    """Print where the files of a run are, as far as they exist."""
    paths = {"configuration": folder.path / CONFIG, "event log": folder.events, "gallery": folder.path / "report.html"}
    if folder.status == "finished":
        paths["best checkpoint"] = folder.best
        paths |= {_named("record", split): path for split, path in folder.record_paths.items()}
    paths |= {_named("predictions", split): folder.predictions(split) for split in SPLITS}
    for name, path in paths.items():
        if path.exists():
            console.print(Text(f"{name}: {path}"), soft_wrap=True)


def _named(kind: str, split: str) -> str:
    return kind if split == "test" else f"{kind} on {split}"


def _records(folder: RunFolder) -> dict[Split, Record]:
    return {split: store.read(path) for split, path in folder.record_paths.items()}


def _validations(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the validations in the event log, the last one of each step."""
    if not folder.events.is_file():
        return []
    found: dict[int, dict[str, Any]] = {}
    for line in folder.events.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = parse_json(line)
        except ValueError:  # the last line of a killed process
            continue
        if isinstance(event, dict) and event.get("event") == "val":
            found[event["step"]] = event
    return [found[step] for step in sorted(found)]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
