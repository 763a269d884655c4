"""Predict a split and count pixels: the only way by which a model's predictions become scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning.fabric import Fabric

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.loading.reader import BatchReader
from rrsis_bench.eval.counts import Array, CountsTable, count_pixels
from rrsis_bench.eval.mask_maker import MaskMaker, scoring_order
from rrsis_bench.eval.progress import ScoringProgress
from rrsis_bench.interfaces import ImageFirstSegmenter, Sample, Segmenter


@torch.no_grad()
def predict_and_count(
    model: Segmenter,
    data: ViewDataset,
    protocol: Protocol,
    fabric: Fabric,
    *,
    batch_size: int,
    num_workers: int = 0,
    loader_timeout: float = 0,
    indices: Sequence[int] | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_mask: Callable[[Sample, Array], None] | None = None,
    progress: ScoringProgress | None = None,
) -> CountsTable:
    """Predict every sample of `data` once and return its integers, in the order of `indices`.

    Args:
        model: put into eval mode and left in it.
        data: views and text, made with ``native_masks=True``.
        protocol: decides the size of the masks and how logits are resized.
        fabric: device and precision.
        batch_size: samples per forward pass; a mask can only change at logits close to 0.
        num_workers: loader processes.
        loader_timeout: seconds to wait for a batch of them; 0: for ever.
        indices: of the samples to predict, all by default.
        on_batch: called with the number of samples done, for progress and orderly stops.
        on_mask: called with every sample and its predicted mask (bool, at the size that the protocol scores) in the
            order of prediction: the order of `indices`, grouped by image if the model encodes images first.
        progress: keeps the scored batches, and gives those of an earlier process, which are not predicted again. The
            integers are the same with and without it.
    """
    model.eval()
    wanted = list(range(len(data))) if indices is None else list(indices)
    order = scoring_order(model, data.dataset, wanted)
    make_masks = MaskMaker(model, fabric, align_corners=protocol.align_corners)
    table = CountsTable()
    visited = [wanted[position] for position in order]
    done = _take_over(progress, data, visited, table, on_mask)
    if done and on_batch:
        on_batch(done)
    reader = BatchReader(
        data,
        batch_size,
        visited[done:],
        num_workers=num_workers,
        pin_memory=fabric.device.type == "cuda",
        timeout=loader_timeout,
    )
    with reader as batches:
        for batch in batches:
            side = batch.target_BSS.shape[-1]
            sizes = [protocol.scored_size(native_HW.shape, side) for native_HW in batch.masks]
            masks = make_masks(batch, sizes)
            for sample, mask_HW, native_HW, target_SS in zip(
                batch.samples, masks, batch.masks, batch.target_BSS, strict=True
            ):
                pred_HW = mask_HW.cpu().numpy()
                if on_mask:
                    on_mask(sample, pred_HW)
                native = protocol.resolution == "native"
                row = (
                    count_pixels(sample, pred_HW, native_HW)
                    if native
                    else count_pixels(sample, pred_HW, target_SS.numpy().astype(bool), native_HW)
                )
                table.add(row)
                if progress:
                    progress.add(row, pred_HW if on_mask else None)
            if progress and _begins_new_image(model, data, visited, len(table)):
                progress.flush()
            if on_batch:
                on_batch(len(batch))
    rows = dict(zip(order, table, strict=True))
    return CountsTable([rows[position] for position in range(len(wanted))])


def _take_over(
    progress: ScoringProgress | None,
    data: ViewDataset,
    visited: Sequence[int],
    table: CountsTable,
    on_mask: Callable[[Sample, Array], None] | None,
) -> int:
    """Add what an earlier process has scored to the table; return the number of samples."""
    if progress is None:
        return 0
    progress.require_order([data.dataset[index].sample_id for index in visited])
    table.extend(progress.rows)
    if on_mask:
        for place, index in enumerate(visited[: len(table)]):
            on_mask(data.dataset[index], progress.mask(place))
    return len(table)


def _begins_new_image(model: Segmenter, data: ViewDataset, visited: Sequence[int], done: int) -> bool:
    """Return whether prediction may continue after `done` samples with the batches of an uninterrupted one.

    `MaskMaker` keeps the encoded image that two batches share, so an `ImageFirstSegmenter` continues at a new image.
    """
    if not isinstance(model, ImageFirstSegmenter) or done >= len(visited):
        return True
    last, following = (data.dataset[visited[place]].image_id for place in (done - 1, done))
    return last != following
