"""The fusion of CrossVLT: pixels attend to words, and what they read is added to them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.attention import LanguageGate, instance_norm

HEAD_DIM = 64
"""Channels of an attention head; an attention narrower than this has one head."""


class ResidualFusion(nn.Module):
    """Multi-head attention of pixels to words, normalised over the positions, added to the pixels and projected."""

    def __init__(self, dim: int, text_dim: int, inner: int) -> None:
        """Build for maps of `dim` channels, words of `text_dim` features and an attention of `inner` channels."""
        super().__init__()
        self.heads = max(1, inner // HEAD_DIM)
        self.query = nn.Linear(dim, inner)
        self.key = nn.Linear(text_dim, inner)
        self.value = nn.Linear(text_dim, inner)
        self.out = nn.Linear(inner, dim)
        self.mix = nn.Linear(dim, dim)

    def forward(self, x_BNC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, N, C); pads are not read."""
        read_BhNd = F.scaled_dot_product_attention(
            self._split(instance_norm(self.query(x_BNC))),
            self._split(self.key(words_BLD)),
            self._split(self.value(words_BLD)),
            attn_mask=1e4 * (mask_BL[:, None, None].to(x_BNC.dtype) - 1),
        )
        read_BNC = instance_norm(self.out(read_BhNd.transpose(1, 2).flatten(2)))
        return F.gelu(self.mix(read_BNC + x_BNC))

    def _split(self, x_BND: Tensor) -> Tensor:
        """Return (B, heads, N, D / heads)."""
        return x_BND.unflatten(2, (self.heads, -1)).transpose(1, 2)


class GatedFusion(nn.Module):
    """x + gate(r) * r with r = fusion(x, words)."""

    def __init__(self, dim: int, text_dim: int, inner: int, *, gated: bool = True) -> None:
        """Build a fusion and its gate; `gated` is False where the fused tokens are never read."""
        super().__init__()
        self.fusion = ResidualFusion(dim, text_dim, inner)
        self.gate = LanguageGate(dim) if gated else None

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused tokens and the fusion before its gate, both (B, H, W, C)."""
        r_BNC = self.fusion(x_BHWC.flatten(1, 2), words_BLD, mask_BL)
        fused_BHWC = x_BHWC if self.gate is None else x_BHWC + self.gate(r_BNC).view_as(x_BHWC)
        return fused_BHWC, r_BNC.view_as(x_BHWC)
