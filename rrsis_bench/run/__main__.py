"""The Hydra entry of `bench` and `evaluate`, also as ``python -m rrsis_bench.run model=fianet data=rrsisd``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.text import Text

from rrsis_bench.config.compose import check_overrides, own_hydra, parse
from rrsis_bench.config.schema import Config
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.printing import emit
from rrsis_bench.resources import CONF
from rrsis_bench.stop import Interrupted, StopRequest
from rrsis_bench.world import started_ranks

if TYPE_CHECKING:
    from rrsis_bench.run.sweep import Cell, Queued


def _guarded(
    task: Callable[[Config, Terminal, Sequence[str]], None], cells: list[Cell], queued: list[Queued]
) -> Callable[[DictConfig], None]:
    """Turn errors for a person into a message and an exit code, without a traceback.

    The runs of a sweep are added to `cells`; what ends one of them does not end the others. With ``launcher=slurm``,
    a run is only added to `queued`.
    """
    from rrsis_bench.run.launch import own_console
    from rrsis_bench.run.slurm import check_processes
    from rrsis_bench.run.sweep import Queued, run_cell

    def call(composed: DictConfig) -> None:
        console, overrides = own_console(), list(HydraConfig.get().overrides.task)
        name = " ".join(overrides)

        def start() -> None:
            config = parse(composed)
            if config.launcher.name == "none":
                task(config, console, overrides)
            else:
                check_processes(config.launcher, config.trainer)
                queued.append(Queued(name, config, tuple(overrides)))

        if HydraConfig.get().mode == RunMode.MULTIRUN:
            if started_ranks() is not None:
                _end(console, UserError("Start a sweep without torchrun or srun: its runs start their own processes."))
            before = len(queued)
            cell = run_cell(name, start, console)
            if len(queued) == before:
                cells.append(cell)
            return
        try:
            start()
        except UserError as error:
            _end(console, error)

    return call


def _end(console: Terminal, error: UserError) -> NoReturn:
    console.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
    sys.exit(2)


def _bench(config: Config, console: Terminal, overrides: Sequence[str]) -> None:  # noqa: ARG001 - the label needs none
    from rrsis_bench.run.bench import bench

    bench(config, console)


def main(overrides: list[str] | None = None, verb: str = "bench") -> int:
    """Run ``bench`` or ``evaluate`` with Hydra overrides; return the exit code.

    Args:
        overrides: Hydra overrides and flags; None: those of the process.
        verb: ``"bench"`` or ``"evaluate"``.
    """
    arguments = sys.argv[1:] if overrides is None else overrides
    cells: list[Cell] = []
    code, interrupted = 0, False
    try:
        with StopRequest():
            code = _run(arguments, verb, cells)
    except Interrupted as stopped:
        emit(f"{stopped} Run the same command again to continue where it stopped.")
        code, interrupted = stopped.exit_code, True
    if cells:
        from rrsis_bench.run.sweep import show

        code = code or show(Terminal(), cells, interrupted=interrupted)
    return code


def _run(arguments: list[str], verb: str, cells: list[Cell]) -> int:
    # Threads of the tokenizers would compete with torch's for the cores, and warn when a loader forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        check_overrides(arguments)
        from rrsis_bench.run import evaluate
    except UserError as error:
        emit(f"error: {error}", error=True)
        return 2
    task = _bench if verb == "bench" else evaluate.evaluate
    # Hydra reads no override behind a flag that follows other overrides.
    multirun = [argument for argument in arguments if argument in ("-m", "--multirun")]
    sys.argv = [f"rrsis-bench {verb}", *multirun[:1], *(name for name in arguments if name not in multirun)]
    queued: list[Queued] = []
    with own_hydra():
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_guarded(task, cells, queued))()
    if queued:
        from rrsis_bench.run.sweep import run_queued

        try:
            run_queued(queued, verb, cells, Terminal())
        except UserError as error:
            emit(f"error: {error}", error=True)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
