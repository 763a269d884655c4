"""The fusion of RefSegformer: memory tokens read the words, then pixels read the memory."""

# M = memory tokens

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks.attention import instance_norm
from ..blocks.cross_attention import CrossAttention

MEMORY, BLANK = 20, 10
"""Learned tokens that read the words, and learned tokens that read nothing."""
HEAD_WIDTH = 32


def memory_attention(dim: int) -> CrossAttention:
    """Return attention of `dim` channels with heads of 32 channels."""
    return CrossAttention(dim, dim, max(1, dim // HEAD_WIDTH))


class MemoryFusion(nn.Module):
    """The words reach the pixels of a stage through a small memory."""

    def __init__(self, dim: int, text_dim: int, *, zero_start: bool) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features.

        `zero_start`: the last batch norm starts with scale 0, so that the fusion starts as 0.
        """
        super().__init__()
        self.memory = nn.Parameter(torch.empty(MEMORY, dim))
        self.blank = nn.Parameter(torch.empty(BLANK, dim))
        self.input = nn.Linear(dim, dim)
        self.input_bn = nn.BatchNorm1d(dim)
        self.words = nn.Linear(text_dim, dim)
        self.to_words = memory_attention(dim)
        self.to_memory = memory_attention(dim)
        self.output = nn.Linear(dim, dim)
        self.output_bn = nn.BatchNorm1d(dim)
        for matrix in (self.memory, self.blank, self.input.weight, self.words.weight, self.output.weight):
            nn.init.xavier_uniform_(matrix)
        for attention in (self.to_words, self.to_memory):
            attention.apply(_initialise)
        if zero_start:
            nn.init.zeros_(self.output_bn.weight)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor, *, read_pads: bool) -> tuple[Tensor, Tensor]:
        """Return what the pixels read (B, H, W, C) and the memory (B, M, C).

        Args:
            x_BHWC: map of the stage.
            words_BLD: word features. Only their number counts at pads.
            mask_BL: 1 for words.
            read_pads: the memory shares its attention among words and pads, as in the authors' code.
        """
        batch = len(x_BHWC)
        memory_BMC = self.memory.expand(batch, -1, -1)
        memory_BMC = self.to_words(memory_BMC, self.words(words_BLD), mask_BL, read_pads=read_pads)
        memory_BMC = instance_norm(torch.cat([self.blank.expand(batch, -1, -1), memory_BMC], dim=1))
        query_BNC = _normed(self.input_bn, self.input(x_BHWC.flatten(1, 2)))
        read_BNC = instance_norm(self.to_memory(query_BNC, memory_BMC))
        return _normed(self.output_bn, self.output(read_BNC)).view_as(x_BHWC), memory_BMC


def _normed(norm: nn.BatchNorm1d, x_BNC: Tensor) -> Tensor:
    """Return (B, N, C), each channel normalised over the positions of the batch."""
    normed: Tensor = norm(x_BNC.flatten(0, 1))
    return normed.view_as(x_BNC)


def _initialise(module: nn.Module) -> None:
    """Start linear layers as the authors' encoder does: truncated normal of deviation 0.02, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
