"""`rrsis-bench score`: score the masks of another system into the same record as a run of this suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from rrsis_bench import registry
from rrsis_bench.config import hashes
from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.overrides import field_name, matches
from rrsis_bench.config.protocol import METRIC_VERSION
from rrsis_bench.config.schema import Config, Split
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.eval.predictions import count_predictions
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.eval.scoring import Scores
from rrsis_bench.resources import CHECKOUT
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.run.data import OpenData
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.run.plan import RunPlan
from rrsis_bench.run.provenance import RunProvenance, device_name, git_state
from rrsis_bench.run.record import publish, score_and_record

SIZE = "external"
SOURCE = "predictions"
OVERRIDES = ("data.", "limit.", "protocol.")  # fields that change a score


@dataclass(frozen=True, slots=True)
class OutsideMasks:
    """Masks that another system predicted.

    Attributes:
        name: of the system; the row's model.
        scores: the integers of the masks.
        sha256: of the masks.
        selected_on: the split that selected the system's checkpoint, as its authors say; None: unknown.
        trained_on: datasets and image sources that the system has seen, as its authors say.
    """

    name: str
    scores: Scores
    sha256: str
    selected_on: Split | None
    trained_on: tuple[str, ...] = ()

    def score(self, plan: RunPlan, split: Split, run: RunFolder, console: Terminal) -> Scores:  # noqa: ARG002 - protocol
        """Return the scores: the masks are counted before, because the run is named after them."""
        return self.scores

    def provenance(self, plan: RunPlan, console: Terminal) -> RunProvenance:  # noqa: ARG002 - protocol
        """Return the origin of the masks; only the scoring is known."""
        device = torch.device("cpu")  # where the masks were counted
        return RunProvenance(
            model=self.name,
            model_source=SOURCE,
            size=SIZE,
            variant=[],
            selection_split=self.selected_on,
            predictions_sha256=self.sha256,
            init_weights={},
            device=device.type,
            device_name=device_name(device),
            git_sha=plan.git[0],
            git_dirty=plan.git[1],
            efficiency=Efficiency(),
            trained_on=list(self.trained_on) or None,
        )

    def notes(self, plan: RunPlan) -> list[str]:
        """Say where the masks come from, and what is not known of the data."""
        notes = ["outside predictions" + (", selection declared by the submitter" if self.selected_on else "")]
        if self.trained_on:
            notes.append(f"trained on {', '.join(self.trained_on)}, declared by the submitter")
        if plan.data.fingerprint is None:
            notes.append("dataset fingerprint unknown: another split could not be read")
        return notes


def configure(
    data: str, protocol: str, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> Config:
    """Compose the configuration of a dataset and a protocol. Its model and training sections are not used.

    Args:
        data: name of the dataset.
        protocol: name of the protocol.
        overrides: as the user typed them.
        given: further fields -> values; None leaves a field as it is.

    Raises:
        UserError: an unknown dataset or protocol, or an override that affects no score.
    """
    for override in overrides:
        if not matches(field_name(override), OVERRIDES):
            raise UserError(
                f"The override '{override}' affects no score. Fields that do start with {', '.join(OVERRIDES)}: "
                "'data.counts={train: 8, val: 4, test: 4}'."
            )
    known = {name: value for name, value in (given or {}).items() if value is not None}
    fields = [
        f"{name}={str(value).lower()}" if isinstance(value, bool) else f"{name}='{value}'"
        for name, value in known.items()
    ]
    return compose_config([f"data={data}", f"protocol={protocol}", *fields, *overrides])


def check_name(name: str, config: Config) -> None:
    """Refuse a name that cannot be a folder, or that is a model of this suite."""
    store.record_path(Path(config.leaderboards), config.data.name, name, "any")
    taken = {known.casefold(): known for known in registry.entries()}
    if name.casefold() in taken:
        raise UserError(
            f"--name {name}: '{taken[name.casefold()]}' is a model of this suite. Choose another name, such as "
            f"{name}-authors."
        )


def score(
    config: Config,
    console: Terminal,
    *,
    name: str,
    predictions: Path,
    split: Split = "test",
    selected_on: Split | None = None,
    trained_on: Sequence[str] = (),
) -> Record:
    """Check the masks at `predictions` against a split, count them, write the record and the tables, show them.

    Args:
        config: from `configure`.
        console: shows the table and warnings.
        name: of the system; the row's model.
        predictions: a JSON Lines file or a folder of PNG masks, see `rrsis_bench.eval.predictions`.
        split: the split that they predict; the other splits need not be readable.
        selected_on: the split that selected the system's checkpoint, as its authors say; None leaves the row unranked.
        trained_on: datasets and image sources that the system has seen; the row notes what they share with the data.

    Raises:
        UserError: a name that cannot be used, a protocol at another size than the native one, a dataset that cannot be
            read, or predictions that do not fit it, with every problem named.
    """
    protocol = config.protocol
    if protocol.resolution != "native":
        raise UserError(
            f"Protocol '{protocol.name}' compares masks at a model's input size (protocol.resolution="
            f"{protocol.resolution}). Masks from outside come at native size. Score them under --protocol native."
        )
    check_name(name, config)
    config = dataclasses.replace(config, splits=(split,))
    plan = RunPlan(config, OpenData.open(config, console, names=[split]), "", "", "", (), git_state(CHECKOUT))
    dataset = plan.data.splits[split]
    with Progress(console=console) as progress:
        bar = progress.add_task(f"score {split}", total=len(dataset))
        table, sha256 = count_predictions(predictions, dataset, lambda: progress.advance(bar))
    train_hash = hashes.digest({"name": name, "predictions": sha256})
    scoring = {"scoring": protocol.scoring_id, "fingerprint": plan.data.fingerprint, "metric_version": METRIC_VERSION}
    eval_hash = hashes.digest({"train": train_hash, "evaluation": scoring})
    run_id = f"{name}-{config.data.name}-{SIZE}-{eval_hash[:8]}"
    plan = dataclasses.replace(plan, run_id=run_id, train_hash=train_hash, eval_hash=eval_hash)
    run = RunFolder.create(plan)
    masks = OutsideMasks(name, Scores(table), sha256, selected_on, tuple(trained_on))
    scored = score_and_record(plan, masks, run, console)
    run.update("finished")
    publish(config, scored, console)
    return scored[0][0]
