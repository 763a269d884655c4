"""Masks of a system that does not live here, scored into the same record as a run of this suite."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from rrsis_bench import registry
from rrsis_bench.config import hashes as hashing
from rrsis_bench.config.compose import CONF, compose_config
from rrsis_bench.config.protocol import METRIC_VERSION, Protocol
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.eval.predictions import count_predictions
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.eval.scoring import Scores
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record, Split
from rrsis_bench.run import provenance
from rrsis_bench.run.plan import OpenData, Setting
from rrsis_bench.run.record import Origin, keep, make_record, publish

SIZE = "external"
SOURCE = "predictions"
OVERRIDES = ("data.", "limit.", "protocol.", "runs.")  # what changes a score, or where it is kept


def configure(data: str, protocol: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose the configuration of a dataset and a protocol; its model and training sections mean nothing here.

    Raises:
        UserError: an unknown dataset or protocol, or an override of something that no score depends on.
    """
    for kind, name in (("data", data), ("protocol", protocol)):
        known = sorted(path.stem for path in (CONF / kind).glob("*.yaml"))
        if name not in known:
            raise unknown("dataset" if kind == "data" else kind, name, known)
    for override in overrides:
        if not override.lstrip("+~").startswith(OVERRIDES):
            raise UserError(
                f"The override '{override}' changes nothing of a score. Those that may be given start with: "
                f"{', '.join(OVERRIDES)} such as 'data.counts={{train: 8, val: 4, test: 4}}'."
            )
    return compose_config([f"data={data}", f"protocol={protocol}", *overrides])


def check_name(name: str, results: Path, data: str) -> None:
    """Refuse a name that cannot be a folder, or that a reader would take for a model of this suite."""
    store.record_path(results, data, name, "any")
    taken = {known.casefold(): known for known in registry.entries()}
    if name.casefold() in taken:
        raise UserError(
            f"--name {name}: '{taken[name.casefold()]}' is a model of this suite, and a row of that name would be "
            f"taken for it. Choose another one, such as {name}-authors."
        )


def score(
    config: dict[str, Any],
    console: Console,
    *,
    name: str,
    predictions: Path,
    split: Split = "test",
    root: Path | None = None,
    selected_on: Split | None = None,
) -> Record:
    """Check the masks at `predictions` against a split, count them, write the record and the tables, show them.

    Args:
        config: from `configure`.
        console: shows the table and warnings.
        name: of the system; the row's model.
        predictions: a JSON Lines file or a folder of PNG masks, see `rrsis_bench.eval.predictions`.
        split: which one they predict; only this one has to be readable.
        root: the dataset's folder, None for the configured one.
        selected_on: the split that picked the system's checkpoint, as its authors say; None leaves the row unranked.

    Raises:
        UserError: a name that will not do, a protocol of another size than the native one, a dataset that cannot be
            read, or predictions that do not fit it, with every problem named.
    """
    protocol = Protocol.from_mapping(config["protocol"])
    if protocol.resolution != "native":
        raise UserError(
            f"Protocol '{protocol.name}' compares masks at a model's input size (protocol.resolution="
            f"{protocol.resolution}), which masks from outside do not have: they come at native size. Score them under "
            "--protocol native."
        )
    check_name(name, Path(config["results"]["root"]), config["data"]["name"])
    started, clock = datetime.now(UTC), time.perf_counter()
    git = provenance.git_state(registry.ROOT)
    data = OpenData.open(config, console, root, [split])
    dataset = data.splits[split]
    with Progress(console=console) as progress:
        bar = progress.add_task(f"score {split}", total=len(dataset))
        table, sha256 = count_predictions(predictions, dataset, lambda: progress.advance(bar))
    train_hash = hashing.digest({"name": name, "predictions": sha256})
    evaluation = {"scoring": protocol.scoring_id, "fingerprint": data.fingerprint, "metric_version": METRIC_VERSION}
    eval_hash = hashing.digest({"train": train_hash, "evaluation": evaluation})
    setting = Setting(
        config=config,
        protocol=protocol,
        data=data,
        train_hash=train_hash,
        eval_hash=eval_hash,
        run_id=f"{name}-{config['data']['name']}-{SIZE}-s0-{eval_hash[:8]}",
        variant=(),
        git=git,
    )
    device = torch.device("cpu")  # where the masks were counted; where they were made is not known
    origin = Origin(
        model=name,
        model_source=SOURCE,
        size=SIZE,
        seed=0,
        epochs=None,
        variant=[],
        selection_split=selected_on,
        selection_metric=None,
        weights_sha256=None,
        predictions_sha256=sha256,
        init_weights={},
        device=device.type,
        device_name=provenance.device_name(device),
        world_size=1,
        precision="",
        efficiency=Efficiency(),
    )
    notes = ["outside predictions" + (", selection declared by the submitter" if selected_on else "")]
    if data.fingerprint is None:
        notes.append("dataset fingerprint unknown: another split could not be read")
    wall_s = time.perf_counter() - clock
    scores = Scores(table)
    record = make_record(setting, origin, scores, started=started, wall_s=wall_s, split=split, notes=notes)
    keep(setting, record, scores)
    publish(setting, record, scores, console)
    return record
