"""Language fusion of one view: words attended by every position, mixed in through a gate (Equations 1 to 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LanguageFusion(nn.Module):
    """Cross-modality features of one view at one stage (Section III-B.1).

    The keys' projection has no bias: it would add the same number to a position's scores of all words, and the softmax
    cancels that.
    """

    def __init__(self, dim: int, text_dim: int, *, gate: bool = True) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features; without `gate`, F + V replaces Eq. 3."""
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(text_dim, dim, bias=False)
        self.value = nn.Linear(text_dim, dim)
        # Both projections of Cat([F, V]) in Equation 3: first the rows of the gate, then those of the gated content.
        self.mix = nn.Linear(2 * dim, 2 * dim) if gate else None
        self.out = nn.Linear(dim, dim) if gate else None

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, H, W, C).

        Args:
            x_BHWC: the view's map, V in the paper.
            words_BLD: word features.
            mask_BL: 1 for words that may be attended to. F is 0 if there are none.
        """
        dim = x_BHWC.shape[-1]
        x_BNC, mask_BL = x_BHWC.flatten(1, 2), mask_BL.to(x_BHWC.dtype)
        # All steps except the softmax are linear, so the projections are applied to the L words, which are far fewer
        # than the N positions: (W x + b) k = x (W k) + b k. The same holds for the values.
        key_BLC = self.key(words_BLD) * dim**-0.5
        offset_BL = key_BLC @ self.query.bias + 1e4 * (mask_BL - 1)
        scores_BNL = torch.baddbmm(offset_BL[:, None], x_BNC, (key_BLC @ self.query.weight).transpose(1, 2))
        weights_BNL = scores_BNL.softmax(-1)
        value_BLC = self.value(words_BLD) * mask_BL[..., None]
        if self.mix is None or self.out is None:
            return torch.baddbmm(x_BNC, weights_BNL, value_BLC).view_as(x_BHWC)
        of_words, of_map = self.mix.weight.split(dim, dim=1)
        mixed_BNC = F.linear(x_BNC, of_map, self.mix.bias) + weights_BNL @ F.linear(value_BLC, of_words)
        gate_BNC, content_BNC = mixed_BNC.chunk(2, dim=-1)
        return x_BHWC + self.out(torch.tanh(gate_BNC) * content_BNC).view_as(x_BHWC)
