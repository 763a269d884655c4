"""The configuration composed from overrides, for verbs that are no Hydra application themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rrsis_bench import registry
from rrsis_bench.errors import UserError

CONF = registry.ROOT / "conf"


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """The whole configuration that `overrides` choose, resolved, as plain containers.

    Raises:
        UserError: an override that does not compose.
    """
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"The configuration does not compose: {error}.") from error
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
