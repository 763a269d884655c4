"""Hydra, for the suite alone: its configuration with the conf folders of plugins, beside whoever else uses Hydra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rrsis_bench import registry
from rrsis_bench.config.recipes import check_recipes
from rrsis_bench.errors import UserError

CONF = registry.ROOT / "conf"


class ModelSearchPath(SearchPathPlugin):
    """Adds the conf folders of out-of-tree models to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append each plugin's conf folder once."""
        folders = {registry.plugin_conf(point.module) for point in entry_points(group=registry.ENTRY_POINT_GROUP)}
        for folder in sorted(folders):
            search_path.append("rrsis_bench.models", f"file://{folder}")


@contextmanager
def own_hydra() -> Iterator[None]:
    """Hydra with the suite's plugins and no state.

    Within a Hydra application, or beside a package that initialises Hydra at import (SAM 2's does), ours would not
    start; theirs gets its state back at the end.
    """
    plugins = Plugins.instance()
    if ModelSearchPath not in plugins.discover(SearchPathPlugin):
        plugins.register(ModelSearchPath)
    theirs = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = theirs  # Hydra's own context managers put another instance in place


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """The whole configuration that `overrides` choose, resolved, as plain containers.

    Raises:
        UserError: an override that does not compose.
    """
    check_recipes(CONF, registry.entries())
    try:
        with own_hydra(), initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"The configuration does not compose: {error}.") from error
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
