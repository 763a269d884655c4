"""LGCE's neck (Yuan et al., TGRS 2024): a token made of the sentence attends with the positions of a map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

HEAD_WIDTH = 64
DEPTHS = (1, 3)
"""Blocks over the second coarsest and over the coarsest stage."""


class GuidedBlocks(nn.Module):
    """Vision transformer blocks over [guide token; positions]. The token is dropped afterwards."""

    def __init__(self, dim: int, text_dim: int, depth: int) -> None:
        """Build for maps of `dim` channels and sentences of `text_dim` features.

        Args:
            dim: C, a multiple of the heads: C / 64 of them, at least one.
            text_dim: D.
            depth: blocks.
        """
        super().__init__()
        self.guide = nn.Linear(text_dim, dim)
        self.blocks = nn.Sequential(
            *(
                Block(dim, max(1, dim // HEAD_WIDTH), mlp_ratio=2, qkv_bias=False, norm_layer=nn.LayerNorm)
                for _ in range(depth)
            )
        )

    def forward(self, x_BCHW: Tensor, sentence_BD: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        tokens_BNC = torch.cat([self.guide(sentence_BD)[:, None], x_BCHW.flatten(2).transpose(1, 2)], dim=1)
        guided_BNC: Tensor = self.blocks(tokens_BNC)[:, 1:]
        return guided_BNC.transpose(1, 2).reshape(x_BCHW.shape)


class GuidedStages(nn.ModuleList):
    """Guides the two coarsest stages by the mean of the words, each by blocks of its own."""

    def __init__(self, widths: Sequence[int], text_dim: int) -> None:
        """Build for stages of `widths` channels, fine to coarse."""
        super().__init__(GuidedBlocks(width, text_dim, depth) for width, depth in zip(widths[-2:], DEPTHS, strict=True))

    def forward(self, stages: Sequence[Tensor], words_BLD: Tensor, mask_BL: Tensor) -> list[Tensor]:
        """Return the stages, in the sizes that they came in.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
            words_BLD: word features.
            mask_BL: 1 for the words that take part in the mean.
        """
        mask_BL = mask_BL.to(words_BLD.dtype)
        sentence_BD = (words_BLD * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True).clamp(min=1)
        guided = [block(stage, sentence_BD) for block, stage in zip(self, stages[-2:], strict=True)]
        return [*stages[:-2], *guided]
