"""From predicted masks to a record, and from the record to the leaderboards.

`score_and_record` is the one sequence of `bench`, `evaluate` and `score`: score the splits, their language controls,
the probes and the costs, then write the records to the run's folder. `publish` enters records into the leaderboards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from lightning.fabric import Fabric

from rrsis_bench import registry
from rrsis_bench.config import hashes
from rrsis_bench.config.label import settings
from rrsis_bench.config.leakage import leakage_notes
from rrsis_bench.config.protocol import METRIC_VERSION
from rrsis_bench.config.schema import Config, ModelCard
from rrsis_bench.console import Terminal
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.errors import reason
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.efficiency import measure
from rrsis_bench.eval.metrics import compute_metrics
from rrsis_bench.eval.probing import bind as bind_probes
from rrsis_bench.eval.probing import to_csv_gz
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.eval.scoring import Keep, Scores, score_split
from rrsis_bench.files import sha256_bytes, write_files
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.resources import CHECKOUT
from rrsis_bench.results import leaderboards
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Attempt, DatasetCard, Record, Split
from rrsis_bench.results.render.terminal import board as show
from rrsis_bench.run.data import known_scenes, view_cache
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.run.plan import RunPlan
from rrsis_bench.run.provenance import RunProvenance, any_dirty, attempt_notes, device_name, initial_weights, versions
from rrsis_bench.run.sources import sources_sha256
from rrsis_bench.world import World


class MaskSource(Protocol):
    """Anything that can be scored: a model, or masks from outside."""

    def score(self, plan: RunPlan, split: Split, run: RunFolder, console: Terminal) -> Scores:
        """Count the pixels of every sample of an opened split, and score the language controls if there are any."""

    def provenance(self, plan: RunPlan, console: Terminal) -> RunProvenance:
        """Return the origin of the masks; called after `score`."""

    def notes(self, plan: RunPlan) -> list[str]:
        """Return notes that a reader of the row must know."""


@dataclass(frozen=True, slots=True)
class ModelMasks:
    """The masks that a model of this suite predicts here.

    Attributes:
        model: with its weights, on the device.
        text: its text pipeline.
        fabric: device and precision.
        weights_sha256: of the weights.
        save: whether the predicted masks are kept in the run's folder.
    """

    model: Segmenter
    text: TextPipeline
    fabric: Fabric
    weights_sha256: str
    save: bool

    def score(self, plan: RunPlan, split: Split, run: RunFolder, console: Terminal) -> Scores:
        """Predict the masks of a split and of its language controls, and count their pixels.

        Batches that an interrupted evaluation has scored in `run` are not predicted again.
        """
        saved = run.predictions(split) if self.save else None
        identity = {
            "weights": self.weights_sha256,
            "data": plan.data.fingerprint,
            "limit": plan.data.limit,
            "split": split,
            "eval_hash": plan.eval_hash,
            "device": self.fabric.device.type,
            "sources": sources_sha256(plan.sources),
        }
        dataset = plan.data.splits[split]
        scores = score_split(
            self.model,
            dataset,
            self.text,
            plan.protocol,
            self.fabric,
            batch_size=plan.config.trainer.eval_batch_size,
            num_workers=plan.config.trainer.num_workers,
            controls=plan.config.controls,
            console=console,
            save=saved,
            view_cache=view_cache(plan.config.data),
            loader_timeout=plan.config.trainer.loader_timeout,
            keep=Keep(run.evaluation, identity),
            probes=bind_probes(plan.config.probes),
            scenes=known_scenes(plan.config.data, dataset),
        )
        for name, why in scores.skipped.items():
            console.print(f"Probe {name} was not asked: {why}.", soft_wrap=True)
        if scores.cases:
            write_files({run.probes(split): to_csv_gz(scores.cases)})
        if saved:
            console.print(f"Predictions: {saved}", soft_wrap=True)
        return scores

    def provenance(self, plan: RunPlan, console: Terminal) -> RunProvenance:
        """Return the origin of masks whose model was trained as the plan says; measures the model's costs."""
        config = plan.config
        return RunProvenance(
            model=config.model.name,
            model_source=registry.find(config.model.name).source,
            size=config.size.name,
            seed=config.seed,
            epochs=config.train.epochs,
            variant=list(plan.variant),
            selection_split=plan.protocol.selection_split,
            selection_metric=plan.protocol.selection_metric,
            weights_sha256=self.weights_sha256,
            init_weights=initial_weights(config.model.args),
            device=self.fabric.device.type,
            device_name=device_name(self.fabric.device),
            world_size=self.fabric.world_size,
            precision=config.trainer.precision,
            git_sha=plan.git[0],
            git_dirty=plan.git[1],
            efficiency=_costs(self.model, self.fabric.device, console),
            trained_on=seen_data(config.model.card),
        )

    def notes(self, plan: RunPlan) -> list[str]:  # noqa: ARG002 - part of the protocol
        """Name the tagger of noun phrases if it is not the suite's own, and the parser: others find other words."""
        tagger, heads = self.text.tagger, self.text.heads
        notes = [] if tagger in (None, "lexicon") else [f"phrases tagged by NLTK's {tagger} tagger"]
        return notes if heads is None else [*notes, f"heads of words by {heads.name}"]


