"""The later language stages of CrossVLT: words read the pixels, then each other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.backbones.bert import BertConfig

BERT_EPS = 1e-12


class AttentionLayer(nn.Module):
    """A layer of BERT's shape (norms behind the residuals), whose keys and values come from any source."""

    def __init__(self, config: BertConfig, source_dim: int) -> None:
        """Build a layer as wide as BERT's, for a source of `source_dim` features. Linear weights start as BERT's."""
        super().__init__()
        dim = config.hidden
        self.heads = config.heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(source_dim, dim)
        self.value = nn.Linear(source_dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim, eps=BERT_EPS)
        self.fc1 = nn.Linear(dim, config.intermediate)
        self.fc2 = nn.Linear(config.intermediate, dim)
        self.norm2 = nn.LayerNorm(dim, eps=BERT_EPS)
        self.dropout = nn.Dropout(config.dropout)
        for layer in (self.query, self.key, self.value, self.out, self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, words_BLD: Tensor, source_BNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """Return (B, L, D).

        Args:
            words_BLD: what asks.
            source_BNC: what is read.
            mask_BN: 1 for positions of the source that may be read; None: all.
        """
        added = None if mask_BN is None else 1e4 * (mask_BN[:, None, None].to(words_BLD.dtype) - 1)
        read_BhLd = F.scaled_dot_product_attention(
            self._split(self.query(words_BLD)),
            self._split(self.key(source_BNC)),
            self._split(self.value(source_BNC)),
            attn_mask=added,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        read_BLD = self.out(read_BhLd.transpose(1, 2).flatten(2))
        words_BLD = self.norm1(words_BLD + self.dropout(read_BLD))
        out_BLD: Tensor = self.norm2(words_BLD + self.dropout(self.fc2(F.gelu(self.fc1(words_BLD)))))
        return out_BLD

    def _split(self, x_BND: Tensor) -> Tensor:
        """Return (B, heads, N, D / heads)."""
        return x_BND.unflatten(2, (self.heads, -1)).transpose(1, 2)


class LanguageStage(nn.Module):
    """Words read the map of the vision stage before, then each other."""

    def __init__(self, config: BertConfig, dim: int) -> None:
        """Build for maps of `dim` channels."""
        super().__init__()
        self.to_pixels = AttentionLayer(config, dim)
        self.to_words = AttentionLayer(config, config.hidden)

    def forward(self, words_BLD: Tensor, x_BHWC: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, L, D)."""
        words_BLD = self.to_pixels(words_BLD, x_BHWC.flatten(1, 2))
        out_BLD: Tensor = self.to_words(words_BLD, words_BLD, mask_BL)
        return out_BLD
