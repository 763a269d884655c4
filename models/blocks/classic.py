"""Blocks of the CNN and LSTM systems: coordinates, joint layer norm, 1 x 1 ConvLSTM, and what their models share."""

# G = cells per side of the grid

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.backbones import build_text, build_vision
from rrsis_bench.backbones.constants import on_device
from rrsis_bench.backbones.resnet import STRIDE, ResNetEncoder
from rrsis_bench.backbones.words import WordEncoder
from rrsis_bench.interfaces import ImageFirstSegmenter

COORDINATES = 8  # channels of the coordinate map
LEVELS = ("c5", "c4", "c3")  # of the backbone, from deep to shallow
NORM_EPS = 1e-12  # of the joint norm and of the squared length that `l2` divides by, in the authors' code


def coordinate_map(height: int, width: int) -> Tensor:
    """Return the map (8, H, W) of every cell's place, from -1 to 1.

    The channels are left, top, right, bottom, centre x, centre y, 1 / W and 1 / H.
    """
    x_W, y_H = (torch.arange(side, dtype=torch.float64) / side * 2 - 1 for side in (width, height))
    y_HW, x_HW = torch.meshgrid(y_H, x_W, indexing="ij")
    dx, dy = 2 / width, 2 / height
    places = [x_HW, y_HW, x_HW + dx, y_HW + dy, x_HW + dx / 2, y_HW + dy / 2]
    return torch.stack([*places, torch.full_like(x_HW, 1 / width), torch.full_like(x_HW, 1 / height)])


_coordinates_on = on_device(coordinate_map)


def l2(x: Tensor, dim: int = 1) -> Tensor:
    """Scale vectors along `dim` to length 1; a zero vector stays zero."""
    return F.normalize(x, dim=dim, eps=math.sqrt(NORM_EPS))


def spread(x_BC: Tensor, map_BCHW: Tensor) -> Tensor:
    """Repeat a vector per sample at every position of another map."""
    return x_BC[..., None, None].expand(-1, -1, *map_BCHW.shape[2:])


def glorot(module: nn.Module) -> None:
    """Start convolutions and linear layers from Glorot's uniform weights and biases of 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class JointNorm(nn.GroupNorm):
    """Layer norm over all channels and positions of a sample together, with a scale and a shift per channel."""

    def __init__(self, width: int) -> None:
        """Build the norm of maps (B, `width`, ...)."""
        super().__init__(1, width, eps=NORM_EPS)


class ConvLSTM(nn.Module):
    """A layer-normalised ConvLSTM with 1 x 1 kernels and peepholes, over a sequence of maps.

    The peepholes have one weight per channel and cell, which binds the module to its grid. The cell state is carried
    on after its norm.
    """

    def __init__(self, width: int, grid: int) -> None:
        """Build the cell for maps (B, `width`, `grid`, `grid`)."""
        super().__init__()
        self.kernel = nn.Conv2d(2 * width, 4 * width, 1, bias=False)  # candidate, input, forget, output
        # Glorot's rule, with the rows of the grid as a window.
        bound = math.sqrt(6 / (grid * (grid + width)))
        self.peepholes = nn.ParameterDict(
            {gate: nn.Parameter(torch.empty(width, grid, grid).uniform_(-bound, bound)) for gate in "ifo"}
        )
        self.norms = nn.ModuleDict({part: JointNorm(width) for part in "jifoc"})

    def forward(self, steps: Sequence[Tensor]) -> Tensor:
        """Return the last hidden state (B, C, G, G) over the maps (B, C, G, G)."""
        cell = hidden = torch.zeros_like(steps[0])
        for x_BCGG in steps:
            j, i, f, o = self.kernel(torch.cat([x_BCGG, hidden], dim=1)).chunk(4, dim=1)
            j = self.norms["j"](j)
            i = self.norms["i"](i + self.peepholes["i"] * cell)
            f = self.norms["f"](f + self.peepholes["f"] * cell)
            cell = torch.sigmoid(f + 1) * cell + torch.sigmoid(i) * torch.tanh(j)
            o = self.norms["o"](o + self.peepholes["o"] * cell)
            cell = self.norms["c"](cell)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return hidden


class BilinearFusion(nn.Module):
    """A map and a vector, multiplied in several heads whose products are added; scaled to length 1 per position."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the fusion of maps with `width` + 8 channels (the coordinates last) and vectors (B, `width`)."""
        super().__init__()
        self.visual = nn.ModuleList(nn.Conv2d(width + COORDINATES, width, 1) for _ in range(heads))
        self.language = nn.ModuleList(nn.Linear(width, width) for _ in range(heads))

    def forward(self, map_BCGG: Tensor, text_BD: Tensor) -> Tensor:
        """Return the fused map (B, width, G, G)."""
        products = [
            torch.tanh(visual(map_BCGG)) * torch.tanh(language(text_BD))[..., None, None]
            for visual, language in zip(self.visual, self.language, strict=True)
        ]
        return l2(torch.tanh(torch.stack(products).sum(0)))