def seen_data(card: ModelCard, *, released: bool = False) -> list[str] | None:
    """Return what a card says that the weights have seen, those of the authors if `released`; None if nothing."""
    names = [*card.trained_on, *(card.weights_trained_on if released else ())]
    return list(dict.fromkeys(names)) or None


def _costs(model: Segmenter, device: torch.device, console: Terminal) -> Efficiency:
    """Measure the model's costs; empty after a warning if that fails, because the scores do not depend on it."""
    try:
        return measure(model, device)
    except Exception as error:  # noqa: BLE001 - anything that a model or the FLOP counter raises
        text = f"The model's costs were not measured: {reason(error)}."
        console.print(text, style="yellow", soft_wrap=True)
        return Efficiency()


def score_and_record(
    plan: RunPlan, source: MaskSource, run: RunFolder, console: Terminal, world: World | None = None
) -> list[tuple[Record, CountsTable]]:
    """Score ``splits`` and write a record of each to the run's folder.

    Args:
        plan: configuration, data and names.
        source: makes the masks.
        run: the folder that keeps the record.
        console: shows progress.
        world: the processes of the run; None: this one alone. Process 0 writes the records.

    Returns:
        The records, each with the integers of its samples, in the order of ``splits``; empty but in process 0.
    """
    world, found = world or World(), []
    provenance: RunProvenance | None = None

    def record(split: Split, scores: Scores) -> tuple[Record, CountsTable]:
        nonlocal provenance
        provenance = provenance or source.provenance(plan, console)  # measures the costs, once
        written = _record(plan, source, provenance, scores, split, run.manifest.attempts)
        run.write_record(written, scores.table)
        return written, scores.table

    for split in plan.config.splits:
        scores = source.score(plan, split, run, console)
        entry = world.on_main(partial(record, split, scores))
        found += [entry] if entry else []
    return found


def _record(
    plan: RunPlan, source: MaskSource, provenance: RunProvenance, scores: Scores, split: Split,
    attempts_of_run: Sequence[Attempt],
) -> Record:  # fmt: skip
    attempts = list(attempts_of_run)
    dirty = any_dirty([provenance.git_dirty, *(attempt.git_dirty for attempt in attempts)])
    scores.table.membership = plan.data.membership(split)
    scored = compute_metrics(scores.table, plan.protocol)
    data, config = plan.data, plan.config
    return Record(
        **{name: getattr(provenance, name) for name in RunProvenance.__dataclass_fields__ if name != "git_dirty"},
        git_dirty=dirty,
        attempts=attempts,
        run_id=hashes.scored_id(plan.run_id, split),
        status="finished",
        data=config.data.name,
        dataset_fingerprint=data.fingerprint,
        train_overlap=data.train_overlap,
        settings=settings(config),
        split=split,
        n=len(scores.table),
        n_expected=data.expected[split] if data.expected else None,
        limit=data.limit or None,
        train_hash=plan.train_hash,
        eval_hash=plan.eval_hash,
        protocol=plan.protocol,
        metric_version=METRIC_VERSION,
        versions=versions(),
        started_utc=plan.started.isoformat(timespec="seconds"),
        wall_s=round(plan.elapsed(), 1),
        overall=scored.overall,
        control=scores.controls,
        probes=scores.probes or None,
        per_category=scored.per_category,
        per_size=scored.per_size,
        per_language=scored.per_language,
        per_target=scored.per_target,
        per_stratum=scored.per_stratum,
        notes=[
            *source.notes(plan),
            *_split_notes(provenance, split),
            *leakage_notes(provenance.trained_on or (), config.data.name),
            *data.notes,
            *attempt_notes(attempts),
            *config.data.notes,
            *(note for found in scores.probes.values() for note in found.notes),
        ],
        dataset_card=dataset_card(plan),
    )


