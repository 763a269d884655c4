"""Samples, batches and the base classes of datasets and models.

Shape legend for all files: a tensor's name ends in its shape, as in ``x_BCHW``. A file that uses other letters explains
them in one comment line at its head. Lower-case letters are a second size of the same kind.

====  =========================================================================
B     samples in a batch
C     channels of a feature map
H, W  height and width in pixels or feature positions (native size for masks)
S     side of a square view in pixels
N     positions of a flattened map, ``N = H * W``
L     text tokens, padded to the model's ``max_tokens``
D     width of the text features
====  =========================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.errors import UserError


@dataclass(frozen=True, slots=True)
class Sample:
    """One referring expression with its image and target mask. Pixels are read on call.

    Attributes:
        sample_id: stable and unique within the dataset, over all splits.
        image_id: equal for samples of the same image (bootstrap clusters, images that are encoded once).
        expression: the referring expression as given to the tokenizer.
        language: ``"en"`` or ``"zh"``.
        category: the dataset's category name, or None.
        n_targets: number of objects that the expression denotes; 0 for a no-target expression, None if unknown.
        read_image: returns uint8 (H, W, 3), RGB.
        read_mask: returns bool (H, W) at native size, which may differ from the image's size.
        read_rle: returns the same mask as COCO's compressed run-length encoding, ``{"size": [H, W], "counts": bytes}``;
            None if the dataset does not store it that way. A shortcut: `read_mask` always works.
        image_path: the image's file if `read_image` is `rrsis_bench.data.pixels.images.read_rgb` of it, else None.
            A shortcut: loaders then resize without an array in between, and can cache the file's views.
    """

    sample_id: str
    image_id: str
    expression: str
    language: str
    category: str | None
    n_targets: int | None
    read_image: Callable[[], np.ndarray]
    read_mask: Callable[[], np.ndarray]
    read_rle: Callable[[], dict[str, Any]] | None = None
    image_path: str | None = None


class ReferringDataset(ABC):
    """One split of a dataset. Holds no pixels and is pickled to loader workers.

    Attributes:
        name: the dataset's registry name, such as ``"rrsisd"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        category_names: every category of the dataset, in the dataset's own order; may be empty.
        notes: messages about how the files were read, one line each, shown when a run opens the data.
    """

    name: str
    split: str
    category_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples of the split."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` without reading pixels; raises IndexError beyond the end."""


@dataclass(slots=True)
class Batch:
    """One batch of a loader. Pixels are uint8 and are normalised inside the model's backbone.

    Attributes:
        views: view name -> uint8 (B, 3, S, S), RGB; the first view is the main one.
        text: ``input_ids``, ``attention_mask`` and, if the model reads them, ``object_mask``,
            ``position_mask``, ``word_mask``, ``noun_mask``, ``head_ids``: int64 (B, L).
        target_BSS: uint8 0/1 at the main view's size, resized NEAREST, for the training loss.
        masks: one bool (H, W) array per sample at native size; empty if they were not requested.
        samples: the samples themselves, in batch order.
    """

    views: dict[str, Tensor]
    text: dict[str, Tensor]
    target_BSS: Tensor
    masks: list[np.ndarray]
    samples: list[Sample]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)


@dataclass(slots=True)
class SegmenterOutput:
    """Output of a model.

    Attributes:
        logits: (B, h, w) foreground logits, any resolution; a two-class head returns foreground minus background.
        aux_losses: scalars by name, already weighted, which training adds to the segmentation loss.
        side_logits: name -> (weight, foreground logits (B, h, w), any resolution). Training adds the segmentation loss
            of each, times its weight. Empty in evaluation.
        main_weight: weight of the segmentation loss of `logits` beside them.
    """

    logits: Tensor
    aux_losses: dict[str, Tensor] = field(default_factory=dict)
    side_logits: dict[str, tuple[float, Tensor]] = field(default_factory=dict)
    main_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Contract:
    """Declarations of a model for the contract tests, which run over every registered model.

    Attributes:
        dead_parameters: regular expression, matched at the start of parameter names. Exactly these parameters get no
            gradient from the logits, with the default switches; the default is none.
        tiny_overrides: configuration overrides that make the model smaller than ``size=tiny size.image=64
            size.max_tokens=12`` does.
    """

    dead_parameters: str = r"(?!)"
    tiny_overrides: tuple[str, ...] = ()


