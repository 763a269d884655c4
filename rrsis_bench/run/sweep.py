"""Sweeps: many runs by one command. A run that fails never ends the others."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from rrsis_bench import codec
from rrsis_bench.config.schema import Config, LauncherConfig
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError, reason
from rrsis_bench.results.render.terminal.board import plain_table, print_table
from rrsis_bench.run import slurm
from rrsis_bench.run.data import data_root
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.run.slurm import Task, run_tasks
from rrsis_bench.stop import Interrupted

FAILED = ("failed", "nan", "oom")
"""Statuses of runs that `rerun_failed` starts again."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: its overrides.
        status: ``"finished"``, ``"failed"``, ``"nan"`` or ``"oom"``.
        seconds: of this command.
        reason: why it is not finished.
    """

    name: str
    status: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Queued:
    """One run that a cluster is to do: its overrides as text, its configuration, and the overrides."""

    name: str
    config: Config
    overrides: tuple[str, ...]


def run_queued(queued: Sequence[Queued], verb: str, cells: list[Cell], console: Terminal) -> None:
    """Run as jobs of the cluster, and add a cell to `cells` for each run that ends.

    Args:
        queued: the runs; all have the same launcher.
        verb: ``"bench"`` or ``"evaluate"``.
        cells: receives the cells, in the order in which the runs end.
        console: shows progress.

    Raises:
        UserError: the runs have several launchers, or SLURM refuses the jobs.
        Interrupted: a signal. The jobs go on.
    """
    first = queued[0].config
    if any(one.config.launcher != first.launcher for one in queued):
        raise UserError("The runs of a sweep need one launcher. Start a command for each.")
    for one in {str(one.config.data.synthetic): one for one in queued}.values():
        data_root(one.config.data, console)  # synthetic scenes are written once, not by every job
    tasks = [Task(one.name, partial(_in_a_job, one, verb)) for one in queued]
    names = _short([one.name for one in queued])
    for number, outcome in run_tasks(tasks, first.launcher, Path(first.runs) / ".slurm", console):
        if "error" in outcome:
            cell = Cell(queued[number].name, "failed", 0.0, str(outcome["error"]))
        else:
            cell = codec.decode(Cell, outcome, "The outcome of a job")
        cells.append(cell)
        line = f"{names[number]}  {cell.status}  {cell.reason.splitlines()[0] if cell.reason else ''}"
        console.print(Text(line.rstrip()), soft_wrap=True)


def _in_a_job(one: Queued, verb: str) -> dict[str, Any]:
    """Do one run in a job of the cluster; return its cell."""
    from rrsis_bench.run.bench import bench
    from rrsis_bench.run.evaluate import evaluate

    console = Terminal(quiet=not slurm.is_first())
    config = dataclasses.replace(one.config, launcher=LauncherConfig())

    def call() -> None:
        if verb == "bench":
            bench(config, console)
        else:
            evaluate(config, console, one.overrides)

    return dataclasses.asdict(run_cell(one.name, call, console))


def run_cell(name: str, call: Callable[[], None], console: Terminal) -> Cell:
    """Call one run of a sweep, and turn what it raises into its status; only a signal ends the sweep.

    Raises:
        Interrupted: a signal.
    """
    started = time.monotonic()
    status, why = "finished", ""
    try:
        call()
    except UserError as error:
        status, why = status_of(error), str(error)
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - a defect of one model must not cost the others' runs
        console.print(Text(traceback.format_exc()), style="red")
        status, why = status_of(error), f"{type(error).__name__}: {reason(error)}"
    if why:
        console.print(Text.assemble(("error: ", "bold red"), why), soft_wrap=True)
    return Cell(name, status, time.monotonic() - started, why)


def status_of(error: BaseException) -> str:
    """Return the status of a run that ended with `error`."""
    return "interrupted" if isinstance(error, Interrupted) else str(getattr(error, "status", "failed"))


def show(console: Terminal, cells: Sequence[Cell], *, interrupted: bool = False) -> int:
    """Print the closing table of a sweep; return the exit code, 1 if a run is not finished.

    Args:
        console: where to print.
        cells: the runs that ended.
        interrupted: whether others were still to come.
    """
    table = plain_table()
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for cell, name in zip(cells, _short([cell.name for cell in cells]), strict=True):
        first = cell.reason.splitlines()[0] if cell.reason else ""
        style = "" if cell.status == "finished" else "red"
        table.add_row(Text(name), Text(cell.status, style), f"{cell.seconds:.0f} s", Text(first))
    bad = sum(cell.status != "finished" for cell in cells)
    caption = f"{len(cells) - bad} of {len(cells)} runs are finished."
    if interrupted:
        caption += " The sweep was interrupted. The same command continues with the others."
    elif bad:
        caption += " The same command runs the others again, `rrsis-bench bench --rerun failed` those that failed."
    print_table(console, "Sweep", table, caption)
    return 1 if bad else 0


def _short(names: Sequence[str]) -> list[str]:
    """Return names without the overrides that all of them share."""
    shared = set.intersection(*(set(name.split()) for name in names)) if len(names) > 1 else set()
    return [" ".join(word for word in name.split() if word not in shared) or name for name in names]


def rerun_failed(runs: Path, call: Callable[[Config, Terminal], None], console: Terminal) -> int:
    """Run every run in `runs` again whose status is one of `FAILED`, as its folder describes it.

    Args:
        runs: folder of the runs.
        call: trains and evaluates one run.
        console: shows progress and the closing table.

    Returns:
        The exit code: 0 if all are finished now.

    Raises:
        UserError: `runs` has no runs.
        Interrupted: a signal.
    """
    folders = run_folders(runs)
    if not folders:
        raise UserError(f"{runs} has no runs. Name the folder with runs=.")
    failed = [folder for folder in folders if _status(folder) in FAILED]
    if not failed:
        console.print(f"No run in {runs} has the status {', '.join(FAILED)}.")
        return 0
    cells = [run_cell(folder.path.name, partial(_again, folder, call, console), console) for folder in failed]
    return show(console, cells)


def _status(folder: RunFolder) -> str:
    try:
        return folder.status
    except UserError:  # of another version of the suite
        return "unreadable"


def _again(folder: RunFolder, call: Callable[[Config, Terminal], None], console: Terminal) -> None:
    call(dataclasses.replace(folder.config, force=False, runs=str(folder.path.parent)), console)


def run_folders(runs: Path) -> list[RunFolder]:
    """Return the runs in a folder, by name; folders that are no runs are left out."""
    if not runs.is_dir():
        return []
    return [
        RunFolder(path) for path in sorted(runs.iterdir()) if not path.name.startswith(".") and RunFolder.is_run(path)
    ]
