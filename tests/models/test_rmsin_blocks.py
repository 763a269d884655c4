"""RMSIN's blocks against their plainest form: loops over samples, heads, positions and channels, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from rrsis_bench.models.blocks.cim import CIM, HEADS, CIMBlock, CrossScaleAttention, FeedForward
from rrsis_bench.models.blocks.intra_scale import IntraScaleInteraction, RepBlock
from torch import Tensor

from rrsis_bench.errors import UserError
from tests.models.test_blocks import (
    close,
    plain_batch_norm,
    plain_conv,
    plain_gate,
    plain_pwam,
    plain_scale_gate,
    rows,
    unusual_statistics,
)

pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def hardswish(x: Tensor) -> Tensor:
    return x * torch.clamp(x + 3, 0, 6) / 6


def plain_repblock(block: RepBlock, map_1HW: Tensor) -> Tensor:
    out = map_1HW
    for unit in (block.first, block.second):
        point = plain_batch_norm(unit.point_bn, plain_conv(unit.point, out))
        inner = plain_batch_norm(unit.inner_bn, plain_conv(unit.inner, out))
        spatial = plain_batch_norm(unit.spatial_bn, plain_conv(unit.spatial, inner))
        out = point + spatial + plain_batch_norm(unit.identity_bn, out)
        if unit is block.first:
            out = torch.clamp(out, min=0)
    return out


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (2, 1)], ids=str)
def test_repblock(size) -> None:
    block = RepBlock().eval()
    unusual_statistics(block)
    maps = torch.randn(3, 1, *size)
    assert close(block(maps), torch.stack([plain_repblock(block, sample) for sample in maps]))


def test_intra_scale_interaction() -> None:
    block = IntraScaleInteraction(8, 6).eval()
    unusual_statistics(block)
    block.repblock.first.identity_bn.bias.add_(3.0)  # the ReLU lets the map through
    x, text = torch.randn(2, 3, 5, 8), torch.randn(2, 4, 6)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    fused, pwam = block(x, text, mask)
    for sample in range(2):
        x_NC = x[sample].reshape(15, 8)
        r_NC = plain_pwam(block.pwam, x_NC, text[sample], mask[sample])
        assert close(pwam[sample].reshape(15, 8), r_NC)
        raw = plain_repblock(block.repblock, x[sample].mean(-1)[None]).reshape(15)
        assert raw.std() > 0.05, "a constant map weighs nothing"
        visual_NC = torch.stack([x_NC[at] / (1 + math.exp(-float(raw[at]))) for at in range(15)])
        wanted = x_NC + plain_gate(block.gate, r_NC) + plain_gate(block.visual_gate, visual_NC)
        assert close(fused[sample].reshape(15, 8), wanted)


def plain_cross_scale_attention(block: CrossScaleAttention, x_CHW: Tensor) -> Tensor:
    """Everything but the convolutions in loops over tokens; the reshapes as positions in a flat list of numbers."""
    side, key_dim = block.side, block.key_dim
    value_dim, positions = 2 * key_dim, side * side
    x0 = plain_batch_norm(block.bn, x_CHW)
    x1 = plain_batch_norm(block.stride2_bn, plain_conv(block.stride2, x0))
    x2 = plain_batch_norm(block.stride3_bn, plain_conv(block.stride3, x0))
    features = []
    for scale in (x0, x1, x2):
        for row in range(scale.shape[1]):
            for col in range(scale.shape[2]):
                feature = block.qkv.weight @ scale[:, row, col]
                features.append(plain_batch_norm(block.qkv_bn, feature[:, None, None]).flatten())
    count = len(features)
    attended, own = [[] for _ in range(count)], []
    for head in range(HEADS):
        start = head * (2 * key_dim + value_dim)
        query = [feature[start : start + key_dim] for feature in features]
        key = [feature[start + key_dim : start + 2 * key_dim] for feature in features]
        value = [feature[start + 2 * key_dim : start + 2 * key_dim + value_dim] for feature in features]
        for token in range(count):
            weights = [math.exp(float(query[token] @ other) / math.sqrt(key_dim)) for other in key]
            mixed = sum(weight / sum(weights) * one for weight, one in zip(weights, value, strict=True))
            attended[token] += mixed.tolist()
        for token in range(positions):
            own += value[token].tolist()
    flat = [number for token in attended for number in token]
    local = plain_conv(block.local, hardswish(torch.tensor(own).reshape(HEADS * value_dim, side, side)))
    out = torch.empty(x_CHW.shape[0], side, side)
    for position in range(positions):
        channels = []
        for channel in range(HEADS * value_dim):
            share = torch.tensor(flat[channel * count : (channel + 1) * count])
            total = block.tokens.weight[position] @ share + block.tokens.bias[position]
            channels.append(total + local[channel, position // side, position % side])
        out[:, position // side, position % side] = rows(block.out, torch.stack(channels))
    return plain_conv(block.mix, hardswish(plain_batch_norm(block.out_bn, out)))


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_cross_scale_attention(side: int) -> None:
    block = CrossScaleAttention(6, side, 2).eval()
    unusual_statistics(block)
    x = torch.randn(2, 6, side, side)
    assert close(block(x), torch.stack([plain_cross_scale_attention(block, sample) for sample in x]))


def plain_feed_forward(block: FeedForward, x_CHW: Tensor) -> Tensor:
    wide = plain_conv(block.expand, plain_batch_norm(block.bn1, x_CHW))
    return plain_conv(block.shrink, torch.clamp(plain_conv(block.local, plain_batch_norm(block.bn2, wide)), 0, 6))


def test_feed_forward() -> None:
    block = FeedForward(4).eval()
    unusual_statistics(block)
    assert block.local.groups == 4
    x = 30 * torch.randn(2, 4, 3, 5)  # beyond the 6 of ReLU6
    assert close(block(x), torch.stack([plain_feed_forward(block, sample) for sample in x]))


def plain_cim_block(block: CIMBlock, groups: list[int], x_CHW: Tensor) -> Tensor:
    x_CHW = x_CHW + plain_cross_scale_attention(block.attention1, x_CHW)
    scales, start = [], 0
    for group, inner in zip(groups, block.scale_ff.scales, strict=True):
        part = x_CHW[start : start + group]
        scales.append(part + plain_feed_forward(inner, part))
        start += group
    x_CHW = x_CHW + torch.cat(scales)
    x_CHW = x_CHW + plain_cross_scale_attention(block.attention2, x_CHW)
    return x_CHW + plain_feed_forward(block.ff, x_CHW)


def test_cim() -> None:
    widths, groups, sides, side = [8, 12, 16, 20], [2, 3, 4, 5], [12, 6, 3, 3], 3
    block = CIM(widths, side).eval()
    unusual_statistics(block)
    stages = [torch.randn(2, width, size, size) for width, size in zip(widths, sides, strict=True)]
    got = block(stages)
    for sample in range(2):
        pooled = torch.empty(sum(widths), side, side)
        start = 0
        for stage, width, size in zip(stages, widths, sides, strict=True):
            step = size // side
            for row in range(side):
                for col in range(side):
                    cell = stage[sample, :, step * row : step * row + step, step * col : step * col + step]
                    pooled[start : start + width, row, col] = cell.mean((1, 2))
            start += width
        mixed = plain_cim_block(block.blocks[0], groups, plain_conv(block.down, pooled))
        mixed = plain_conv(block.up, plain_batch_norm(block.bn, mixed))
        start = 0
        for index, width in enumerate(widths):
            wanted = plain_scale_gate(block.gates[index], stages[index][sample], mixed[start : start + width])
            assert close(got[index][sample], wanted)
            start += width


def test_cim_has_the_authors_shapes_at_480_pixels() -> None:
    with torch.device("meta"):
        block = CIM([128, 256, 512, 1024], 15).blocks[0]
    assert block.scale_ff.groups == [32, 64, 128, 256]
    for attention in (block.attention1, block.attention2):
        assert attention.tokens.weight.shape == (225, 314)
        assert attention.qkv.weight.shape == (1024, 480)
        assert attention.local.weight.shape == (512, 1, 3, 3)


@pytest.mark.parametrize("grid", [(3, 4), (4, 3), (2, 2)], ids=str)
def test_another_grid_is_refused(grid) -> None:
    block = CIM([8, 16], 3)
    with pytest.raises(UserError, match=f"3 x 3 positions and got {grid[0]} x {grid[1]}"):
        block([torch.randn(1, 8, 9, 9), torch.randn(1, 16, *grid)])


def test_every_parameter_of_the_neck_learns() -> None:
    """With fixed statistics; in training a BatchNorm takes the biases before it away again."""
    block = CIM([8, 16], 4).eval()
    stages = [torch.randn(3, 8, 8, 8), torch.randn(3, 16, 4, 4)]
    with torch.enable_grad():
        sum(stage.pow(3).mean() for stage in block(stages)).backward()
    assert not [name for name, value in block.named_parameters() if value.grad is None or not value.grad.any()]
