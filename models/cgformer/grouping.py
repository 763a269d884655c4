"""The tokens of CGFormer: they load the words, and every pixel of a level picks one of them."""

# K = tokens, the last of which stands for the target; D = width of the decoder, E = features of a word

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from ..blocks.cross_attention import CrossAttention


class TokenLoading(nn.Module):
    """The target's token reads the words. Then an MLP replaces all tokens."""

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for tokens of `dim` and words of `text_dim` features."""
        super().__init__()
        self.norm_token = nn.LayerNorm(dim)
        self.norm_words = nn.LayerNorm(text_dim)
        self.attention = CrossAttention(dim, text_dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 2 * dim)

    def forward(self, tokens_BKD: Tensor, words_BLE: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, K, D); pads are not read."""
        others_BKD, target_B1D = tokens_BKD[:, :-1], tokens_BKD[:, -1:]
        read_B1D = self.attention(self.norm_token(target_B1D), self.norm_words(words_BLE), mask_BL)
        loaded_BKD: Tensor = self.mlp(self.norm(torch.cat([others_BKD, target_B1D + read_B1D], dim=1)))
        return loaded_BKD


class TokenGrouping(nn.Module):
    """Every pixel picks the token that it is most like, and a token becomes the sum of its pixels."""

    def __init__(self, dim: int, dropout: float) -> None:
        """Build for tokens and pixels of `dim` features."""
        super().__init__()
        self.norm_pixels = nn.LayerNorm(dim)
        self.norm_tokens = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 2 * dim, drop=dropout)

    def forward(self, tokens_BKD: Tensor, pixels_BND: Tensor, *, noise: bool) -> tuple[Tensor, Tensor]:
        """Return the tokens (B, K, D) and which token each pixel picked, as 0 and 1 (B, K, N).

        The gradient of the choice is that of the softmax over the tokens.

        Args:
            tokens_BKD: the tokens.
            pixels_BND: the map, with its positions.
            noise: whether Gumbel noise is added to the scores, so that the choice is a draw from the softmax.
        """
        pixels_BND = self.norm_pixels(pixels_BND)
        query_BKD = F.normalize(self.query(self.norm_tokens(tokens_BKD)), dim=-1)
        key_BND = F.normalize(self.key(pixels_BND), dim=-1)
        scores_BKN = query_BKD @ key_BND.transpose(1, 2)
        if noise:
            scores_BKN = scores_BKN - torch.empty_like(scores_BKN).exponential_().log()
        share_BKN = scores_BKN.softmax(1)
        picked_BKN = torch.zeros_like(share_BKN).scatter(1, share_BKN.argmax(1, keepdim=True), 1.0)
        picked_BKN = picked_BKN + (share_BKN - share_BKN.detach())
        weights_BKN = picked_BKN / (picked_BKN.sum(-1, keepdim=True) + 1)
        grouped_BKD = self.dropout(self.out(weights_BKN @ self.value(pixels_BND)))
        tokens_BKD = self.mlp(self.norm(grouped_BKD + tokens_BKD))
        return tokens_BKD, picked_BKN