class Segmenter(nn.Module, ABC):
    """A model: a subclass writes ``__init__`` and ``forward``, and the harness makes the masks.

    A subclass sets in ``__init__``:
        views: view name -> side length in pixels, the main view first, for example ``{"image": 480}``.
        max_tokens: L, the number of text tokens (padding and special tokens included).

    and may set on the class:
        version: raised when a change of the code moves the model's numbers. It is part of the train hash, so that runs
            of two versions never share a row.
        phrase_masks: extra text keys that it reads, such as ``("object_mask", "position_mask")``; all are listed in
            `rrsis_bench.data.text.pipeline.TextPipeline`.
        head_parser: parser of ``head_ids``, such as ``"spacy:en_core_web_sm"``; see `rrsis_bench.data.text.heads`.
        contract: exceptions of the model in the contract tests; see `Contract`.

    A model whose image encoding does not depend on the text derives from `ImageFirstSegmenter` instead.
    """

    views: dict[str, int]
    max_tokens: int
    version: ClassVar[int] = 1
    phrase_masks: tuple[str, ...] = ()
    head_parser: str | None = None
    contract: ClassVar[Contract] = Contract()
    _sealed: ClassVar[Mapping[str, str]] = {
        "predict_masks": "the protocol makes the masks. Return logits from forward() instead."
    }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that replaces a sealed method, in its own body or by another base class."""
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[1:]:
            for name, why in base.__dict__.get("_sealed", {}).items():
                if getattr(cls, name) is not base.__dict__[name]:
                    raise TypeError(f"{cls.__name__} overrides {name}, which is sealed: {why}")

    @abstractmethod
    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Compute foreground logits.

        Args:
            views: view name -> uint8 (B, 3, S, S); the model normalises them in its own parameters' dtype.
            text: text key -> int64 (B, L); keys that the model does not use are ignored.
        """

    def whole_batch(self, rows: Tensor) -> Tensor:
        """Return rows (B, ...) for the whole batch of a training step, for a loss that compares its samples.

        One process has the whole batch, and these are the same rows. Of several processes each has a share; the trainer
        puts a function here that returns the rows of all, in order, with the gradient of each process's own.
        """
        return rows

    def no_weight_decay(self, name: str) -> bool:  # noqa: ARG002 - subclasses use the name
        """Return whether the optimiser applies no weight decay to parameter `name`."""
        return False

    def frozen_parts(self) -> dict[str, str]:
        """Return the parts whose frozen weights are not saved: prefix of their keys -> source of the weights.

        Example: ``{"clip.": "hub:timm/..."}``. Checkpoints leave out parameters below such a prefix that take no
        gradient. They keep the sha256 of these weights instead, and a model with other weights there is refused.
        Adapters and buffers are saved. No prefix may contain another.
        """
        return {}

    @final
    @torch.no_grad()
    def predict_masks(
        self,
        views: Mapping[str, Tensor],
        text: Mapping[str, Tensor],
        sizes: Sequence[tuple[int, int]],
        *,
        align_corners: bool = False,
    ) -> list[Tensor]:
        """Return one bool (H, W) mask per sample, at the sizes that the protocol asks for.

        Args:
            views: as in `forward`.
            text: as in `forward`.
            sizes: (H, W) per sample.
            align_corners: of the bilinear resize of the logits; set by the protocol.
        """
        return _masks(self(views, text), sizes, align_corners)


