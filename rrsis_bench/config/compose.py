"""Compose the configuration with Hydra and parse it once into `rrsis_bench.config.schema.Config`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rrsis_bench import registry
from rrsis_bench.config.overrides import check_grammar, check_names, field_name, near_fields, quoting
from rrsis_bench.config.recipes import check_plugin, check_recipes
from rrsis_bench.config.schema import Config
from rrsis_bench.errors import UserError, reason
from rrsis_bench.resources import CONF, LOCAL


class ModelSearchPath(SearchPathPlugin):
    """Adds the conf folders of out-of-tree models to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append each plugin's conf folder once, and the folder of this machine's own configurations."""
        if LOCAL.is_dir():
            search_path.append("rrsis_bench.local", f"file://{LOCAL.absolute()}")
        for folder in sorted(_plugin_folders()):
            search_path.append("rrsis_bench.models", f"file://{folder}")


def _plugin_folders() -> dict[Path, set[str]]:
    """Return conf folder of each plugin's package -> names of the models that it offers."""
    found: dict[Path, set[str]] = {}
    for point in entry_points(group=registry.ENTRY_POINT_GROUP):
        found.setdefault(registry.plugin_conf(point.module), set()).add(point.name)
    return found


@contextmanager
def own_hydra() -> Iterator[None]:
    """Run Hydra with the suite's plugins and without earlier state.

    Inside another Hydra application, or beside a package that initialises Hydra at import (SAM 2's does), Hydra would
    not start. The other application gets its state back at the end.
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


def compose_config(overrides: Sequence[str]) -> Config:
    """Compose and parse the configuration that `overrides` choose.

    Raises:
        UserError: a misspelt name or field, or a value that does not fit.
    """
    return parse(compose_node(overrides))


def compose_node(overrides: Sequence[str]) -> DictConfig:
    """Compose without resolving or parsing.

    Raises:
        UserError: an override names no choice or no field of the configuration.
    """
    for override in overrides:
        check_grammar(override)
    check_names(overrides)
    models = registry.entries()
    check_recipes(CONF, models)
    for folder, names in _plugin_folders().items():
        check_plugin(folder, names)
    try:
        return _compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        refused = re.search(r"Could not (?:override|delete|append)[^']*'([^']+)'", str(error))
        if refused is None:
            raise UserError(f"The configuration does not compose: {reason(error)}.") from error
        name = refused[1].partition("@")[0]
        known = list(_dotted(_compose([override for override in overrides if field_name(override) != name])))
        near = near_fields(name, known)
        raise UserError(f"The configuration has no field '{name}'.{near} `rrsis-bench config` lists them.") from error


def check_overrides(arguments: Sequence[str]) -> None:
    """Check the command line of a run before Hydra reads it; of a sweep, only the overrides with a single value.

    Raises:
        UserError: as `compose_node`.
    """
    typed = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    for argument in typed:
        check_grammar(argument)
    parsed = OverridesParser.create().parse_overrides(typed)
    multirun = bool({"-m", "--multirun"} & set(arguments))
    if not multirun:
        for override in parsed:
            if override.is_sweep_override():
                raise quoting(str(override.input_line))
    composed = compose_node([str(override.input_line) for override in parsed if not override.is_sweep_override()])
    if not multirun:  # a value that does not fit is refused before torch is imported
        parse(composed)


def parse(composed: DictConfig) -> Config:
    """Resolve and parse what Hydra composed.

    Raises:
        UserError: an interpolation does not resolve, or a field does not fit.
    """
    return Config.parse(plain(composed))


def plain(composed: DictConfig) -> dict[str, Any]:
    """Resolve a composed configuration into plain containers; UserError if it does not resolve."""
    try:
        values = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"The configuration does not resolve: {error}.") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _compose(overrides: Sequence[str]) -> DictConfig:
    with own_hydra(), initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted field of a composed configuration, sections included."""
    if isinstance(node, DictConfig | Mapping):
        for key in node:
            name = f"{prefix}.{key}" if prefix else str(key)
            yield name
            value = node._get_node(key) if isinstance(node, DictConfig) else node[key]  # interpolations unresolved
            yield from _dotted(value, name)
