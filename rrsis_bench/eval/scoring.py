"""Score one split: the real expressions, then the language controls, all under one protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightning.fabric import Fabric
from rich.console import Console
from rich.progress import Progress

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.data.loading.cache import ViewCache
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.eval import controls as control
from rrsis_bench.eval.counts import CountsTable
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.metrics import compute_overall
from rrsis_bench.eval.predictions import PredictionWriter
from rrsis_bench.eval.scores import CONTROLS, ControlScores
from rrsis_bench.interfaces import ReferringDataset, Segmenter
from rrsis_bench.stop import StopRequest


@dataclass
class Scores:
    """Integers of the real expressions, and the language controls' scores against the true targets."""

    table: CountsTable
    controls: dict[str, ControlScores] = field(default_factory=dict)


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
    stop: StopRequest,
    console: Console,
    save: Path | None = None,
    view_cache: ViewCache | None = None,
) -> Scores:
    """Predict and score the real expressions and, if `controls`, every language control that the split allows.

    `save` is a file for the masks of the real expressions, in the form that `rrsis-bench score` reads; `view_cache`
    holds images that an earlier evaluation has decoded and resized.
    """
    replaced = replaced_expressions(dataset) if controls else {}
    total = len(dataset) + sum(sum(entry is not None for entry in texts) for texts in replaced.values())
    with Progress(console=console) as progress:
        bar = progress.add_task("evaluate", total=total)

        def advance(done: int) -> None:
            progress.advance(bar, done)
            stop.raise_if_requested()

        def run(name: str, texts: Sequence[str | None] | None, writer: PredictionWriter | None = None) -> CountsTable:
            progress.update(bar, description=f"evaluate {name}")
            indices = None if texts is None else [index for index, entry in enumerate(texts) if entry is not None]
            # A sample without a replacement keeps its own expression here and is left out by `indices`.
            expressions = (
                None
                if texts is None
                else [entry if entry is not None else dataset[index].expression for index, entry in enumerate(texts)]
            )
            views = ViewDataset(
                dataset, model.views, text, native_masks=True, expressions=expressions, view_cache=view_cache
            )
            return predict_and_count(
                model,
                views,
                protocol,
                fabric,
                batch_size=batch_size,
                num_workers=num_workers,
                indices=indices,
                on_batch=advance,
                on_mask=writer.add if writer else None,
            )

        with PredictionWriter(save) if save else contextlib.nullcontext() as writer:
            scores = Scores(run(dataset.split, None, writer))
        for name, texts in replaced.items():
            overall = compute_overall(run(name, texts), protocol)
            scores.controls[name] = ControlScores(overall.n, overall.scores)
    return scores
