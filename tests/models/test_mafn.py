"""MAFN's blocks against their plainest form, and what decays."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.mafn.correlation import (
    ChannelAttentionBlock,
    CorrelationFusion,
    MultiWindowMLP,
    WindowMLP,
    correlation,
)
from rrsis_bench.models.mafn.decoder import MultiScaleConvBlock
from rrsis_bench.models.mafn.noise import AdaptiveNoise
from torch import Tensor, nn

from rrsis_bench.backbones import build_vision
from rrsis_bench.backbones.swin import SwinEncoder
from tests.fakes.backbones import SWIN
from tests.models.conftest import build_tiny
from tests.models.test_blocks import close, plain_conv, rows, unusual_statistics

pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def scatter(module: nn.Module) -> None:
    """Give every parameter a value that is not its start value."""
    for value in module.parameters():
        value.copy_(torch.randn(value.shape) / max(1, value[0].numel()) ** 0.5)


def test_adaptive_noise_is_attention_of_each_position_to_two_keys() -> None:
    block, y = AdaptiveNoise(16), torch.randn(2, 2, 3, 16)
    scatter(block)
    attention = nn.MultiheadAttention(16, 8)
    attention.in_proj_weight.copy_(block.qkv.weight)
    attention.in_proj_bias.copy_(block.qkv.bias)
    attention.out_proj.load_state_dict(block.out.state_dict())
    wanted = torch.empty_like(y)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in y.shape[:3])).tolist():
        one = y[tuple(place)]
        share = rows(block.relation.fc2, F.gelu(rows(block.relation.fc1, one))).softmax(0)
        keys = torch.stack([block.key_noise[0] + one, one * share])[:, None]
        values = torch.stack([block.value_noise[0] + one, one])[:, None]
        wanted[tuple(place)] = one + attention(one[None, None], keys, values)[0][0, 0]
    assert close(block(y), wanted)


def test_the_encoder_calls_what_is_put_behind_its_attention_in_every_block() -> None:
    """Bug: a class attribute None hid the module that was put there."""
    encoder, image = build_vision(SWIN, SwinEncoder, image_size=64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    before = encoder(image)
    encoder.extend_attention(lambda _: nn.Identity())
    assert all(one.equal(two) for one, two in zip(before, encoder(image), strict=True))
    seen: list[tuple[int, ...]] = []

    class Spy(nn.Module):
        def forward(self, y_BHWC: Tensor) -> Tensor:
            seen.append(tuple(y_BHWC.shape[1:]))
            return 0 * y_BHWC

    encoder.extend_attention(lambda _: Spy())
    assert not encoder(image)[-1].equal(before[-1])
    assert seen == [(16, 16, 16), *2 * [(8, 8, 32)], *2 * [(4, 4, 64)], (2, 2, 128)]


def test_correlation_with_shifted_neighbours() -> None:
    a, b = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    wanted = torch.zeros(2, 9, 3, 5)
    for row in range(3):
        for col in range(5):
            for channel in range(9):
                y, x = row + channel // 3 - 1, col + channel % 3 - 1
                if 0 <= y < 3 and 0 <= x < 5:
                    wanted[:, channel, row, col] = (a[:, :, row, col] * b[:, :, y, x]).mean(1)
    assert close(correlation(a, b), wanted)


def plain_window_mlp(block: WindowMLP, y_HWC: Tensor) -> Tensor:
    height, width, dim = y_HWC.shape
    side, out = block.side, torch.empty_like(y_HWC)
    for top in range(0, height, side):
        for left in range(0, width, side):
            cells = [(top + at // side, left + at % side) for at in range(side * side)]
            window = torch.stack([y_HWC[c] if c[0] < height and c[1] < width else torch.zeros(dim) for c in cells])
            wide = F.gelu(rows(block.expand, F.layer_norm(window, (dim,), block.norm.weight, block.norm.bias)))
            value, gate = wide[:, :dim], wide[:, dim:]
            gate = F.layer_norm(gate, (dim,), block.gate_norm.weight, block.gate_norm.bias)
            mixed = torch.stack([rows(block.mix, gate[:, channel]) for channel in range(dim)], dim=1)
            window = window + rows(block.shrink, value * (mixed + 1))
            for cell, one in zip(cells, window, strict=True):
                if cell[0] < height and cell[1] < width:
                    out[cell] = one
    return out


@pytest.mark.parametrize("size", [(3, 6), (4, 5), (2, 7)], ids=str)
def test_window_mlp(size: tuple[int, int]) -> None:
    block, y = WindowMLP(4, 3), torch.randn(2, *size, 4)
    scatter(block)
    assert close(block(y), torch.stack([plain_window_mlp(block, sample) for sample in y]))


def plain_multi_window(block: MultiWindowMLP, u_HWC: Tensor) -> Tensor:
    dim = u_HWC.shape[-1]
    y_HWC = F.layer_norm(u_HWC, (dim,), block.norm.weight, block.norm.bias)
    branches = [plain_window_mlp(branch, y_HWC) for branch in block.branches]
    pooled = sum(branches).mean((0, 1))
    weights = rows(block.weigh.fc2, F.gelu(rows(block.weigh.fc1, pooled)))
    mixed = torch.empty_like(u_HWC)
    for channel in range(dim):
        share = weights[3 * channel : 3 * channel + 3].softmax(0)
        mixed[..., channel] = sum(share[at] * branches[at][..., channel] for at in range(3))
    return u_HWC + rows(block.out, mixed)


def plain_channels(block: ChannelAttentionBlock, x_HWC: Tensor) -> Tensor:
    normed = F.layer_norm(x_HWC, (x_HWC.shape[-1],), block.norm.weight, block.norm.bias).permute(2, 0, 1)
    first = plain_conv(block.conv1, normed)
    second = plain_conv(block.conv2, torch.where(first > 0, first, 0.2 * first))
    weights = rows(block.expand, rows(block.shrink, second.mean((1, 2))).clamp(min=0)).sigmoid()
    return x_HWC + (second * weights[:, None, None]).permute(1, 2, 0)


def test_correlation_fusion() -> None:
    block = CorrelationFusion(4)
    scatter(block)
    assert [branch.side for branch in block.windows.branches] == [3, 5, 7]
    a, b = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    for sample in range(2):
        first, second = a[sample].permute(2, 0, 1), b[sample].permute(2, 0, 1)
        joined = torch.cat([first, correlation(first[None], second[None])[0], second])
        u_HWC = plain_conv(block.conv, joined).permute(1, 2, 0)
        wanted = plain_channels(block.channels, plain_multi_window(block.windows, u_HWC)) + u_HWC
        assert close(block(a, b)[sample], wanted)


def plain_norm(bn: nn.BatchNorm2d, x_CHW: Tensor) -> Tensor:
    normed = (x_CHW - bn.running_mean[:, None, None]) / torch.sqrt(bn.running_var[:, None, None] + bn.eps)
    return normed * bn.weight[:, None, None] + bn.bias[:, None, None]


def test_multi_scale_block() -> None:
    block, x = MultiScaleConvBlock(4).eval(), torch.randn(2, 4, 5, 5)
    unusual_statistics(block)
    got = block(x)
    for sample in range(2):
        z = plain_norm(block.inner_bn, plain_conv(block.inner, x[sample])).clamp(min=0)
        total = torch.zeros_like(z)
        for conv, bn, kernel in zip(block.scales, block.scale_bns, (1, 3, 5), strict=True):
            assert conv.kernel_size == (kernel, kernel)
            out = plain_norm(bn, plain_conv(conv, z)).clamp(min=0)
            total = total + out
            z = block.rotated(z[None])[0] + out
        assert close(got[sample], x[sample] + plain_norm(block.outer_bn, plain_conv(block.outer, total)))


def test_norms_of_fusions_and_decoder_and_the_noise_decay() -> None:
    model = build_tiny("mafn")
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {"norms.2.weight", "backbone.layers.1.blocks.0.norm1.weight"} <= spared
    assert not [name for name in spared if name.startswith(("stages.", "decoder.", "cim.")) or "noise" in name]
