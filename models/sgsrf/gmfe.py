"""Grounding-cues modulated multi-resolution feature enhancement of SAM 2's maps (3.4.1)."""

# G = context tokens

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MapEnhancement(nn.Module):
    """F + alpha * Attn(Q = F, K = G, V = G) on one map; one head, scaled by the map's channels.

    The paper prints V = F, whose rows do not fit the N_g keys. Without the residual every position would be a mixture
    of N_g vectors.
    """

    def __init__(self, channels: int, dim: int, alpha: float) -> None:
        """Build for a map of `channels` and grounding cues of `dim` features, whose weight starts at `alpha`."""
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(dim, channels, bias=False)
        self.value = nn.Linear(dim, channels)
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def forward(self, map_BCHW: Tensor, cues_BGD: Tensor) -> Tensor:
        """Return the enhanced map (B, C, H, W)."""
        query_BNC = self.query(map_BCHW.flatten(2).transpose(1, 2))
        key_BGC, value_BGC = self.key(cues_BGD), self.value(cues_BGD)
        found_BNC = F.scaled_dot_product_attention(query_BNC[:, None], key_BGC[:, None], value_BGC[:, None])[:, 0]
        return map_BCHW + self.alpha * found_BNC.transpose(1, 2).unflatten(2, map_BCHW.shape[2:])


class FeatureEnhancement(nn.Module):
    """One enhancement per level, each with its own projections of the grounding cues."""

    def __init__(self, widths: Sequence[int], dim: int, alpha: float) -> None:
        """Build for maps of `widths` channels."""
        super().__init__()
        self.levels = nn.ModuleList(MapEnhancement(width, dim, alpha) for width in widths)

    def forward(self, maps: Sequence[Tensor], cues_BGD: Tensor) -> list[Tensor]:
        """Return the enhanced maps."""
        return [level(map_BCHW, cues_BGD) for level, map_BCHW in zip(self.levels, maps, strict=True)]
