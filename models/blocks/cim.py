"""RMSIN's cross-scale interaction module (CVPR 2024): attention between three resolutions of the pooled stages.

The attention ties the module to one grid, because it has a linear layer over the tokens, and because two of its
reshapes are no transposes: they lay the channels of neighbouring tokens side by side.
"""

# T = tokens of all scales, V = value features of all heads

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.errors import UserError

from .scale_gate import ScaleAwareGate

HEADS = 8


class CrossScaleAttention(nn.Module):
    """Self-attention over a map and two coarser copies of it, brought back to the map's own positions."""

    def __init__(self, dim: int, side: int, key_dim: int) -> None:
        """Build for square maps of `side` positions and `dim` channels; values are twice as wide as keys."""
        super().__init__()
        self.side, self.key_dim = side, key_dim
        value_dim = 2 * key_dim
        coarse = [-(-side // step) for step in (2, 3)]  # sides of the copies
        self.bn = nn.BatchNorm2d(dim)
        self.stride2 = nn.Conv2d(dim, dim, 3, stride=2, padding=1, groups=dim)
        self.stride2_bn = nn.BatchNorm2d(dim)
        self.stride3 = nn.Conv2d(dim, dim, 5, stride=3, padding=2, groups=dim)
        self.stride3_bn = nn.BatchNorm2d(dim)
        self.qkv = nn.Linear(dim, HEADS * (2 * key_dim + value_dim), bias=False)
        self.qkv_bn = nn.BatchNorm1d(HEADS * (2 * key_dim + value_dim))
        self.local = nn.Conv2d(HEADS * value_dim, HEADS * value_dim, 3, padding=1, groups=HEADS * value_dim)
        self.tokens = nn.Linear(side**2 + sum(size**2 for size in coarse), side**2)
        self.out = nn.Linear(HEADS * value_dim, dim)
        self.out_bn = nn.BatchNorm2d(dim)
        self.mix = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, C, H, W), without the residual."""
        x_BCHW = self.bn(x_BCHW)
        scales = (x_BCHW, self.stride2_bn(self.stride2(x_BCHW)), self.stride3_bn(self.stride3(x_BCHW)))
        tokens_BTC = torch.cat([scale.flatten(2) for scale in scales], dim=2).transpose(1, 2)
        batch, count, _ = tokens_BTC.shape
        qkv = self.qkv_bn(self.qkv(tokens_BTC).flatten(0, 1)).view(batch, count, HEADS, -1).transpose(1, 2)
        query, key, value = qkv.split([self.key_dim, self.key_dim, 2 * self.key_dim], dim=3)  # (B, heads, T, ...)
        attended = F.scaled_dot_product_attention(query, key, value)
        # The authors' reshapes, which mix tokens and channels: (B, T, heads * D) is read as (B, heads * D, T), and
        # the values of the map's own tokens (B, heads, N, D) as (B, heads * D, H, W).
        attended_BVT = attended.transpose(1, 2).reshape(batch, -1, count)
        own_BVHW = value[:, :, : self.side**2].reshape(batch, -1, self.side, self.side)
        mixed_BVN = self.tokens(attended_BVT) + self.local(F.hardswish(own_BVHW)).flatten(2)
        out_BCN = self.out(mixed_BVN.transpose(1, 2)).transpose(1, 2)
        return self.mix(F.hardswish(self.out_bn(out_BCN.unflatten(2, (self.side, self.side)))))


class FeedForward(nn.Module):
    """BN, 1 x 1 to twice the channels, BN, 3 x 3 in one group per channel that came in, ReLU6, 1 x 1 back."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(dim)
        self.expand = nn.Conv2d(dim, 2 * dim, 1)
        self.bn2 = nn.BatchNorm2d(2 * dim)
        self.local = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=dim)
        self.shrink = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, C, H, W), without the residual."""
        return self.shrink(F.relu6(self.local(self.bn2(self.expand(self.bn1(x_BCHW))))))


class ScaleFeedForward(nn.Module):
    """A feed-forward block with its own residual for the channels of every scale."""

    def __init__(self, groups: Sequence[int]) -> None:
        """Build for consecutive groups of so many channels."""
        super().__init__()
        self.groups = list(groups)
        self.scales = nn.ModuleList(FeedForward(group) for group in groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, C, H, W), without the outer residual."""
        parts = x_BCHW.split(self.groups, dim=1)
        return torch.cat([part + block(part) for block, part in zip(self.scales, parts, strict=True)], dim=1)


class CIMBlock(nn.Module):
    """Cross-scale attention, feed-forward per scale, cross-scale attention, feed-forward, each with a residual."""

    def __init__(self, groups: Sequence[int], side: int) -> None:
        """Build for square maps of `side` positions whose channels are the `groups`, one per stage."""
        super().__init__()
        dim = sum(groups)
        self.attention1 = CrossScaleAttention(dim, side, groups[0])
        self.scale_ff = ScaleFeedForward(groups)
        self.attention2 = CrossScaleAttention(dim, side, groups[0])
        self.ff = FeedForward(dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        for block in (self.attention1, self.scale_ff, self.attention2, self.ff):
            x_BCHW = x_BCHW + block(x_BCHW)
        return x_BCHW


class CIM(nn.Module):
    """Pools all stages to the coarsest grid, lets the scales interact, and gates the result back into the stages.

    Inside, a stage has a quarter of its channels (32, 64, 128 and 256 for Swin-B), and a key of the attention is as
    wide as the first of these groups.
    """

    def __init__(self, widths: Sequence[int], side: int, depth: int = 1) -> None:
        """Build for stages of `widths` channels, the last of which is `side` x `side`.

        Args:
            widths: channels of the stages, multiples of 4.
            side: positions per side of the last stage; 15 at 480 pixels.
            depth: blocks.
        """
        super().__init__()
        self.widths, self.side = list(widths), side
        groups = [width // 4 for width in widths]
        hidden = sum(groups)
        self.down = nn.Conv2d(sum(widths), hidden, 1)
        self.blocks = nn.ModuleList(CIMBlock(groups, side) for _ in range(depth))
        self.bn = nn.BatchNorm2d(hidden)
        self.up = nn.Conv2d(hidden, sum(widths), 1)
        self.gates = nn.ModuleList(ScaleAwareGate(width) for width in widths)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the enhanced stages, in the sizes that they came in.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.

        Raises:
            UserError: the last stage has another grid than the one that the module was built for.
        """
        height, width = stages[-1].shape[-2:]
        if (height, width) != (self.side, self.side):
            raise UserError(
                f"This cross-scale module was built for a last stage of {self.side} x {self.side} positions and got "
                f"{height} x {width}: its weights belong to one image size. Build the model for the size of the views."
            )
        x_BChw = self.down(torch.cat([F.adaptive_avg_pool2d(stage, (height, width)) for stage in stages], dim=1))
        for block in self.blocks:
            x_BChw = block(x_BChw)
        scales = self.up(self.bn(x_BChw)).split(self.widths, dim=1)
        return [gate(stage, scale) for gate, stage, scale in zip(self.gates, stages, scales, strict=True)]
