"""Predict masks from batches. A model that encodes images without the text encodes each image once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from lightning.fabric import Fabric
from torch import Tensor

from rrsis_bench.interfaces import (
    Batch,
    ImageFirstSegmenter,
    NonFiniteLogits,
    ReferringDataset,
    Segmenter,
    distinct_images,
)


def scoring_order(model: Segmenter, dataset: ReferringDataset, indices: Sequence[int]) -> list[int]:
    """Return positions of `indices` in the order in which `model` predicts them.

    For an `ImageFirstSegmenter`, samples are grouped by image, images ordered by their first sample. For any other
    model it is the given order, so that its batches do not change.
    """
    if not isinstance(model, ImageFirstSegmenter):
        return list(range(len(indices)))
    groups: dict[str, list[int]] = {}
    for place, index in enumerate(indices):
        groups.setdefault(dataset[index].image_id, []).append(place)
    return [place for places in groups.values() for place in places]


class MaskMaker:
    """Makes masks, batch by batch.

    An `ImageFirstSegmenter` encodes each image of a batch once. The last image of the previous batch is kept, so that
    an image with consecutive samples is encoded once. Only these images are held in memory.

    Args:
        model: in eval mode.
        fabric: device and precision.
        align_corners: the protocol's way to resize logits.
    """

    def __init__(self, model: Segmenter, fabric: Fabric, *, align_corners: bool):
        self.model, self.fabric, self.align_corners = model, fabric, align_corners
        self._last: tuple[str, dict[str, Tensor]] | None = None  # image id -> the encoded image, one row

    @torch.no_grad()
    def __call__(self, batch: Batch, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return one bool (H, W) mask per sample on the device; all batches must come from one dataset.

        Args:
            batch: from a loader.
            sizes: (H, W) per sample.

        Raises:
            NonFiniteLogits: naming the samples.
        """
        try:
            return self._masks(batch, sizes)
        except NonFiniteLogits as error:
            names = [batch.samples[row].sample_id for row in error.rows]
            raise NonFiniteLogits(error.rows, names) from error

    def _masks(self, batch: Batch, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        text = self._moved(batch.text)
        with self.fabric.autocast():
            if isinstance(self.model, ImageFirstSegmenter):
                encoded = self._encoded(self.model, batch)
                return self.model.predict_encoded_masks(encoded, text, sizes, align_corners=self.align_corners)
            return self.model.predict_masks(self._moved(batch.views), text, sizes, align_corners=self.align_corners)

    def _moved(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.fabric.device, non_blocking=True) for name, tensor in tensors.items()}

    def _encoded(self, model: ImageFirstSegmenter, batch: Batch) -> dict[str, Tensor]:
        """One row per sample of the batch, repeated if samples share an image."""
        images = [sample.image_id for sample in batch.samples]
        if self._last is not None and self._last[0] not in images:
            self._last = None
        new, places = distinct_images(images, known=[] if self._last is None else [self._last[0]])
        found = {} if self._last is None else self._last[1]
        if new:
            whole = len(new) == len(batch)
            views = {name: view if whole else view[new] for name, view in batch.views.items()}
            fresh = model.encode_image(self._moved(views))
            model.require_rows(fresh, len(new))
            found = {name: torch.cat([found[name], row]) if found else row for name, row in fresh.items()}
        # A copy of its own, or the whole batch would be held.
        self._last = images[-1], {name: tensor[places[-1:]].clone() for name, tensor in found.items()}
        if places == list(range(max(places) + 1)):
            return found
        return {name: tensor[places] for name, tensor in found.items()}