def _split_notes(provenance: RunProvenance, split: Split) -> list[str]:
    """Return a note if the scored split has selected the weights: its score is optimistic."""
    return ["checkpoint selected on the scored split"] if provenance.selection_split == split else []


def dataset_card(plan: RunPlan) -> DatasetCard | None:
    """Return the dataset's card with its split sizes; None if its configuration has none."""
    card = plan.config.data.card
    if card is None:
        return None
    return DatasetCard(
        title=card.title,
        source=card.source,
        licence=card.licence,
        citation=card.bibtex,
        defects=[" ".join(defect.split()) for defect in card.defects],
        samples=dict(plan.data.expected or plan.data.found),
        overlap=[" ".join(line.split()) for line in card.overlap] or None,
    )


def publish(config: Config, scored: Sequence[tuple[Record, CountsTable]], console: Terminal) -> None:
    """Enter the records of a run, with their integers, into the leaderboards, write the tables and show them.

    A record is immutable. If the leaderboards already hold one of this run, it stays and the two scores are shown;
    ``force=true`` replaces it. If that one was trained on another kind of machine and has other integers, this record
    is a further seed of the row, under the run id with the machine's hash.
    """
    root = _published_root(config, console)
    shown = [_enter(root, record, table, console, force=config.force) for record, table in scored]
    rows = [row for row in leaderboards.regenerate_and_rank(root) if row.head.data == config.data.name]
    show.leaderboard(console, rows, highlight=shown)
    show.categories(console, rows)
    for row in rows:
        if any(record.run_id in shown for record in row.records):
            show.probe_summary(console, row)


def _enter(root: Path, record: Record, table: CountsTable, console: Terminal, *, force: bool) -> str:
    """Store a record, unless it is there; return its run id in the leaderboards."""
    path = store.record_path(root, record.data, record.model, record.run_id)
    if path.exists() and _is_repetition(store.read(path), record):
        place = sha256_bytes(record.machine.encode())[:8]
        record = dataclasses.replace(record, run_id=f"{record.run_id}-{place}")
        path = store.record_path(root, record.data, record.model, record.run_id)
        console.print(f"Repeated on {record.machine}: a further seed of the row, {record.run_id}.", soft_wrap=True)
    if path.exists() and not force:
        kept = store.read(path)
        if kept != record:
            console.print(
                f"The leaderboards already hold {record.run_id}: mIoU {_miou(kept)} on {kept.device_name}, "
                f"{kept.started_utc}. This time it is {_miou(record)}. The published record stays; force=true replaces "
                "it."
            )
    else:
        store.write(root, record, table, force=force)
    return record.run_id


def _published_root(config: Config, console: Terminal) -> Path:
    """Return the folder of the records and tables: not the tracked one for data that stays private."""
    root = Path(config.leaderboards)
    if config.data.publish or CHECKOUT is None or root.resolve() != (CHECKOUT / "leaderboards").resolve():
        return root
    private = Path(config.runs) / "leaderboards"
    console.print(
        f"Results on data={config.data.name} go to {private}. data.publish=true enters them into the tracked tables.",
        soft_wrap=True,
    )
    return private


def _is_repetition(kept: Record, record: Record) -> bool:
    """Return whether two records of one run id are trainings on different kinds of machines."""
    trained = bool(kept.attempts) and bool(record.attempts)
    return trained and kept.machine != record.machine and kept.weights_sha256 != record.weights_sha256


def _miou(record: Record) -> str:
    return f"{record.value('miou') or 0:.2f}"
