"""CGFormer's decoder: three levels of fusion, loading and grouping, then a mask from the target's token."""

# K = tokens, the last of which stands for the target; D = width of the decoder, E = features of a word

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.decoder import ConvStep
from .grouping import TokenGrouping, TokenLoading

TOKENS = 2


class KernelHead(nn.Module):
    """Enlarges the map four times; a token gives the kernel and the bias that make the mask."""

    def __init__(self, dim: int) -> None:
        """Build for maps and tokens of `dim` features."""
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(dim) for _ in range(2))
        self.point = nn.Conv2d(dim, dim, 1)
        self.kernel = nn.Linear(dim, dim + 1)

    def forward(self, x_BDhw: Tensor, token_BD: Tensor, size: tuple[int, int]) -> Tensor:
        """Return logits (B, H, W) of `size`.

        The authors apply the kernel with a padding of one pixel, which gives a frame that is the bias alone, and resize
        map and frame together. The 1 x 1 convolution before it is folded into the kernel here.
        """
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_BDhw = F.interpolate(x_BDhw, scale_factor=2, mode="bilinear", align_corners=False)
            x_BDhw = F.relu(norm(conv(x_BDhw)))
        weight_BD, bias_B1 = self.kernel(token_BD).split((x_BDhw.shape[1], 1), dim=1)
        folded_BD = weight_BD @ self.point.weight[:, :, 0, 0]
        inner_Bhw = (
            torch.einsum("bd,bdhw->bhw", folded_BD, x_BDhw) + (weight_BD @ cast(Tensor, self.point.bias))[:, None, None]
        )
        framed_B1hw = (F.pad(inner_Bhw, (1, 1, 1, 1)) + bias_B1[:, None])[:, None]
        return F.interpolate(framed_B1hw, size, mode="bilinear", align_corners=True)[:, 0]


class GroupingDecoder(nn.Module):
    """Merges the stages from coarse to fine, while tokens read the words and collect pixels."""

    def __init__(self, widths: Sequence[int], sides: Sequence[int], text_dim: int, dim: int, dropout: float) -> None:
        """Build the levels. The first one has a grouping of its own, the others share one.

        Args:
            widths: channels of the stages, fine to coarse.
            sides: positions per side of the stages; the tables of positions tie the decoder to them.
            text_dim: E.
            dim: D.
            dropout: rate behind the grouping and in its MLP.
        """
        super().__init__()
        levels = len(widths) - 1
        in_dims = [widths[-1], *[dim] * (levels - 1)]
        finer = list(reversed(widths[:-1]))
        self.tokens = nn.Parameter(torch.randn(TOKENS, dim))
        self.steps = nn.ModuleList(
            ConvStep(coarse + fine, dim, bias=True) for coarse, fine in zip(in_dims, finer, strict=True)
        )
        self.positions = nn.ParameterList(torch.randn(side**2, dim) * 0.02 for side in reversed(sides[:-1]))
        self.loads = nn.ModuleList(TokenLoading(dim, text_dim) for _ in range(levels - 1))
        self.groupings = nn.ModuleList(TokenGrouping(dim, dropout) for _ in range(2))
        self.head = KernelHead(dim)

    def forward(
        self, stages: Sequence[Tensor], words_BLE: Tensor, mask_BL: Tensor, size: tuple[int, int], *, noise: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return logits of `size` (B, H, W), and for every level the pixels that picked the target as 1 (B, h, w).

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
            words_BLE: word features.
            mask_BL: 1 for words.
            size: (H, W) of the logits.
            noise: of `TokenGrouping`.
        """
        x_BDhw, picked = stages[-1], []
        tokens_BKD = self.tokens.expand(len(x_BDhw), -1, -1)
        for level, (step, positions_ND) in enumerate(zip(self.steps, self.positions, strict=True)):
            x_BDhw = step(x_BDhw, stages[-2 - level])
            if level:
                tokens_BKD = self.loads[level - 1](tokens_BKD, words_BLE, mask_BL)
            pixels_BND = x_BDhw.flatten(2).transpose(1, 2) + positions_ND
            tokens_BKD, picked_BKN = self.groupings[min(level, 1)](tokens_BKD, pixels_BND, noise=noise)
            picked.append(picked_BKN[:, -1].unflatten(1, x_BDhw.shape[-2:]))
        logits_BHW: Tensor = self.head(x_BDhw, tokens_BKD[:, -1], size)
        return logits_BHW, picked
