"""Cross-modal alignment (Section III-B.c, Figure 7): weighted words, attended by every pixel and mixed in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.attention import PixelWordAttention


class CMA(nn.Module):
    """Cross-attention to the words, each weighted by its importance, and a convex mix with the map at every position.

    The attention is LAVT's, as in the paper's figure: queries from the map, keys and values from the words, an output
    projection. Queries and output are normalised over the positions, as in LAVT.
    """

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features."""
        super().__init__()
        self.visual = nn.Linear(dim, dim)
        self.importance = nn.Linear(text_dim, 1)
        self.attention = PixelWordAttention(dim, text_dim)
        self.choose = nn.Linear(2 * dim, 1)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BNC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return F_cm (B, N, C).

        Args:
            x_BNC: the map's positions.
            words_BLD: word features.
            mask_BL: 1 for words that may be attended to. The attended value is 0 if there are none.
        """
        visual_BNC = F.gelu(self.visual(x_BNC))
        words_BLD = words_BLD * torch.sigmoid(self.importance(words_BLD))
        language_BNC = self.attention(visual_BNC, words_BLD, mask_BL)
        weight_BN1 = torch.sigmoid(self.choose(torch.cat([visual_BNC, language_BNC], dim=-1)))
        return self.out(weight_BN1 * visual_BNC + (1 - weight_BN1) * language_BNC)
