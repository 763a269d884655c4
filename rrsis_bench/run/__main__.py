"""The Hydra entry of `bench` and `evaluate`, also as ``python -m rrsis_bench.run model=fianet data=rrsisd``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from rrsis_bench.config.compose import check_overrides, own_hydra, parse
from rrsis_bench.config.schema import Config
from rrsis_bench.errors import UserError
from rrsis_bench.resources import CONF
from rrsis_bench.stop import Interrupted, StopRequest


def _guarded(task: Callable[[Config, Console, Sequence[str]], None]) -> Callable[[DictConfig], None]:
    """Turn errors for a person into a message and an exit code, without a traceback."""

    def call(composed: DictConfig) -> None:
        console = Console()
        try:
            task(parse(composed), console, HydraConfig.get().overrides.task)
        except Interrupted as stopped:
            console.print(f"{stopped} Run the same command again to continue where it stopped.", soft_wrap=True)
            sys.exit(stopped.exit_code)
        except UserError as error:
            console.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True, highlight=False)
            sys.exit(2)

    return call


def _bench(config: Config, console: Console, overrides: Sequence[str]) -> None:  # noqa: ARG001 - the label needs none
    from rrsis_bench.run.bench import bench

    bench(config, console)


def main(overrides: list[str] | None = None, verb: str = "bench") -> int:
    """Run ``bench`` or ``evaluate`` with Hydra overrides; return the exit code.

    Args:
        overrides: Hydra overrides and flags; None: those of the process.
        verb: ``"bench"`` or ``"evaluate"``.
    """
    arguments = sys.argv[1:] if overrides is None else overrides
    try:
        with StopRequest():
            return _run(arguments, verb)
    except Interrupted as stopped:  # before the run began
        print(stopped, file=sys.stderr)
        return stopped.exit_code


def _run(arguments: list[str], verb: str) -> int:
    # Threads of the tokenizers would compete with torch's for the cores, and warn when a loader forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        check_overrides(arguments)
        from rrsis_bench.run import evaluate
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    task = _bench if verb == "bench" else evaluate.evaluate
    sys.argv = [f"rrsis-bench {verb}", *arguments]
    with own_hydra():
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_guarded(task))()
    return 0


if __name__ == "__main__":
    sys.exit(main())
