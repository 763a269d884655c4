"""The decoder of CARIS: words and pixels of three stages read each other, and the words classify the pixels."""

# P = visual prompts, X = words and visual prompts

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from ..blocks.multihead import Attention, initialise
from .deformable import DeformableAttention, Sizes, positions_on

HEADS = 8
POINTS = 4
GROUPS = 32
PROMPTS = 5
EXPANSION = 4
"""Width inside the attentions and the feed-forward layers, as a multiple of the decoder's."""


class ContextLayer(nn.Module):
    """Words read pixels and each other, then pixels read words and each other; norms stand behind the residuals."""

    def __init__(self, dim: int, levels: int) -> None:
        """Build for `dim` channels, a multiple of 8, and pixels of `levels` maps."""
        super().__init__()
        inner = EXPANSION * dim
        self.words_from_pixels = Attention(dim, inner, HEADS)
        self.words_from_words = Attention(dim, inner, HEADS)
        self.pixels_from_words = Attention(dim, inner, HEADS)
        self.words_mlp = Mlp(dim, inner, act_layer=nn.ReLU)
        self.pixels_mlp = Mlp(dim, inner, act_layer=nn.ReLU)
        initialise(self)
        self.pixels_from_pixels = DeformableAttention(dim, HEADS, levels, POINTS)
        self.words_scale = nn.Parameter(torch.ones(1, 1, dim))
        self.pixels_scale = nn.Parameter(torch.ones(1, 1, dim))
        self.words_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.pixels_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(
        self, words_BXC: Tensor, pixels_BNC: Tensor, positions_NC: Tensor, mask_BX: Tensor, sizes: Sizes
    ) -> tuple[Tensor, Tensor]:
        """Return words and pixels.

        Args:
            words_BXC: words and visual prompts.
            pixels_BNC: cells of all levels, one level behind the other.
            positions_NC: added to pixels where they ask or are asked, not where they are read.
            mask_BX: True for words that may be read.
            sizes: of the levels.
        """
        first, second, third = self.words_norms
        read_BXC = self.words_from_pixels(words_BXC, pixels_BNC + positions_NC, pixels_BNC)
        words_BXC = first(words_BXC + self.words_scale * read_BXC)
        words_BXC = second(words_BXC + self.words_from_words(words_BXC, words_BXC, words_BXC, mask_BX))
        words_BXC = third(words_BXC + self.words_mlp(words_BXC))
        first, second, third = self.pixels_norms
        read_BNC = self.pixels_from_words(pixels_BNC + positions_NC, words_BXC, words_BXC, mask_BX)
        pixels_BNC = first(pixels_BNC + self.pixels_scale * read_BNC)
        pixels_BNC = second(pixels_BNC + self.pixels_from_pixels(pixels_BNC + positions_NC, pixels_BNC, sizes))
        pixels_BNC = third(pixels_BNC + self.pixels_mlp(pixels_BNC))
        return words_BXC, pixels_BNC


class ContextDecoder(nn.Module):
    """Context layers over the three coarser stages, one step to the finest one, and two classes made of words.

    The background is the mean of the visual prompts, the foreground the first word, [CLS].
    """

    def __init__(self, widths: Sequence[int], text_dim: int, dim: int, layers: int) -> None:
        """Build for stages of `widths` channels, fine to coarse, and words of `text_dim` features.

        Args:
            widths: channels of the stages.
            text_dim: D.
            dim: channels inside, a multiple of 8.
            layers: context layers.
        """
        super().__init__()
        self.dim = dim
        self.inputs = nn.ModuleList(_projection(width, dim) for width in widths[:0:-1])
        self.levels = nn.Embedding(len(widths) - 1, dim)
        self.words = nn.Linear(text_dim, dim)
        self.words_norm = nn.LayerNorm(dim)
        self.prompts = nn.Embedding(PROMPTS, dim)
        self.layers = nn.ModuleList(ContextLayer(dim, len(widths) - 1) for _ in range(layers))
        self.lateral = _projection(widths[0], dim, bias=False)
        self.output = _projection(dim, dim, kernel=3, bias=False)
        self.pixels = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1), nn.ReLU())
        self.pixels.append(nn.Conv2d(dim, dim, 1))
        # A last bias would add the same to both classes.
        self.classes = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.classes.append(nn.Linear(dim, dim, bias=False))

    def project(self, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return what the decoder needs of the image: ``level0`` (the coarsest), ... and ``lateral``, (B, C, H, W).

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
        """
        levels = {
            f"level{index}": layer(stage_BCHW)
            for index, (layer, stage_BCHW) in enumerate(zip(self.inputs, stages[:0:-1], strict=True))
        }
        return {**levels, "lateral": self.lateral(stages[0])}

    def forward(self, projected: Mapping[str, Tensor], words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return foreground minus background logits (B, h, w) at the finest stage's size.

        Args:
            projected: of `project`.
            words_BLD: word features.
            mask_BL: 1 for words.
        """
        maps = [projected[f"level{index}"] for index in range(len(self.inputs))]
        sizes = [(x_BCHW.shape[2], x_BCHW.shape[3]) for x_BCHW in maps]
        pixels_BNC = torch.cat([x_BCHW.flatten(2) for x_BCHW in maps], dim=2).transpose(1, 2)
        positions_NC = torch.cat(
            [
                positions_on(*size, self.dim, pixels_BNC.device, pixels_BNC.dtype) + level_C
                for size, level_C in zip(sizes, self.levels.weight, strict=True)
            ]
        )
        words_BLC = self.words_norm(self.words(words_BLD))
        words_BXC = torch.cat([words_BLC, self.prompts.weight.expand(len(words_BLC), -1, -1)], dim=1)
        mask_BX = F.pad(mask_BL.bool(), (0, PROMPTS), value=True)
        for layer in self.layers:
            words_BXC, pixels_BNC = layer(words_BXC, pixels_BNC, positions_NC, mask_BX, sizes)
        height, width = sizes[-1]
        fine_BCHW = pixels_BNC[:, -height * width :].transpose(1, 2).unflatten(2, (height, width))
        lateral_BChw = projected["lateral"]
        fine_BChw = F.interpolate(fine_BCHW, size=lateral_BChw.shape[-2:], mode="bilinear", align_corners=False)
        x_BChw = self.pixels(F.relu(self.output(lateral_BChw + fine_BChw)))
        background_BC, foreground_BC = self.classes(words_BXC[:, -PROMPTS:].mean(1)), self.classes(words_BXC[:, 0])
        return torch.einsum("bchw,bc->bhw", x_BChw, foreground_BC - background_BC)


def _projection(in_dim: int, dim: int, *, kernel: int = 1, bias: bool = True) -> nn.Sequential:
    """Build a convolution and a GroupNorm of 32 groups, or of the most that divide a small width."""
    conv = nn.Conv2d(in_dim, dim, kernel, padding=kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(math.gcd(GROUPS, dim), dim))
