"""The Hydra entry: compose -> build -> train -> evaluate -> record.

Use it as ``python -m rrsis_bench.run model=fianet data=rrsisd size=paper trainer=gpu``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape

from rrsis_bench import registry
from rrsis_bench.config.compose import CONF, own_hydra
from rrsis_bench.config.recipes import check_recipes
from rrsis_bench.errors import UserError, unknown


def check_names(overrides: list[str]) -> None:
    """Refuse a misspelt model or dataset with suggestions, before Hydra's own and longer message."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "model" and value and "," not in value:
            registry.find(value)
        if key == "data" and value and "," not in value:
            names = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
            if value not in names:
                raise unknown("dataset", value, names)


def _guarded(task: Callable[[dict[str, Any], Console, Sequence[str]], None]) -> Callable[[DictConfig], None]:
    """Turn errors meant for a person into a message and an exit code, without a traceback."""

    def call(cfg: DictConfig) -> None:
        console = Console()
        try:
            config = OmegaConf.to_container(cfg, resolve=True)
            assert isinstance(config, dict)
            typed = HydraConfig.get().overrides.task
            task({str(key): value for key, value in config.items()}, console, typed)
        except UserError as error:
            console.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True, highlight=False)
            sys.exit(getattr(error, "exit_code", 2))
        except OmegaConfBaseException as error:
            reason = escape(f"the configuration does not resolve: {error}")
            console.print(f"[bold red]error:[/bold red] {reason}", soft_wrap=True, highlight=False)
            sys.exit(2)

    return call


def main(overrides: list[str] | None = None, verb: str = "bench") -> int:
    """Run ``bench`` or ``evaluate`` with Hydra overrides; returns the exit code."""
    arguments = sys.argv[1:] if overrides is None else overrides
    # Tokenizers' own threads would fight with torch's over the cores, and warn when a loader forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        check_names(arguments)
        check_recipes(CONF, registry.entries())
        from rrsis_bench.run import bench
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    task = bench.bench if verb == "bench" else bench.evaluate_checkpoint
    sys.argv = [f"rrsis-bench {verb}", *arguments]
    with own_hydra():
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_guarded(task))()
    return 0


if __name__ == "__main__":
    sys.exit(main())
