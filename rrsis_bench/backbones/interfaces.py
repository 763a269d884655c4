"""The interfaces of backbones: what a model can ask for, and the options that every node of the configuration has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """Options of every backbone. Values are in ``conf/vision/`` and ``conf/text/``; there are no defaults in Python.

    Attributes:
        backbone: module of `rrsis_bench.backbones` that defines the backbone.
        weights: ``"random"``, ``"hub:<id>"`` or a path.
    """

    backbone: str
    weights: str


@dataclass(frozen=True, slots=True)
class TextConfig(BackboneConfig):
    """Options of every text backbone; the text pipeline reads them too.

    Attributes:
        tokenizer: ``"wordpiece"`` or ``"words"`` (vocabularies of the training expressions), or a tokenizer to load.
        vocab_size: rows of the word embedding.
    """

    tokenizer: str
    vocab_size: int


class Backbone(nn.Module, ABC):
    """An encoder that a model builds from a node of the configuration.

    Class attributes:
        Config: frozen dataclass with the backbone's options, derived from `BackboneConfig` or `TextConfig`.

    Attributes:
        config: the decoded options.
    """

    Config: ClassVar[type[BackboneConfig]]
    config: Any


class StagedEncoder(Backbone):
    """A vision backbone in stages, so that a model can add language between them.

    ``x = encoder.embed(image)``, then ``x = encoder.stage(i, x)`` for i = 0, 1, ... A model may change x between two
    calls. The constructor takes ``(config, *, image_size)``; `image_size` is the side of a square view in pixels.

    Attributes:
        widths: channels of each stage's output.
        sides: positions per side of each stage's output, for a view of `image_size` pixels.
        patch: pixels per position and side of stage 0.
        window: side of an attention window in positions; None if there are no windows.
    """

    widths: tuple[int, ...]
    sides: tuple[int, ...]
    patch: int
    window: int | None = None

    @abstractmethod
    def embed(self, image_BCHW: Tensor) -> Tensor:
        """Normalise a uint8 view (B, 3, H, W) and embed it: (B, H/patch, W/patch, C)."""

    @abstractmethod
    def stage(self, index: int, x_BHWC: Tensor) -> Tensor:
        """Run stage `index`: (B, H, W, C) of the stage before -> (B, H_i, W_i, C_i)."""

    def no_weight_decay(self, name: str) -> bool:  # noqa: ARG002 - subclasses use the name
        """Return whether the optimiser leaves parameter `name` of the model without weight decay."""
        return False


class TextEncoder(Backbone):
    """A text backbone that returns features for every token. The constructor takes ``(config)``.

    Attributes:
        width: D, the width of the features.
    """

    width: int

    @abstractmethod
    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Return features (B, L, D) of int64 ids (B, L); tokens with mask 0 are ignored."""
