"""Score one split: the real expressions, then the language controls and the probes, all under one protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.progress import Progress

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.console import Terminal
from rrsis_bench.data.loading.cache import ViewCache
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.pixels import rle
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.errors import UserError, is_out_of_memory
from rrsis_bench.eval import controls as control
from rrsis_bench.eval.counts import Array, CountsTable
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.metrics import compute_overall
from rrsis_bench.eval.predictions import PredictionWriter
from rrsis_bench.eval.probes.probe import KnownScenes, Probe
from rrsis_bench.eval.probing import CaseFigure, Inquiry
from rrsis_bench.eval.progress import ScoringProgress
from rrsis_bench.eval.scores import CONTROLS, ControlScores, ProbeScores
from rrsis_bench.heartbeat import Heartbeat
from rrsis_bench.interfaces import ReferringDataset, Sample, Segmenter
from rrsis_bench.world import World


@dataclass
class Scores:
    """Integers of the real expressions, and the scores of the language controls and of the probes.

    Attributes:
        table: one row per sample.
        controls: against the true targets.
        probes: of process 0; empty in the others.
        cases: every comparison of the probes.
        skipped: probe -> why the dataset does not allow it.
    """

    table: CountsTable
    controls: dict[str, ControlScores] = field(default_factory=dict)
    probes: dict[str, ProbeScores] = field(default_factory=dict)
    cases: list[CaseFigure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Keep:
    """Where the scored batches of an evaluation are kept until its record is written.

    Attributes:
        folder: one file per pass.
        identity: what integers depend on, apart from the pass and its batch size: weights, data, protocol, precision.
    """

    folder: Path
    identity: Mapping[str, Any]

    def progress(
        self, name: str, batch_size: int, world: World, *, saving: bool, asked: str | None = None
    ) -> ScoringProgress:
        """Return this process's progress of one pass.

        Args:
            name: of the pass.
            batch_size: samples per forward pass.
            world: the processes.
            saving: whether masks are kept too.
            asked: hash of the questions of a pass for probes.
        """
        identity = {**self.identity, "pass": name, "batch_size": batch_size, "saving": saving}
        identity |= {"questions": asked} if asked else {}
        stem = f"{name}-{batch_size}"

        def file(rank: int) -> Path:
            return self.folder / (f"{stem}.{rank}.jsonl" if rank else f"{stem}.jsonl")

        others: list[Path] = []
        if world.is_main:  # an earlier start may have had more processes
            own = {file(rank) for rank in range(world.size)}
            others = [path for path in sorted(self.folder.glob(f"{stem}.*.jsonl")) if path not in own]
        return ScoringProgress(file(world.rank), identity, others)


def replaced_expressions(dataset: ReferringDataset) -> dict[str, list[str | None]]:
    """Return control name -> one replaced expression per sample, None if the control has none for it."""
    samples = [dataset[index] for index in range(len(dataset))]
    images = [sample.image_id for sample in samples]
    expressions = [sample.expression for sample in samples]
    replaced = (
        control.shuffled_text(images, expressions),
        control.same_image_other_expression(images, expressions),
        control.category_only([sample.category for sample in samples]),
    )
    found = dict(zip(CONTROLS, replaced, strict=True))
    return {name: texts for name, texts in found.items() if any(text is not None for text in texts)}


def score_split(
    model: Segmenter,
    dataset: ReferringDataset,
    text: TextPipeline,
    protocol: Protocol,
    fabric: Fabric,
    *,
    batch_size: int,
    num_workers: int,
    controls: bool,
    console: Terminal,
    save: Path | None = None,
    view_cache: ViewCache | None = None,
    loader_timeout: float = 0,
    keep: Keep | None = None,
    probes: Mapping[str, Probe] | None = None,
    scenes: KnownScenes | None = None,
) -> Scores:
    """Predict and score the real expressions, the probes and, if `controls`, every control that the split allows.

    If memory runs out, the pass starts again with half the batch size, down to 1. The following passes keep it.

    Args:
        model: with its weights, on the device.
        dataset: the split.
        text: the model's text pipeline.
        protocol: of the scores.
        fabric: device and precision.
        batch_size: samples per forward pass.
        num_workers: loader processes.
        controls: whether the language controls are scored.
        console: shows progress.
        save: file for the masks of the real expressions, in the form that `rrsis-bench score` reads.
        view_cache: images that an earlier evaluation has decoded and resized.
        loader_timeout: seconds to wait for a batch of the loader processes; 0: for ever.
        keep: where scored batches are kept until the record is written; None: nowhere.
        probes: name -> probe.
        scenes: what is known about the images beyond the samples, for the probes.

    Raises:
        UserError: a sample cannot be read, or one sample alone does not fit into memory.
    """
    world = World.of(fabric)
    replaced = replaced_expressions(dataset) if controls else {}
    inquiry = Inquiry(dataset, probes, scenes) if probes else None
    total = len(dataset) + sum(sum(entry is not None for entry in texts) for texts in replaced.values())
    total += len(inquiry) if inquiry else 0
    given: dict[str, rle.Rle] = {}
    answered: dict[str, rle.Rle] = {}
    with Progress(console=console) as shown:
        bar = shown.add_task("evaluate", total=total)
        finished = 0

        heartbeat, counted = Heartbeat(console, total), 0

        def advance(done: int) -> None:
            nonlocal counted
            counted += done
            shown.advance(bar, done)
            heartbeat.beat(counted, lambda: shown.tasks[0].description)

        def run(
            name: str,
            asked: ReferringDataset,
            texts: Sequence[str | None] | None = None,
            *,
            file: Path | None = None,
            masks: dict[str, rle.Rle] | None = None,
        ) -> CountsTable:
            """Predict one pass; write the masks to `file`, and collect them in `masks`."""
            nonlocal batch_size, finished, counted
            shown.update(bar, description=f"evaluate {name}")
            indices = None if texts is None else [index for index, entry in enumerate(texts) if entry is not None]
            # A sample without a replacement keeps its own expression here and is left out by `indices`.
            expressions = (
                None
                if texts is None
                else [entry if entry is not None else asked[index].expression for index, entry in enumerate(texts)]
            )
            questions = asked.digest if isinstance(asked, Inquiry) else None
            read = text.lenient() if questions else text
            views = ViewDataset(
                asked, model.views, read, native_masks=True, expressions=expressions, view_cache=view_cache
            )
            saving = file is not None or masks is not None
            while True:
                progress = keep.progress(name, batch_size, world, saving=saving, asked=questions) if keep else None
                try:
                    with PredictionWriter(file) if file and world.is_main else contextlib.nullcontext() as writer:
                        table = predict_and_count(
                            model,
                            views,
                            protocol,
                            fabric,
                            batch_size=batch_size,
                            num_workers=num_workers,
                            loader_timeout=loader_timeout,
                            indices=indices,
                            on_batch=advance,
                            on_mask=_receiver(writer, masks) if saving else None,
                            progress=progress,
                        )
                    finished += len(table)
                    return table
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    if batch_size == 1:
                        raise UserError(
                            f"One sample of split '{dataset.split}' does not fit into the memory of "
                            f"{fabric.device.type}. Use a smaller size= or another trainer.precision=, or free memory."
                        ) from error
                batch_size //= 2  # outside the handler, so that the failed pass's tensors are free
                if fabric.device.type == "cuda":
                    torch.cuda.empty_cache()
                shown.update(bar, completed=finished)
                counted = finished
                console.print(
                    f"Memory ran out. '{name}' is scored again with {batch_size} samples per forward pass "
                    f"(set trainer.eval_batch_size={batch_size} to start with that).",
                    style="yellow",
                )

        scores = Scores(run(dataset.split, dataset, file=save, masks=given if inquiry else None))
        for name, texts in replaced.items():
            overall = compute_overall(run(name, dataset, texts), protocol)
            scores.controls[name] = ControlScores(overall.n, overall.scores)
        if inquiry:
            if len(inquiry):
                run("probes", inquiry, masks=answered)
            if world.is_main:
                scores.probes, scores.cases = inquiry.compare(given, answered)
            scores.skipped = inquiry.skipped
    return scores


def _receiver(writer: PredictionWriter | None, masks: dict[str, rle.Rle] | None) -> Callable[[Sample, Array], None]:
    """Return what happens to a predicted mask; in the processes that keep none, nothing."""

    def receive(sample: Sample, mask_HW: Array) -> None:
        if writer:
            writer.add(sample, mask_HW)
        if masks is not None:
            masks[sample.sample_id] = rle.encode(mask_HW)

    return receive
