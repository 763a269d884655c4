"""The Hydra entry: compose -> build -> train -> evaluate -> record.

Use it as ``python -m rrsis_bench.run model=fianet data=rrsisd size=paper trainer=gpu``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape

from rrsis_bench import registry
from rrsis_bench.errors import UserError

CONF = registry.ROOT / "conf"


class ModelSearchPath(SearchPathPlugin):
    """Adds the conf folders of out-of-tree models to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append each plugin's conf folder once."""
        folders = {registry.plugin_conf(point.module) for point in entry_points(group=registry.ENTRY_POINT_GROUP)}
        for folder in sorted(folders):
            search_path.append("rrsis_bench.models", f"file://{folder}")


def check_names(overrides: list[str]) -> None:
    """Refuse a misspelt model or dataset with suggestions, before Hydra's own and longer message."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "model" and value and "," not in value:
            registry.find(value)
        if key == "data" and value and "," not in value:
            names = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
            if value not in names:
                raise registry.unknown("dataset", value, names)


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
        from rrsis_bench import bench
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    plugins = Plugins.instance()
    if ModelSearchPath not in plugins.discover(SearchPathPlugin):
        plugins.register(ModelSearchPath)
    task = bench.bench if verb == "bench" else bench.evaluate_checkpoint
    sys.argv = [f"rrsis-bench {verb}", *arguments]
    # A package that initialises Hydra at import (SAM 2's does) would keep ours from starting; it gets its state back.
    state = GlobalHydra.instance()
    theirs, state.hydra = state.hydra, None
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_guarded(task))()
    finally:
        state.hydra = theirs
    return 0


if __name__ == "__main__":
    sys.exit(main())