class ImageFirstSegmenter(Segmenter):
    """A model whose image encoding does not depend on the text. A subclass writes `encode_image` and `decode`.

    The harness encodes each image once and decodes it for all of its expressions. In training this holds for the
    expressions of a batch, unless images are augmented.
    """

    _sealed = {
        "forward": "it is decode(encode_image(views), text). Write encode_image() and decode().",
        "predict_encoded_masks": "the protocol makes the masks. Return logits from decode() instead.",
    }

    @abstractmethod
    def encode_image(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute everything that does not depend on the text.

        Args:
            views: view name -> uint8 (B, 3, S, S), as in `forward`.

        Returns:
            Tensors by name, every one with B rows first; row i depends on image i alone. In training, batch norms may
            join the images of a batch, where an image counts once, however many expressions it has.
        """

    @abstractmethod
    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Compute foreground logits from encoded images.

        Args:
            encoded: output of `encode_image` with one row per expression; the row of an image may be repeated.
            text: text key -> int64 (B, L), as in `forward`.
        """

    @final  # type: ignore[misc] # torch declares `forward` as an attribute
    def forward(
        self, views: Mapping[str, Tensor], text: Mapping[str, Tensor], rows_B: Tensor | None = None
    ) -> SegmenterOutput:
        """Encode and decode; see `Segmenter.forward`.

        Args:
            views: as in `Segmenter.forward`, or with one row per image.
            text: as in `Segmenter.forward`.
            rows_B: row of every expression's image in the views, int64; None if views and text have the same rows.

        Raises:
            ValueError: a tensor of `encode_image` does not have one row per image.
        """
        encoded = self.encode_image(views)
        if rows_B is not None:
            self.require_rows(encoded, len(next(iter(views.values()))))
            encoded = {name: tensor[rows_B] for name, tensor in encoded.items()}
        return self.decode(encoded, text)

    @final
    def require_rows(self, encoded: Mapping[str, Tensor], images: int) -> None:
        """Raise ValueError if a tensor of `encode_image` does not have one row per image."""
        for name, tensor in encoded.items():
            if tensor.ndim == 0 or tensor.shape[0] != images:
                raise ValueError(
                    f"{type(self).__name__}.encode_image returned '{name}' of shape {tuple(tensor.shape)} for "
                    f"{images} images. Every tensor needs one row per image."
                )

    @final
    @torch.no_grad()
    def predict_encoded_masks(
        self,
        encoded: Mapping[str, Tensor],
        text: Mapping[str, Tensor],
        sizes: Sequence[tuple[int, int]],
        *,
        align_corners: bool = False,
    ) -> list[Tensor]:
        """Return the masks of `predict_masks` from encoded images; arguments as in `decode`."""
        return _masks(self.decode(encoded, text), sizes, align_corners)


def distinct_images(images: Sequence[str], known: Sequence[str] = ()) -> tuple[list[int], list[int]]:
    """Find which images of a batch to encode, and the row of each sample's image among the encoded ones.

    Args:
        images: image id per sample.
        known: image ids that are encoded already; they come before the others.

    Returns:
        The first position in `images` of each image that is not known, and for every sample the row of its image
        among `known` and these.
    """
    rows = {image: row for row, image in enumerate(known)}
    new: list[int] = []
    for place, image in enumerate(images):
        if image not in rows:
            rows[image] = len(rows)
            new.append(place)
    return new, [rows[image] for image in images]


class NonFiniteLogits(UserError):
    """A model returned NaN or infinite logits. An empty mask in their place would be an invented prediction.

    Attributes:
        rows: of the batch.
    """

    status = "nan"

    def __init__(self, rows: Sequence[int], names: Sequence[str] = ()):
        self.rows = list(rows)
        which = (
            f"samples {', '.join(names[:8])}" if names else f"rows {', '.join(map(str, self.rows[:8]))} of the batch"
        )
        more = " ..." if len(self.rows) > 8 else ""
        super().__init__(
            f"The model's logits are NaN or infinite for {which}{more}, so there is no mask to score. Check these "
            "samples and the weights, or train with a lower train.optimizer.lr or trainer.precision=32-true."
        )


def _masks(output: SegmenterOutput, sizes: Sequence[tuple[int, int]], align_corners: bool) -> list[Tensor]:
    finite_B = torch.isfinite(output.logits).flatten(1).all(1)
    if not bool(finite_B.all()):
        raise NonFiniteLogits(torch.nonzero(~finite_B).flatten().tolist())
    resized = resize_logits(output.logits.float(), sizes, align_corners=align_corners)
    return [resized_HW > 0 for resized_HW in resized]


def resize_logits(logits_Bhw: Tensor, sizes: Sequence[tuple[int, int]], *, align_corners: bool) -> list[Tensor]:
    """Resize each map of (B, h, w) bilinearly to its own (H, W); equal sizes are resized together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault((int(size[0]), int(size[1])), []).append(index)
    out: list[Tensor | None] = [None] * len(sizes)
    for size, members in groups.items():
        resized = F.interpolate(logits_Bhw[members, None], size=size, mode="bilinear", align_corners=align_corners)
        for row, index in enumerate(members):
            out[index] = resized[row, 0]
    return [tensor for tensor in out if tensor is not None]
