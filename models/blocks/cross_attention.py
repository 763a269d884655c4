"""Attention of one sequence to another, as RefSegformer and CGFormer have it."""

# E = features of the sequence that is read, d = channels of one head

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention with projections of queries, keys, values and the output."""

    def __init__(self, dim: int, source_dim: int, heads: int = 1, *, bias: bool = True) -> None:
        """Build for queries of `dim` features and a source of `source_dim` features.

        Args:
            dim: features of queries, heads together, and the output; a multiple of `heads`.
            source_dim: E.
            heads: attention heads. Scores are scaled by the width of one.
            bias: of the projections of queries, keys and values. The output has one always.
        """
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(source_dim, dim, bias=bias)
        self.value = nn.Linear(source_dim, dim, bias=bias)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, x_BND: Tensor, source_BLE: Tensor, mask_BL: Tensor | None = None, *, read_pads: bool = False
    ) -> Tensor:
        """Return (B, N, D).

        Args:
            x_BND: what asks.
            source_BLE: what is read.
            mask_BL: 1 for positions of the source that may be read; None: all. Keys and values of the others are 0.
            read_pads: positions with mask 0 keep their share of the attention, as positions of score and value 0.
        """
        key_BLD, value_BLD, added = self.key(source_BLE), self.value(source_BLE), None
        if mask_BL is not None:
            taken_BL1 = mask_BL.to(key_BLD.dtype)[..., None]
            key_BLD, value_BLD = key_BLD * taken_BL1, value_BLD * taken_BL1
            added = None if read_pads else 1e4 * (taken_BL1.transpose(1, 2)[:, None] - 1)
        read_BhNd = F.scaled_dot_product_attention(
            self._split(self.query(x_BND)), self._split(key_BLD), self._split(value_BLD), attn_mask=added
        )
        out_BND: Tensor = self.out(read_BhNd.transpose(1, 2).flatten(2))
        return out_BND

    def _split(self, x_BND: Tensor) -> Tensor:
        """Return (B, heads, N, D / heads)."""
        return x_BND.unflatten(2, (self.heads, -1)).transpose(1, 2)
