"""The stage of RIS-DMMI: pixels attend to words and words to pixels, each with queries from three neighbourhoods."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.attention import LanguageGate, instance_norm

PIXEL_SIDES = {1: 1, 3: 2, 5: 4}
"""Side of a neighbourhood of pixels -> the channels are divided by this before its pixels are joined."""
WORD_COUNTS = (1, 2, 3)
"""Neighbouring words that are joined. The channels are divided by the same number before."""


class PixelsToWords(nn.Module):
    """Weights of the words for every pixel, whose query is computed from its neighbourhood."""

    def __init__(self, dim: int, text_dim: int, side: int) -> None:
        """Build for maps of `dim` channels, words of `text_dim` features and `side` x `side` neighbouring pixels."""
        super().__init__()
        self.side = side
        inner = dim // PIXEL_SIDES[side]
        self.query = nn.Linear(dim, inner)
        self.join = nn.Linear(inner * side**2, dim)  # features in the order (channel, row, column)
        self.key = nn.Linear(text_dim, dim)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, N, L); the sum over the words is 1, and pads get 0."""
        _, height, width, dim = x_BHWC.shape
        query_BNc = instance_norm(self.query(x_BHWC.flatten(1, 2)))
        query_BcHW = query_BNc.transpose(1, 2).unflatten(2, (height, width))
        kernel = self.join.weight.unflatten(1, (-1, self.side, self.side))
        query_BCHW = F.conv2d(query_BcHW, kernel, self.join.bias, padding=self.side // 2)
        query_BNC = instance_norm(query_BCHW.flatten(2).transpose(1, 2)) * dim**-0.5
        key_BLC = self.key(words_BLD) * mask_BL[..., None]
        return torch.baddbmm(1e4 * (mask_BL[:, None] - 1), query_BNC, key_BLC.transpose(1, 2)).softmax(-1)


class WordsToPixels(nn.Module):
    """Weights of the pixels for every word, whose query is computed from neighbouring words."""

    def __init__(self, dim: int, text_dim: int, count: int) -> None:
        """Build for maps of `dim` channels, words of `text_dim` features and `count` neighbouring words."""
        super().__init__()
        self.count = count
        inner = dim // count
        self.query = nn.Linear(text_dim, inner)
        self.join = nn.Linear(inner * count, text_dim)  # features in the order (channel, word)
        self.key = nn.Linear(dim, text_dim)

    def forward(self, x_BNC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, L, N); the sum over the pixels is 1. A pad weighs all pixels alike."""
        around = (self.count // 2, (self.count - 1) // 2)
        query_BcL = F.pad(self.query(words_BLD).transpose(1, 2), around, mode="replicate")
        kernel = self.join.weight.unflatten(1, (-1, self.count))
        query_BLD = F.conv1d(query_BcL, kernel, self.join.bias).transpose(1, 2) * mask_BL[..., None]
        key_BND = instance_norm(self.key(x_BNC))
        scores_BLN = (query_BLD * x_BNC.shape[-1] ** -0.5) @ key_BND.transpose(1, 2)  # by the pixels' width, as theirs
        return scores_BLN.softmax(-1)


class TwoWayAttention(nn.Module):
    """Both directions; the three weights of a direction are mixed by a softmax of learned numbers."""

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features."""
        super().__init__()
        self.pixels_to_words = nn.ModuleList(PixelsToWords(dim, text_dim, side) for side in PIXEL_SIDES)
        self.words_to_pixels = nn.ModuleList(WordsToPixels(dim, text_dim, count) for count in WORD_COUNTS)
        self.pixel_mix = nn.Parameter(torch.ones(len(PIXEL_SIDES)))
        self.word_mix = nn.Parameter(torch.ones(len(WORD_COUNTS)))
        self.value = nn.Linear(text_dim, dim)
        self.out = nn.Linear(dim, dim)
        self.pixel_value = nn.Linear(dim, text_dim)
        self.word_out = nn.Linear(text_dim, text_dim)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the words that each pixel reads (B, N, C) and the pixels that each word reads (B, L, D)."""
        mask_BL = mask_BL.to(x_BHWC.dtype)
        x_BNC = x_BHWC.flatten(1, 2)
        maps_BNL = [attend(x_BHWC, words_BLD, mask_BL) for attend in self.pixels_to_words]
        value_BLC = self.value(words_BLD) * mask_BL[..., None]
        read_BNC = instance_norm(self.out(_mixed(maps_BNL, self.pixel_mix) @ value_BLC))
        maps_BLN = [attend(x_BNC, words_BLD, mask_BL) for attend in self.words_to_pixels]
        read_BLD = self.word_out(_mixed(maps_BLN, self.word_mix) @ instance_norm(self.pixel_value(x_BNC)))
        return read_BNC, read_BLD


class TwoWayStage(nn.Module):
    """LAVT's language pathway with attention in both directions. It rewrites the words for the next stage."""

    def __init__(self, dim: int, text_dim: int, *, gated: bool = True) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features.

        `gated` is False for a last stage whose fused tokens are never read: they are not computed.
        """
        super().__init__()
        self.visual = nn.Linear(dim, dim)
        self.attention = TwoWayAttention(dim, text_dim)
        self.mix = nn.Linear(dim, dim)
        self.gate = LanguageGate(dim) if gated else None
        self.word_update = nn.Linear(text_dim, text_dim)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fused tokens and the features before the gate, both (B, H, W, C), and the words (B, L, D)."""
        read_BNC, read_BLD = self.attention(x_BHWC, words_BLD, mask_BL)
        r_BNC = F.gelu(self.mix(F.gelu(self.visual(x_BHWC.flatten(1, 2))) * read_BNC))
        fused_BHWC = x_BHWC if self.gate is None else x_BHWC + self.gate(r_BNC).view_as(x_BHWC)
        return fused_BHWC, r_BNC.view_as(x_BHWC), words_BLD + F.gelu(self.word_update(read_BLD))


def _mixed(weights: list[Tensor], mix: Tensor) -> Tensor:
    """Return the mean of the weights, each with its share."""
    shares = mix.softmax(0)
    return sum((share * one for share, one in zip(shares[1:], weights[1:], strict=True)), shares[0] * weights[0])
