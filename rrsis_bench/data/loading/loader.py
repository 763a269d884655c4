"""From samples to batches: decode once, resize per view, tokenise once per split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from rrsis_bench.data.formats.columns import Texts
from rrsis_bench.data.loading.cache import ViewCache
from rrsis_bench.data.pixels.images import read_bytes, read_picture, resize_picture
from rrsis_bench.data.pixels.rle import decode_nearest, resize_nearest
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Batch, ReferringDataset, Sample

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]

CACHE_BYTES = 2 * 1024**3
"""Upper bound of the in-memory cache per process; what does not fit is decoded again each epoch."""


class SampleError(UserError):
    """A sample that cannot be read, named by its id; the message stays plain when it comes out of a loader worker."""

    def __init__(self, message: str):
        # A worker's exception is raised anew with its whole traceback as the message: only our own words are kept.
        super().__init__(message.rpartition(f"{type(self).__module__}.{type(self).__qualname__}: ")[2].rstrip("\n"))


@dataclass(slots=True)
class Item:
    """One sample, ready to be stacked.

    Attributes:
        views: view name -> uint8 (3, S, S).
        text: text key -> int64 (L,).
        target_SS: uint8 0/1 at the main view's side.
        mask_HW: bool at native size, or None where it is not asked for.
        sample: the sample, with the expression that the model reads.
    """

    views: dict[str, np.ndarray]
    text: dict[str, np.ndarray]
    target_SS: np.ndarray
    mask_HW: np.ndarray | None
    sample: Sample


class ViewDataset(Dataset[Item]):
    """Map-style view of a dataset as a model wants it.

    Args:
        dataset: the split.
        views: view name -> side, the main view first.
        text: the token pipeline; applied to all expressions here, once.
        native_masks: also deliver each mask at its native size (evaluation).
        expressions: read instead of the dataset's own, one per sample (language controls).
        augment: (uint8 (H, W, 3), generator) -> uint8 (H, W, 3), applied to the picture before it is resized; its
            generator depends on (seed, epoch, index) alone, so on neither workers nor order.
        augment_share: share of the samples that are ever augmented: a random choice by `seed`, fixed over epochs.
        seed: of the augmentation.
        cache: keep what is decoded, up to `cache_bytes` in this process (each worker has a cache of its own): resized
            views once per picture, or the decoded pictures where they are augmented.
        cache_bytes: bound of the cache.
        view_cache: resized views on disk, shared with other runs; samples that are ever augmented neither read nor
            write it. Makes no difference to a pixel.

    The picture that was read last, and its views, are kept in any case: samples of one picture in a row decode once.

    Raises:
        UserError: an empty `views`, another number of expressions than samples, what `TextPipeline` refuses, or, with a
            `view_cache`, a picture that cannot be read.
    """

    def __init__(
        self,
        dataset: ReferringDataset,
        views: Mapping[str, int],
        text: TextPipeline,
        *,
        native_masks: bool,
        expressions: Sequence[str] | None = None,
        augment: Augment | None = None,
        augment_share: float = 1.0,
        seed: int = 0,
        cache: bool = False,
        cache_bytes: int = CACHE_BYTES,
        view_cache: ViewCache | None = None,
    ):
        if not views:
            raise UserError("The model declares no views; it needs at least one, such as {'image': 480}.")
        if expressions is not None and len(expressions) != len(dataset):
            raise UserError(f"{len(expressions)} expressions were given for {len(dataset)} samples.")
        self.dataset = dataset
        self.views = dict(views)
        self.native_masks = native_masks
        self.expressions = Texts(expressions) if expressions is not None else None
        self.augment = augment
        self.seed = seed
        self.text = text(list(expressions or (dataset[index].expression for index in range(len(dataset)))))
        chosen = np.random.default_rng([seed, 0xA06]).permutation(len(dataset))[: round(augment_share * len(dataset))]
        self._augmented_N = np.zeros(len(dataset), dtype=bool)
        self._augmented_N[chosen] = augment is not None
        # In shared memory, because workers that live on hold a copy of this object from before the epoch changed.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._cache = _Cache(cache_bytes if cache else 0)
        self._last = _Last()
        self._view_cache = view_cache
        self._digest_N32: np.ndarray | None = None
        if view_cache is not None:
            self._digest_N32 = view_cache.digests([dataset[index].image_path for index in range(len(dataset))])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that augmentation depends on; call it before iterating."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        """Read and resize one sample; raises SampleError, naming it, when it cannot be read."""
        sample = self.dataset[index]
        if self.expressions is not None:
            sample = replace(sample, expression=self.expressions[index])
        try:
            views = self._read_views(sample, index)
            mask_HW = sample.read_mask() if self.native_masks else None
            target_SS = self._read_target(sample, index, mask_HW)
        except (UserError, OSError, ValueError) as error:
            raise SampleError(f"Sample {sample.sample_id} of split '{self.dataset.split}': {error}") from error
        text = {key: array[index] for key, array in self.text.items()}
        return Item(views, text, target_SS, mask_HW, sample)

    @property
    def _main_side(self) -> int:
        return next(iter(self.views.values()))

    def _read_target(self, sample: Sample, index: int, mask_HW: np.ndarray | None) -> np.ndarray:
        """The training target; from the run lengths, without the whole mask, where nobody asks for that."""
        target_SS = self._cache.get(("target", index))
        if target_SS is None:
            if mask_HW is None and sample.read_rle is not None:
                target_SS = decode_nearest(sample.read_rle(), self._main_side)
            else:
                target_SS = resize_nearest(sample.read_mask() if mask_HW is None else mask_HW, self._main_side)
            self._cache.put(("target", index), target_SS)
        return target_SS

    def _read_views(self, sample: Sample, index: int) -> dict[str, np.ndarray]:
        """The resized views; samples of one picture share what is kept of it."""
        if self._last.image_id != sample.image_id:
            self._last = _Last(sample.image_id)
        if self.augment is not None and self._augmented_N[index]:
            image_HWC = self._cache.get(("image", sample.image_id))
            if image_HWC is None:
                image_HWC = np.asarray(self._decode(sample))
                self._cache.put(("image", sample.image_id), image_HWC)
            rng = np.random.default_rng([self.seed, int(self._epoch), index])
            augmented = Image.fromarray(self.augment(image_HWC.copy(), rng))
            return {name: resize_picture(augmented, side) for name, side in self.views.items()}
        return {name: self._read_view(sample, index, side) for name, side in self.views.items()}

    def _read_view(self, sample: Sample, index: int, side: int) -> np.ndarray:
        """One resized view: from memory, from the disk, or made from the picture."""
        key = ("view", sample.image_id, side)
        view_CSS = self._last.views.get(side)
        if view_CSS is None:
            view_CSS = self._cache.get(key)
        if view_CSS is None:
            view_CSS = self._from_disk(index, side)
            if view_CSS is None:
                view_CSS = resize_picture(self._decode(sample), side)
                if self._view_cache is not None and self._last.digest:
                    self._view_cache.put(self._last.digest, side, view_CSS)
            self._cache.put(key, view_CSS)
        self._last.views[side] = view_CSS
        return view_CSS

    def _from_disk(self, index: int, side: int) -> np.ndarray | None:
        if self._view_cache is None or self._digest_N32 is None or not self._digest_N32[index].any():
            return None
        return self._view_cache.get(self._digest_N32[index].tobytes(), side)

    def _decode(self, sample: Sample) -> Image.Image:
        """The sample's picture; decoded once for samples in a row that show it."""
        if self._last.picture is None:
            if sample.image_path is None:
                self._last.picture = Image.fromarray(sample.read_image())
            elif self._view_cache is None:
                self._last.picture = read_picture(sample.image_path)
            else:
                # What is put on disk is named by the very bytes that were decoded, whatever happened to the file since.
                data = read_bytes(sample.image_path)
                self._last.picture = read_picture(sample.image_path, data)
                self._last.digest = hashlib.sha256(data).digest()
        return self._last.picture


