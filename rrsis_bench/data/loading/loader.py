"""From samples to batches: decode once, resize per view, tokenise once per split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from rrsis_bench.data.loading.augment import Augmenter, Scene
from rrsis_bench.data.loading.cache import ViewCache
from rrsis_bench.data.pixels.images import read_bytes, read_image, resize_image
from rrsis_bench.data.pixels.rle import decode_nearest, resize_nearest
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Batch, ReferringDataset, Sample

T = TypeVar("T")


class SampleError(UserError):
    """A sample that cannot be read, named by its id; the message stays plain when it comes out of a loader worker."""

    def __init__(self, message: str):
        # torch raises a worker's exception again with the whole traceback as its message. Keep the original message.
        super().__init__(message.rpartition(f"{type(self).__module__}.{type(self).__qualname__}: ")[2].rstrip("\n"))


@dataclass(slots=True)
class Item:
    """One sample, ready to be stacked.

    Attributes:
        views: view name -> uint8 (3, S, S).
        text: text key -> int64 (L,).
        target_SS: uint8 0/1 at the main view's side.
        mask_HW: bool at native size, or None if it is not asked for.
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
        augment: entries as in ``train.augment``, applied at native size. The draws depend on (seed, epoch, index)
            alone, so neither workers nor the order of reading change them.
        seed: of the augmentation.
        cache_bytes: bound of the memory for decoded images, resized views and targets. Each worker has its own.
        view_cache: resized views on disk, shared with other runs. Samples that are ever augmented neither read nor
            write it. The pixels are the same with and without it.

    Raises:
        UserError: `views` is empty, the number of expressions is not the number of samples, an augmentation does not
            fit, `TextPipeline` refuses an expression, or, with a `view_cache`, an image cannot be read.
    """

    def __init__(
        self,
        dataset: ReferringDataset,
        views: Mapping[str, int],
        text: TextPipeline,
        *,
        native_masks: bool,
        expressions: Sequence[str] | None = None,
        augment: Iterable[Mapping[str, Any]] = (),
        seed: int = 0,
        cache_bytes: int = 0,
        view_cache: ViewCache | None = None,
    ):
        if not views:
            raise UserError("The model declares no views; it needs at least one, such as {'image': 480}.")
        if expressions is not None and len(expressions) != len(dataset):
            raise UserError(f"{len(expressions)} expressions were given for {len(dataset)} samples.")
        self.dataset = dataset
        self.views = dict(views)
        self.native_masks = native_masks
        self.expressions = expressions
        self.augment = Augmenter(augment, len(dataset), seed)
        self._pipeline = text
        self.text = text(list(expressions or (dataset[index].expression for index in range(len(dataset)))))
        # In shared memory, because persistent workers hold a copy of this object from before the epoch changed.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._memory = _Memory(cache_bytes)
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
        text = {key: array_NL[index] for key, array_NL in self.text.items()}
        try:
            if self.augment.applies_to(index):
                return self._augmented(sample, index, text)
            views = {name: self._view(sample, index, side) for name, side in self.views.items()}
            mask_HW = sample.read_mask() if self.native_masks else None
            return Item(views, text, self._target(sample, index, mask_HW), mask_HW, sample)
        except (UserError, OSError, ValueError) as error:
            raise SampleError(f"Sample {sample.sample_id} of split '{self.dataset.split}': {error}") from error

    @property
    def _main_side(self) -> int:
        return next(iter(self.views.values()))

    def _augmented(self, sample: Sample, index: int, text: dict[str, np.ndarray]) -> Item:
        image, _ = self._image(sample, keep=True)
        scene = Scene(np.array(image), sample.read_mask(), sample.expression)
        scene = self.augment(scene, index, int(self._epoch))
        if scene.expression != sample.expression:
            text = {key: array_BL[0] for key, array_BL in self._pipeline([scene.expression]).items()}
            sample = replace(sample, expression=scene.expression)
        augmented = Image.fromarray(np.ascontiguousarray(scene.image_HWC))
        views = {name: resize_image(augmented, side) for name, side in self.views.items()}
        mask_HW = scene.mask_HW if self.native_masks else None
        return Item(views, text, resize_nearest(scene.mask_HW, self._main_side), mask_HW, sample)

    def _target(self, sample: Sample, index: int, mask_HW: np.ndarray | None) -> np.ndarray:
        """Return the training target; without a native mask it is made from the run lengths directly."""

        def make() -> np.ndarray:
            if mask_HW is None and sample.read_rle is not None:
                return decode_nearest(sample.read_rle(), self._main_side)
            return resize_nearest(sample.read_mask() if mask_HW is None else mask_HW, self._main_side)

        return self._memory.get(sample.image_id, ("target", index), make, lambda target_SS: target_SS.nbytes)

    def _view(self, sample: Sample, index: int, side: int) -> np.ndarray:
        """Return one resized view: from memory, from the disk, or made from the image."""

        def make() -> np.ndarray:
            cache, digest_N32 = self._view_cache, self._digest_N32
            if cache is not None and digest_N32 is not None and digest_N32[index].any():
                view_CSS = cache.get(digest_N32[index].tobytes(), side)
                if view_CSS is not None:
                    return view_CSS
            image, digest = self._image(sample, keep=False)
            view_CSS = resize_image(image, side)
            if cache is not None and digest:
                cache.put(digest, side, view_CSS)
            return view_CSS

        return self._memory.get(sample.image_id, ("view", side), make, lambda view_CSS: view_CSS.nbytes)

    def _image(self, sample: Sample, *, keep: bool) -> tuple[Image.Image, bytes]:
        """Return the decoded image and, with a view cache, the sha256 of its file.

        Args:
            sample: shows the image.
            keep: whether it stays in memory beyond the samples in a row that show it.
        """

        def make() -> tuple[Image.Image, bytes]:
            if sample.image_path is None:
                return Image.fromarray(sample.read_image()), b""
            if self._view_cache is None:
                return read_image(sample.image_path), b""
            # The hash is that of the decoded bytes, so a file that changes during a run is cached under its own hash.
            data = read_bytes(sample.image_path)
            return read_image(sample.image_path, data), hashlib.sha256(data).digest()

        def size(entry: tuple[Image.Image, bytes]) -> int | None:
            return 4 * entry[0].width * entry[0].height if keep else None  # Pillow pads RGB to 4 bytes per pixel

        return self._memory.get(sample.image_id, ("image", 0), make, size)


class _Memory:
    """What was made from images, up to a number of bytes; the first entries stay, because an epoch reads all images.

    The entries of the image that was read last are kept in any case, so samples of one image in a row share them.
    Pickling drops the content: every worker starts empty.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0
        self._kept: dict[tuple[str, tuple[str, int]], Any] = {}
        self._last: dict[tuple[str, int], Any] = {}
        self._last_image: str | None = None

    def __reduce__(self) -> tuple[type[_Memory], tuple[int]]:
        return _Memory, (self.limit,)

    def get(self, image_id: str, key: tuple[str, int], make: Callable[[], T], size: Callable[[T], int | None]) -> T:
        """Return the entry `key` of an image; if it is not there, make and keep it.

        Args:
            image_id: the image.
            key: of the entry.
            make: makes the entry.
            size: bytes of an entry; None: it is dropped with the next image.
        """
        if self._last_image != image_id:
            self._last_image, self._last = image_id, {}
        value: T | None = self._last.get(key)
        if value is None:
            value = self._kept.get((image_id, key))
        if value is None:
            value = make()
        needed = size(value)
        if needed is not None and (image_id, key) not in self._kept and self.used + needed <= self.limit:
            self._kept[image_id, key] = value
            self.used += needed
        self._last[key] = value
        return value


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
    timeout: float = 0,
) -> DataLoader[Item]:
    """Make a loader that yields `Batch`; the same batches for any number of workers.

    Args:
        dataset: what to load.
        batch_size: samples per batch.
        indices: samples to load, in this order (a sequence or a sampler); None: all of them, in order.
        num_workers: reading processes; 0 reads in this one.
        pin_memory: page-locked tensors, for copies to a GPU.
        drop_last: leave out a last batch that is not full.
        timeout: seconds after which a batch that does not come is an error; 0: never.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=range(len(dataset)) if indices is None else indices,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        drop_last=drop_last,
        timeout=timeout,
        persistent_workers=num_workers > 0,
        # Without its own generator an iterator draws its workers' seed from the global one and disturbs the training's.
        generator=torch.Generator(),
    )
