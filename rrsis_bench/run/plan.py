"""A run before anything is computed: its configuration, its data, its name."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rrsis_bench import registry
from rrsis_bench.config import hashes
from rrsis_bench.config.label import variant
from rrsis_bench.config.protocol import METRIC_VERSION, Protocol
from rrsis_bench.config.schema import Config
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.eval.probing import bind as bind_probes
from rrsis_bench.files import require_writable
from rrsis_bench.resources import CHECKOUT
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Attempt
from rrsis_bench.run.data import OpenData
from rrsis_bench.run.provenance import git_state, versions
from rrsis_bench.run.sources import loaded_sources, source_files, sources_sha256
from rrsis_bench.train.recipe import check_recipe


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything that is known of a run before it starts.

    Attributes:
        config: the configuration.
        data: the opened dataset.
        run_id: name of the run, its folder and its record.
        train_hash: identifies the training, without the seed.
        eval_hash: identifies the training and the scoring.
        variant: fields in which the run differs from its model's default.
        git: commit SHA and dirty flag at start-up. Later edits were not executed.
        sources: loaded module -> sha256 of its file at start-up.
        started: wall-clock time at start-up.
        earlier_s: seconds that earlier processes spent on the run.
    """

    config: Config
    data: OpenData
    run_id: str
    train_hash: str
    eval_hash: str
    variant: tuple[str, ...]
    git: tuple[str | None, bool | None]
    sources: dict[str, str] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.perf_counter)
    earlier_s: float = 0.0

    @classmethod
    def prepare(cls, config: Config, console: Terminal) -> RunPlan:
        """Check the configuration, open the data and name the run.

        Args:
            config: the configuration.
            console: for warnings.

        Raises:
            UserError: a part of the configuration or of the dataset cannot work. Nothing was trained yet.
        """
        clock, started = time.perf_counter(), datetime.now(UTC)
        model_class = registry.load_class(config.model.name)
        check_recipe(config.train)
        bind_probes(config.probes)
        check_predictions(config)
        check_places(config)
        sources = loaded_sources(config.model.name)
        git = git_state(CHECKOUT, source_files(sources))
        data = OpenData.open(config, console)
        assert data.fingerprint is not None, "all splits were asked for"
        trained = hashes.train_hash(config, data.fingerprint, model_version=model_class.version)
        scored = hashes.eval_hash(config, trained, METRIC_VERSION)
        return cls(
            config, data, hashes.run_id(config, trained), trained, scored, variant(config), git, sources, started, clock
        )

    @property
    def protocol(self) -> Protocol:
        """The protocol that scores the run."""
        return self.config.protocol

    def attempt(self, device: str, device_name: str | None) -> Attempt:
        """Return this start of the training, on a device."""
        return Attempt(
            started_utc=self.started.isoformat(timespec="seconds"),
            git_sha=self.git[0],
            git_dirty=self.git[1],
            sources_sha256=sources_sha256(self.sources),
            versions=versions(),
            device=device,
            device_name=device_name,
        )

    def elapsed(self) -> float:
        """Return the seconds since start-up, with those of earlier processes."""
        return self.earlier_s + time.perf_counter() - self._clock


def check_places(config: Config) -> None:
    """Refuse names that no record can have, and folders that cannot be written, before anything is computed."""
    store.record_path(Path(config.leaderboards), config.data.name, config.model.name, config.size.name)
    require_writable(Path(config.runs), "runs")
    require_writable(Path(config.leaderboards), "leaderboards")


def check_predictions(config: Config) -> None:
    """Refuse ``predictions=save`` under a protocol that does not score at native size."""
    if config.predictions == "save" and config.protocol.resolution != "native":
        raise UserError(
            f"predictions=save writes masks at native size, but protocol '{config.protocol.name}' compares them at the "
            f"model's input size (protocol.resolution={config.protocol.resolution}). Use protocol=native."
        )
