"""FIANet's text-aware multi-scale enhancement module (Section III-C, Figure 4c of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.attention import PixelWordAttention
from ..blocks.scale_gate import ScaleAwareGate


class TextAwareBlock(nn.Module):
    """x + attention(LN(x), words), then x + MLP(LN(x)) (Equation 12)."""

    def __init__(self, dim: int, text_dim: int, mlp_ratio: int = 2) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = PixelWordAttention(dim, text_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, mlp_ratio * dim)
        self.shrink = nn.Linear(mlp_ratio * dim, dim)

    def forward(self, x_BNC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, N, C)."""
        x_BNC = x_BNC + self.attention(self.norm1(x_BNC), words_BLD, mask_BL)
        return x_BNC + self.shrink(F.gelu(self.expand(self.norm2(x_BNC))))


class TMEM(nn.Module):
    """Pools all stages to the coarsest grid, mixes them with the words, and gates the result back into the stages."""

    def __init__(self, widths: Sequence[int], text_dim: int, depth: int) -> None:
        """Build `depth` blocks for stages of `widths` channels; a quarter of their sum inside (480 for Swin-B)."""
        super().__init__()
        self.widths = list(widths)
        hidden = sum(widths) // 4
        self.down = nn.Conv2d(sum(widths), hidden, 1)
        self.blocks = nn.ModuleList(TextAwareBlock(hidden, text_dim) for _ in range(depth))
        self.bn = nn.BatchNorm2d(hidden)
        self.up = nn.Conv2d(hidden, sum(widths), 1)
        self.gates = nn.ModuleList(ScaleAwareGate(width) for width in widths)

    def forward(self, stages: Sequence[Tensor], words_BLD: Tensor, mask_BL: Tensor) -> list[Tensor]:
        """Return the enhanced stages, in the sizes that they came in.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
            words_BLD: context word features.
            mask_BL: 1 where a word is no padding.
        """
        height, width = stages[-1].shape[-2:]
        pooled_BChw = torch.cat([F.adaptive_avg_pool2d(stage, (height, width)) for stage in stages], dim=1)
        x_BNC = self.down(pooled_BChw).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x_BNC = block(x_BNC, words_BLD, mask_BL)
        x_BChw = self.up(self.bn(x_BNC.transpose(1, 2).unflatten(2, (height, width))))
        scales = x_BChw.split(self.widths, dim=1)
        return [gate(stage, scale) for gate, stage, scale in zip(self.gates, stages, scales, strict=True)]