class ClassicSegmenter(ImageFirstSegmenter):
    """What the CNN and LSTM systems share: a ResNet at stride 8, a word encoder and the coordinate map.

    A subclass sets `laterals` and writes `decode`, and `project` if its maps are not those of the laterals alone.
    """

    phrase_masks: tuple[str, ...] = ("word_mask",)
    taps: ClassVar[tuple[str, ...]] = LEVELS
    laterals: nn.ModuleDict

    def __init__(
        self, views: Mapping[str, int], max_tokens: int, vision: Mapping[str, Any], text: Mapping[str, Any]
    ) -> None:
        """Build the backbones.

        Args:
            views: view name -> side in pixels; its one view is ``image``.
            max_tokens: L.
            vision: node of a `ResNetEncoder`.
            text: node of a `WordEncoder`.
        """
        super().__init__()
        self.views, self.max_tokens = dict(views), max_tokens
        self.backbone = build_vision(vision, ResNetEncoder)
        self.words = build_text(text, WordEncoder)
        self.grid = -(-self.views["image"] // STRIDE)

    def convs_of_levels(self, width: int) -> nn.ModuleDict:
        """Return one 1x1 convolution from each of `LEVELS` to `width` channels."""
        return nn.ModuleDict({level: nn.Conv2d(self.backbone.widths[level], width, 1) for level in LEVELS})

    def start_head(self, besides: Collection[str] = ()) -> None:
        """Give everything but the encoders and the parts `besides` Glorot's start, in the order of registration."""
        for name, part in self.named_children():
            if name not in {"backbone", "words", *besides}:
                part.apply(glorot)

    def project(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute everything that depends on the maps `taps` (B, C, G, G) of the backbone alone.

        By default this is the visual map of every level, of length 1 per position.
        """
        return {level: l2(lateral(maps[level])) for level, lateral in self.laterals.items()}

    def encode_image(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the backbone and `project`."""
        maps = self.backbone(views["image"])
        return self.project({tap: maps[tap] for tap in self.taps})

    def with_sentence(self, visual_BCGG: Tensor, text: Mapping[str, Tensor]) -> Tensor:
        """Join vision, the sentence vector of length 1 and the coordinates: (B, C + D + 8, G, G)."""
        sentence_BD = l2(self.words.read(text["input_ids"], text["word_mask"]).last_BD)
        return torch.cat([visual_BCGG, spread(sentence_BD, visual_BCGG), self.places(visual_BCGG)], dim=1)

    def places(self, like_BCGG: Tensor) -> Tensor:
        """Return the coordinate map (B, 8, G, G) for the batch of another map."""
        map_8GG = _coordinates_on(self.grid, self.grid, like_BCGG.device, like_BCGG.dtype)
        return map_8GG.expand(len(like_BCGG), -1, -1, -1)

    def frozen_parts(self) -> dict[str, str]:
        """Return the source of the backbone's weights; empty if they are random."""
        source = self.backbone.config.weights
        return {} if source == "random" else {"backbone.": source}
