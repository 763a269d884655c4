"""Predict a split and count pixels: the only way by which a model's predictions become scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning.fabric import Fabric

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.data.loading.loader import ViewDataset, make_loader
from rrsis_bench.eval.counts import Array, CountsTable, count_pixels
from rrsis_bench.eval.mask_maker import MaskMaker, scoring_order
from rrsis_bench.interfaces import Sample, Segmenter


@torch.no_grad()
def predict_and_count(
    model: Segmenter,
    data: ViewDataset,
    protocol: Protocol,
    fabric: Fabric,
    *,
    batch_size: int,
    num_workers: int = 0,
    indices: Sequence[int] | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_mask: Callable[[Sample, Array], None] | None = None,
) -> CountsTable:
    """Predict every sample of `data` once and return its integers, in the order of `indices`.

    Args:
        model: put into eval mode and left in it.
        data: views and text, made with ``native_masks=True``.
        protocol: decides the size of the masks and how logits are resized.
        fabric: device and precision.
        batch_size: samples per forward pass; a mask can only change at logits close to 0.
        num_workers: loader processes.
        indices: of the samples to predict, all by default.
        on_batch: called with the number of samples done, for progress and orderly stops.
        on_mask: called with every sample and its predicted mask (bool, at the size that the protocol scores) in the
            order of prediction: the order of `indices`, grouped by image if the model encodes images first.
    """
    model.eval()
    wanted = list(range(len(data))) if indices is None else list(indices)
    order = scoring_order(model, data.dataset, wanted)
    make_masks = MaskMaker(model, fabric, align_corners=protocol.align_corners)
    table = CountsTable()
    on_gpu = fabric.device.type == "cuda"
    visited = [wanted[position] for position in order]
    for batch in make_loader(data, batch_size, visited, num_workers=num_workers, pin_memory=on_gpu):
        side = batch.target_BSS.shape[-1]
        sizes = [protocol.scored_size(native_HW.shape, side) for native_HW in batch.masks]
        masks = make_masks(batch, sizes)
        for sample, mask_HW, native_HW, target_SS in zip(
            batch.samples, masks, batch.masks, batch.target_BSS, strict=True
        ):
            pred_HW = mask_HW.cpu().numpy()
            if on_mask:
                on_mask(sample, pred_HW)
            if protocol.resolution == "native":
                table.add(count_pixels(sample, pred_HW, native_HW))
            else:
                table.add(count_pixels(sample, pred_HW, target_SS.numpy().astype(bool), native_HW))
        if on_batch:
            on_batch(len(batch))
    rows = dict(zip(order, table, strict=True))
    return CountsTable([rows[position] for position in range(len(wanted))])
