"""Predict a split and count pixels: the only way by which a model's predictions become scores."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
from lightning.fabric import Fabric

from rrsis_bench.config.protocol import Protocol
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.loading.reader import BatchReader
from rrsis_bench.data.pixels import rle
from rrsis_bench.eval.counts import Array, CountsTable, count_pixels
from rrsis_bench.eval.mask_maker import MaskMaker, scoring_order
from rrsis_bench.eval.progress import Scored, ScoringProgress
from rrsis_bench.interfaces import Batch, ImageFirstSegmenter, Sample, Segmenter
from rrsis_bench.world import World

Units = list[list[int]]
"""Indices of the samples of every forward pass; the same for any number of processes."""


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

    With several processes, each predicts a range of the batches of a single process, so that every sample is scored
    exactly once and with the same integers. All of them return the whole table.

    Args:
        model: put into eval mode and left in it.
        data: views and text, made with ``native_masks=True``.
        protocol: decides the size of the masks and how logits are resized.
        fabric: device, precision and processes.
        batch_size: samples per forward pass; a mask can only change at logits close to 0.
        num_workers: loader processes.
        loader_timeout: seconds to wait for a batch of them; 0: for ever.
        indices: of the samples to predict, all by default.
        on_batch: called with the number of samples done, for progress and orderly stops.
        on_mask: called with every sample and its predicted mask (bool, at the size that the protocol scores) in the
            order of prediction: the order of `indices`, grouped by image if the model encodes images first. With
            several processes, all of them pass a function, and that of process 0 is called.
        progress: keeps the scored batches, and gives those of an earlier process, which are not predicted again. The
            integers are the same with and without it.

    Raises:
        UserError: a sample cannot be read, in any of the processes.
    """
    world = World.of(fabric)
    model.eval()
    wanted = list(range(len(data))) if indices is None else list(indices)
    visited = [wanted[position] for position in scoring_order(model, data.dataset, wanted)]
    units = [visited[start : start + batch_size] for start in range(0, len(visited), batch_size)]
    scored: dict[str, Scored] = {}
    for known in world.gather({} if progress is None else progress.scored):
        scored |= known
    pending = [unit for unit in units if any(data.dataset[index].sample_id not in scored for index in unit)]
    left = sum(map(len, pending))
    if on_batch and left < len(visited):
        on_batch(len(visited) - left)
    mine = _share(pending, model, data, world)
    make_masks = MaskMaker(model, fabric, align_corners=protocol.align_corners)
    keep_masks = on_mask is not None and (progress is not None or world.size > 1)

    def predicted(batches: Iterator[Batch]) -> Iterator[tuple[Sample, Array]]:
        """Predict this process's batches one after another, and enter their integers into `scored`."""
        for place, batch in enumerate(batches):
            side = batch.target_BSS.shape[-1]
            sizes = [protocol.scored_size(native_HW.shape, side) for native_HW in batch.masks]
            masks = make_masks(batch, sizes)
            for sample, mask_HW, native_HW, target_SS in zip(
                batch.samples, masks, batch.masks, batch.target_BSS, strict=True
            ):
                pred_HW = mask_HW.cpu().numpy()
                native = protocol.resolution == "native"
                row = (
                    count_pixels(sample, pred_HW, native_HW)
                    if native
                    else count_pixels(sample, pred_HW, target_SS.numpy().astype(bool), native_HW)
                )
                kept = scored[row.sample_id] = row, rle.encode(pred_HW) if keep_masks else None
                if progress:
                    progress.add(*kept)
                yield sample, pred_HW
            if progress and _begins_new_image(model, data, mine, place + 1):
                progress.flush()
            if on_batch:
                on_batch(len(batch))

    reader = BatchReader(
        data,
        batch_size,
        list(chain.from_iterable(mine)),
        num_workers=num_workers,
        pin_memory=fabric.device.type == "cuda",
        timeout=loader_timeout,
    )
    with world.agreed(), reader as batches:
        results = predicted(batches)
        if world.size > 1:
            for _ in results:
                pass
        else:
            _in_order(units, pending, data, results, scored, on_mask)
    if world.size > 1:
        ids = {data.dataset[index].sample_id for unit in mine for index in unit}
        for found in world.gather({name: scored[name] for name in ids}):
            scored |= found
        if on_mask and world.is_main:
            _in_order(units, [], data, iter(()), scored, on_mask)
        if on_batch and world.is_main:
            on_batch(left - sum(map(len, mine)))
    return CountsTable([scored[data.dataset[index].sample_id][0] for index in wanted])


def _share(pending: Units, model: Segmenter, data: ViewDataset, world: World) -> Units:
    """Return this process's range of the forward passes that are left.

    `MaskMaker` keeps the encoded image that two batches share, so a range of an `ImageFirstSegmenter` begins with a new
    image.
    """
    if world.size == 1:
        return pending
    starts = [place for place in range(len(pending)) if not place or _begins_new_image(model, data, pending, place)]
    starts.append(len(pending))
    first, last = (
        starts[bisect_left(starts, len(pending) * rank // world.size)] for rank in (world.rank, world.rank + 1)
    )
    return pending[first:last]


def _in_order(
    units: Units,
    pending: Units,
    data: ViewDataset,
    results: Iterator[tuple[Sample, Array]],
    scored: dict[str, Scored],
    on_mask: Callable[[Sample, Array], None] | None,
) -> None:
    """Visit all samples in the order of a single process: those of `pending` from `results`, others as they are kept.

    Args:
        units: all forward passes.
        pending: those of `results`.
        data: the samples.
        results: predicted samples with their bool (H, W) masks.
        scored: integers and kept masks by sample id.
        on_mask: called with every sample and its mask.
    """
    following = iter(pending)
    upcoming = next(following, None)
    for unit in units:
        if unit == upcoming:
            for _ in unit:
                sample, mask_HW = next(results)
                if on_mask:
                    on_mask(sample, mask_HW)
            upcoming = next(following, None)
        elif on_mask:
            for index in unit:
                sample = data.dataset[index]
                _, mask = scored[sample.sample_id]
                if mask is None:
                    raise ValueError(f"The mask of {sample.sample_id} was not kept.")
                on_mask(sample, rle.decode(mask))
    for _ in results:  # what follows the last sample: its batch is kept and counted
        pass


def _begins_new_image(model: Segmenter, data: ViewDataset, units: Units, place: int) -> bool:
    """Return whether the unit at `place` can begin a range without changing a mask: see `_share`."""
    if not isinstance(model, ImageFirstSegmenter) or place >= len(units):
        return True
    last, following = (data.dataset[index].image_id for index in (units[place - 1][-1], units[place][0]))
    return last != following
