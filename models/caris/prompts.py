"""The language prompts of CARIS: vectors of the image that BERT reads behind the words."""

# P = prompts, E = channels of the coarsest map

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRIDS = (1, 2)
"""Sides of the grids that the coarsest map is pooled to; each cell gives a prompt."""


class ImagePrompts(nn.Module):
    """One prompt per cell of the pooled map, plus a learned vector, normalised."""

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features."""
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(dim, text_dim) for _ in GRIDS)
        self.outer = nn.ModuleList(nn.Linear(text_dim, text_dim) for _ in GRIDS)
        self.learned = nn.Embedding(sum(side**2 for side in GRIDS), text_dim)
        self.norm = nn.LayerNorm(text_dim)

    def forward(self, x_BEHW: Tensor) -> Tensor:
        """Return the prompts (B, P, D): of the whole map first, then of its quarters, row by row."""
        cells = []
        for side, inner, outer in zip(GRIDS, self.inner, self.outer, strict=True):
            pooled_BNE = F.adaptive_avg_pool2d(x_BEHW, side).flatten(2).transpose(1, 2)
            cells.append(outer(F.relu(inner(pooled_BNE))))
        prompts_BPD: Tensor = self.norm(torch.cat(cells, dim=1) + self.learned.weight)
        return prompts_BPD
