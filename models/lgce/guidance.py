"""LGCE's block: a token made of the sentence attends with the positions of a map."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

HEAD_WIDTH = 64


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
