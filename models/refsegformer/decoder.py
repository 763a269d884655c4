"""RefSegformer's decoder: every level reads the memory of its stage and makes a mask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from ..blocks.decoder import ConvStep
from .fusion import memory_attention


class MemoryDecoder(nn.Module):
    """From coarse to fine: attention to the memory, a mask, then the next finer stage is joined."""

    def __init__(self, widths: Sequence[int], *, zero_start: bool) -> None:
        """Build for stages of `widths` channels, fine to coarse. The finest one has no memory.

        `zero_start`: the batch norms behind the attentions start with scale 0, so that the attentions start as 0.
        """
        super().__init__()
        self.attentions = nn.ModuleList(memory_attention(width) for width in widths[1:])
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.steps = nn.ModuleList(ConvStep(coarse + fine, fine) for fine, coarse in pairwise(widths))
        self.heads = nn.ModuleList(nn.Conv2d(width, 2, 1) for width in widths)
        for module in self.attentions.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.001)
                nn.init.zeros_(module.bias)
        if zero_start:
            for norm in self.norms:
                nn.init.zeros_(cast(nn.BatchNorm2d, norm).weight)

    def forward(self, stages: Sequence[Tensor], memories: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits (B, h, w), foreground minus background, of every level, fine to coarse.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
            memories: (B, M, C_i) of all stages but the finest.
        """
        x_BCHW, logits = stages[-1], []
        for level in reversed(range(1, len(stages))):
            read_BNC = self.attentions[level - 1](x_BCHW.flatten(2).transpose(1, 2), memories[level - 1])
            x_BCHW = x_BCHW + self.norms[level - 1](read_BNC.transpose(1, 2).view_as(x_BCHW))
            logits.append(self._mask(level, x_BCHW))
            x_BCHW = self.steps[level - 1](x_BCHW, stages[level - 1])
        return [self._mask(0, x_BCHW), *reversed(logits)]

    def _mask(self, level: int, x_BCHW: Tensor) -> Tensor:
        background_BHW, foreground_BHW = self.heads[level](x_BCHW).unbind(1)
        logits_BHW: Tensor = foreground_BHW - background_BHW
        return logits_BHW
