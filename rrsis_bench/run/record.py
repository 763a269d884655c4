"""From scores to a record, and from the record to the leaderboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from rich.console import Console

from rrsis_bench import registry
from rrsis_bench.config.protocol import METRIC_VERSION
from rrsis_bench.eval.metrics import compute_metrics
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.eval.scoring import Scores
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board import rows as board_rows
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record, Split
from rrsis_bench.results.render.terminal import board as show
from rrsis_bench.run import provenance
from rrsis_bench.run.plan import Setting
from rrsis_bench.train import checkpoint


@dataclass(frozen=True)
class Origin:
    """What made the masks of a record; the fields are the record's."""

    model: str
    model_source: str
    size: str
    seed: int
    epochs: int | None
    variant: list[str]
    selection_split: Split | None
    selection_metric: str | None
    weights_sha256: str | None
    predictions_sha256: str | None
    init_weights: dict[str, str]
    device: str
    device_name: str | None
    world_size: int
    precision: str
    efficiency: Efficiency


def origin_of(setting: Setting, model: Segmenter, fabric: Fabric, weights_sha256: str) -> Origin:
    """The origin of masks that `model` makes here, trained as the configuration says; measures what it costs."""
    from rrsis_bench.eval.efficiency import measure

    config = setting.config
    return Origin(
        model=config["model"]["name"],
        model_source=registry.find(config["model"]["name"]).source,
        size=config["size"]["name"],
        seed=config["seed"],
        epochs=setting.recipe.epochs,
        variant=list(setting.variant),
        selection_split=setting.protocol.selection_split,
        selection_metric=setting.protocol.selection_metric,
        weights_sha256=weights_sha256,
        predictions_sha256=None,
        init_weights=_initial_weights(config["model"]["args"]),
        device=fabric.device.type,
        device_name=provenance.device_name(fabric.device),
        world_size=fabric.world_size,
        precision=config["trainer"]["precision"],
        efficiency=measure(model, fabric.device),
    )


def make_record(
    setting: Setting,
    origin: Origin,
    scores: Scores,
    *,
    started: datetime,
    wall_s: float,
    split: Split = "test",
    notes: Sequence[str] = (),
) -> Record:
    """The record of a scored split; what was not measured stays None."""
    scored = compute_metrics(scores.table, setting.protocol)
    sha, dirty = setting.git
    expected = setting.data.expected
    return Record(
        **vars(origin),
        run_id=setting.run_id,
        status="finished",
        data=setting.config["data"]["name"],
        dataset_fingerprint=setting.data.fingerprint,
        split=split,
        n=len(scores.table),
        n_expected=expected[split] if expected else None,
        limit=setting.data.limit or None,
        train_hash=setting.train_hash,
        eval_hash=setting.eval_hash,
        protocol=setting.protocol,
        metric_version=METRIC_VERSION,
        git_sha=sha,
        git_dirty=dirty,
        versions=provenance.versions(),
        started_utc=started.isoformat(timespec="seconds"),
        wall_s=round(wall_s, 1),
        overall=scored.overall,
        control=scores.controls,
        per_category=scored.per_category,
        per_size=scored.per_size,
        per_language=scored.per_language,
        per_target=scored.per_target,
        notes=[*notes, *(setting.config["data"].get("notes") or [])],
        dataset_card=setting.dataset_card,
    )


def _initial_weights(args: Mapping[str, Any]) -> dict[str, str]:
    """Backbone -> where its first weights came from: ``random``, a hub id, or a local file's sha256.

    ``a local folder`` and, where a checkpoint that holds all weights was scored without it, ``a file that is not
    here``: no path of this machine enters a record.
    """
    found = {}
    for part, value in args.items():
        source = value.get("weights") if isinstance(value, Mapping) else None
        if source:
            path = Path(source)
            if source == "random" or str(source).startswith("hub:"):
                found[part] = str(source)
            elif path.is_file():
                found[part] = checkpoint.sha256(path)
            else:
                found[part] = "a local folder" if path.is_dir() else "a file that is not here"
    return found


def stored_path(setting: Setting) -> Path:
    """Where a run keeps its own copy of its record."""
    return store.record_path(
        setting.run_dir / "record", setting.config["data"]["name"], setting.config["model"]["name"], setting.run_id
    )


def keep(setting: Setting, record: Record, scores: Scores) -> None:
    """Store the record in the run's own folder first, so that nothing computed is lost whatever happens next."""
    store.write(setting.run_dir / "record", record, scores.table, force=True)


def publish(setting: Setting, record: Record, scores: Scores | None, console: Console) -> None:
    """Enter the record into the leaderboards, write the tables anew and show them.

    A record is immutable: where the leaderboards already hold this run (a committed one that was run again here), it
    stays, and the difference is shown; force=true replaces it.
    """
    path = store.record_path(setting.results, record.data, record.model, record.run_id)
    if path.exists() and not setting.config["force"]:
        kept = store.read(path)
        if scores is not None:
            console.print(
                f"The leaderboards already hold {record.run_id}: mIoU {kept.value('miou') or 0:.2f} on "
                f"{kept.device_name}, {kept.started_utc}. This run reached {record.value('miou') or 0:.2f} and is kept "
                f"in {setting.run_dir}; the published record stays (force=true replaces it)."
            )
    else:
        table = scores.table if scores is not None else store.read_counts(stored_path(setting))
        store.write(setting.results, record, table, force=setting.config["force"])
    leaderboards.regenerate(setting.results)
    found = [entry for entry in store.read_all(setting.results) if entry.data == record.data]
    rows = board_rows.rank(found, setting.results)
    show.leaderboard(console, rows, highlight=record.run_id)
    show.categories(console, rows)
