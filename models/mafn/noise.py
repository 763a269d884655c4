"""MAFN's learned noise behind the window attention of every Swin block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

HEADS = 8


class AdaptiveNoise(nn.Module):
    """Every position attends to two keys of its own: itself with learned noise, and itself weighted by channel.

    y + attention(query y; keys noise_k + y and y * s; values noise_v + y and y), with s = softmax over the channels of
    an MLP of y. "Noise" is a learned constant: nothing is random at run time. With two keys, softmax is a sigmoid of
    the difference of the scores, in which the bias of the keys cancels; the values differ by the noise alone.

    The noise tables keep the second row of the authors' files, which is never read.
    """

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels, a multiple of 8."""
        super().__init__()
        self.relation = Mlp(dim, dim, dim)
        self.key_noise = nn.Parameter(torch.randn(2, dim))
        self.value_noise = nn.Parameter(torch.randn(2, dim))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.qkv.weight)
        for layer in (self.relation.fc1, self.relation.fc2, self.out):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        for layer in (self.relation.fc1, self.relation.fc2, self.out, self.qkv):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, y_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        dim = y_BHWC.shape[-1]
        query_weight, key_weight, value_weight = self.qkv.weight.chunk(3)
        query_bias, _, value_bias = self.qkv.bias.chunk(3)
        query_BHWC = F.linear(y_BHWC, query_weight, query_bias)
        relation_BHWC = self.relation(y_BHWC).softmax(-1)
        key_BHWC = F.linear(self.key_noise[0] + y_BHWC - y_BHWC * relation_BHWC, key_weight)
        scores = (query_BHWC * key_BHWC).unflatten(-1, (HEADS, -1)).sum(-1) * (dim // HEADS) ** -0.5
        weight_BHWC = torch.sigmoid(scores).repeat_interleave(dim // HEADS, dim=-1)
        value_BHWC = F.linear(y_BHWC, value_weight, value_bias) + weight_BHWC * F.linear(
            self.value_noise[0], value_weight
        )
        out_BHWC: Tensor = y_BHWC + self.out(value_BHWC)
        return out_BHWC