class _Last:
    """What is known of the picture that was read last. Does not travel to workers."""

    def __init__(self, image_id: str | None = None):
        self.image_id = image_id
        self.picture: Image.Image | None = None
        self.digest = b""
        self.views: dict[int, np.ndarray] = {}

    def __reduce__(self) -> tuple[type[_Last], tuple[()]]:
        return _Last, ()


class _Cache:
    """Arrays by key up to a number of bytes; first come, first kept. Its contents do not travel to workers."""

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0
        self._arrays: dict[tuple, np.ndarray] = {}

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["limit"])  # type: ignore[misc]

    def get(self, key: tuple) -> np.ndarray | None:
        return self._arrays.get(key)

    def put(self, key: tuple, array: np.ndarray) -> None:
        if key not in self._arrays and self.used + array.nbytes <= self.limit:
            self._arrays[key] = array
            self.used += array.nbytes


class LoadedBatch(Batch):
    """A batch that a loader's pinning thread can move to page-locked memory."""

    def pin_memory(self) -> Batch:
        """Return the batch with page-locked tensors."""
        return replace(
            self,
            views={name: tensor.pin_memory() for name, tensor in self.views.items()},
            text={key: tensor.pin_memory() for key, tensor in self.text.items()},
            target_BSS=self.target_BSS.pin_memory(),
        )


def collate(items: Sequence[Item]) -> Batch:
    """Stack items to a batch."""
    first = items[0]
    return LoadedBatch(
        views={name: torch.from_numpy(np.stack([item.views[name] for item in items])) for name in first.views},
        text={key: torch.from_numpy(np.stack([item.text[key] for item in items])) for key in first.text},
        target_BSS=torch.from_numpy(np.stack([item.target_SS for item in items])),
        masks=[item.mask_HW for item in items if item.mask_HW is not None],
        samples=[item.sample for item in items],
    )


def make_loader(
    dataset: ViewDataset,
    batch_size: int,
    indices: Iterable[int] | Sampler[int] | None = None,
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
    drop_last: bool = False,
) -> DataLoader[Item]:
    """Make a loader that yields `Batch`; the same batches for any number of workers.

    Args:
        dataset: what to load.
        batch_size: samples per batch.
        indices: which samples in which order (a sequence or a sampler); None: all of them, in order.
        num_workers: reading processes; 0 reads in this one.
        pin_memory: page-locked tensors, for copies to a GPU.
        drop_last: leave out a last batch that is not full.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=range(len(dataset)) if indices is None else indices,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        drop_last=drop_last,
        persistent_workers=num_workers > 0,
        # Without its own generator an iterator draws its workers' seed from the global one and disturbs the training's.
        generator=torch.Generator(),
    )


def black_boxes(image_HWC: np.ndarray, rng: np.random.Generator, *, side: int = 32) -> np.ndarray:
    """Paint 20 to 60 black squares of 32 pixels at random places (20 and 60 included).

    RMSIN, FIANet, MAFN and RS2-SAM2 do this each time they load one of a fixed random 20% of the training references
    (`augment_share=0.2`), before resizing; no paper mentions it. Pictures smaller than a square turn black.
    """
    out_HWC = image_HWC.copy()
    height, width = out_HWC.shape[:2]
    for _ in range(int(rng.integers(20, 61))):
        y = int(rng.integers(0, max(1, height - side + 1)))
        x = int(rng.integers(0, max(1, width - side + 1)))
        out_HWC[y : y + side, x : x + side] = 0
    return out_HWC
