"""Every shared block against its plainest form: loops over samples, positions and words, explicit matrices, float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.blocks.attention import PWAM, GatedPWAM, LanguageGate, PixelWordAttention, instance_norm
from rrsis_bench.models.blocks.decoder import TopDownDecoder
from rrsis_bench.models.blocks.rotated import AdaptiveRotatedConv, RotationRouting, rotate_kernels
from rrsis_bench.models.blocks.scale_gate import ScaleAwareGate
from rrsis_bench.models.fianet.fiam import FIAM, Phrase
from rrsis_bench.models.fianet.tmem import TMEM, TextAwareBlock
from torch import Tensor

B, H, W, C, L, D = 2, 3, 4, 8, 5, 6
N = H * W


pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def tokens(batch: int = B, positions: int = N, dim: int = C) -> Tensor:
    return torch.randn(batch, positions, dim)


def words() -> tuple[Tensor, Tensor]:
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]])
    return torch.randn(B, L, D), mask


def close(got: Tensor, wanted: Tensor) -> bool:
    assert wanted.std() > 1e-3, "a constant proves nothing"
    return torch.allclose(got, wanted, rtol=0, atol=1e-5)


def rows(linear, x: Tensor) -> Tensor:
    """A linear layer on one sample's rows, as an explicit matrix."""
    out = x @ linear.weight.T
    return out if linear.bias is None else out + linear.bias


def plain_instance_norm(x_NC: Tensor) -> Tensor:
    out = torch.empty_like(x_NC)
    for channel in range(x_NC.shape[1]):
        column = x_NC[:, channel]
        mean = sum(column.tolist()) / len(column)
        variance = sum((value - mean) ** 2 for value in column.tolist()) / len(column)
        out[:, channel] = (column - mean) / math.sqrt(variance + 1e-5)
    return out


def plain_attention(block: PixelWordAttention, x_NC: Tensor, words_LD: Tensor, mask_L: Tensor) -> Tensor:
    query = plain_instance_norm(rows(block.query, x_NC))
    key = rows(block.key, words_LD)
    value = rows(block.value, words_LD)
    attended = torch.zeros(len(x_NC), value.shape[1])
    for position in range(len(x_NC)):
        scores = []
        for word in range(len(words_LD)):
            masked_key = key[word] * mask_L[word]
            score = float(query[position] @ masked_key) / math.sqrt(key.shape[1])
            scores.append(score if mask_L[word] else score - 1e4)
        largest = max(scores)
        weights = [math.exp(score - largest) for score in scores]
        for word, weight in enumerate(weights):
            attended[position] += weight / sum(weights) * value[word] * mask_L[word]
    return plain_instance_norm(rows(block.out, attended))


def plain_pwam(block: PWAM, x_NC: Tensor, words_LD: Tensor, mask_L: Tensor) -> Tensor:
    visual = F.gelu(rows(block.visual, x_NC))
    return F.gelu(rows(block.mix, visual * plain_attention(block.attention, x_NC, words_LD, mask_L)))


def plain_gate(block: LanguageGate, r_NC: Tensor) -> Tensor:
    out = torch.empty_like(r_NC)
    for position, r in enumerate(r_NC):
        inner = torch.clamp(block.inner.weight @ r, min=0)
        out[position] = torch.tanh(block.outer.weight @ inner) * r
    return out


def test_instance_norm() -> None:
    x = 3 + 2 * tokens()
    assert close(instance_norm(x), torch.stack([plain_instance_norm(sample) for sample in x]))


def test_pixel_word_attention() -> None:
    block, x, (text, mask) = PixelWordAttention(C, D), tokens(), words()
    wanted = torch.stack([plain_attention(block, *sample) for sample in zip(x, text, mask, strict=True)])
    assert close(block(x, text, mask), wanted)


def test_pixel_word_attention_without_words_adds_nothing() -> None:
    block, x, (text, mask) = PixelWordAttention(C, D), tokens(), words()
    mask[0] = 0
    out = block(x, text, mask)
    assert out[0].abs().max() < 1e-9
    assert out[1].abs().max() > 0.1


def test_pwam() -> None:
    block, x, (text, mask) = PWAM(C, D), tokens(), words()
    wanted = torch.stack([plain_pwam(block, *sample) for sample in zip(x, text, mask, strict=True)])
    assert close(block(x, text, mask), wanted)


def test_language_gate() -> None:
    block, r = LanguageGate(C), tokens()
    assert close(block(r), torch.stack([plain_gate(block, sample) for sample in r]))


def test_gated_pwam() -> None:
    block, x, (text, mask) = GatedPWAM(C, D), tokens().view(B, H, W, C), words()
    fused, pwam = block(x, text, mask)
    for sample in range(B):
        x_NC = x[sample].reshape(N, C)
        r_NC = plain_pwam(block.pwam, x_NC, text[sample], mask[sample])
        assert close(pwam[sample].reshape(N, C), r_NC)
        assert close(fused[sample].reshape(N, C), x_NC + plain_gate(block.gate, r_NC))


@pytest.mark.parametrize("modulation", [True, False])
@pytest.mark.parametrize("position", [True, False])
@pytest.mark.parametrize("target", [True, False])
def test_fiam(target: bool, position: bool, modulation: bool) -> None:
    block = FIAM(C, D, object_branch=target, position_branch=position, channel_modulation=modulation)
    x = tokens().view(B, H, W, C)
    phrases = [Phrase(*words()) for _ in range(3)]
    phrases[1].mask_BL[:, 1] = 0
    phrases[2].mask_BL[:, 2] = 0
    fused, pwam = block(x, *phrases)
    for sample in range(B):
        x_NC = x[sample].reshape(N, C)
        (context, context_mask), (goal, goal_mask), (where, where_mask) = (
            (phrase.words_BLD[sample], phrase.mask_BL[sample]) for phrase in phrases
        )
        context_NC = plain_pwam(block.context, x_NC, context, context_mask)
        assert close(pwam[sample].reshape(N, C), context_NC)
        prior = torch.ones(N)
        if position:
            attended = plain_attention(block.position.attention, x_NC, where, where_mask).view(H, W, C)
            kernel = block.position.conv.weight[0]
            for row in range(H):
                for col in range(W):
                    total = 0.0
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            if 0 <= row + dy < H and 0 <= col + dx < W:
                                vector = attended[row + dy, col + dx]
                                total += float(kernel[0, dy + 1, dx + 1] * vector.mean())
                                total += float(kernel[1, dy + 1, dx + 1] * vector.max())
                    prior[row * W + col] = 1 / (1 + math.exp(-total))
        gated = plain_gate(block.context_gate, context_NC)
        if target:
            object_NC = plain_attention(block.object.attention, x_NC, goal, goal_mask)
            gated = gated + plain_gate(block.object.gate, object_NC) * prior[:, None]
        else:
            gated = gated * prior[:, None]
        if modulation:
            squeezed = torch.clamp(rows(block.modulation.shrink, x_NC.mean(0)), min=0)
            gated = gated * torch.sigmoid(rows(block.modulation.expand, squeezed))
        assert close(fused[sample].reshape(N, C), x_NC + gated)


def plain_batch_norm(norm, x_CHW: Tensor) -> Tensor:
    """Evaluation-mode BatchNorm, channel by channel."""
    out = torch.empty_like(x_CHW)
    for channel in range(len(x_CHW)):
        scale = norm.weight[channel] / torch.sqrt(norm.running_var[channel] + norm.eps)
        out[channel] = (x_CHW[channel] - norm.running_mean[channel]) * scale + norm.bias[channel]
    return out


def plain_conv(conv, x_CHW: Tensor) -> Tensor:
    """A convolution with zero padding of half its kernel, one output position and one group at a time."""
    (out_dim, group_in, size, _), step = conv.weight.shape, conv.stride[0]
    in_dim, height, width = x_CHW.shape
    group_out = out_dim // conv.groups
    start = size // 2
    padded = torch.zeros(in_dim, height + 2 * start, width + 2 * start)
    padded[:, start : start + height, start : start + width] = x_CHW
    out = torch.empty(out_dim, -(-height // step), -(-width // step))
    for row in range(out.shape[1]):
        for col in range(out.shape[2]):
            patch = padded[:, step * row : step * row + size, step * col : step * col + size]
            for group in range(conv.groups):
                kernels = conv.weight[group * group_out : (group + 1) * group_out]
                seen = patch[group * group_in : (group + 1) * group_in]
                out[group * group_out : (group + 1) * group_out, row, col] = (kernels * seen).sum((1, 2, 3))
    return out if conv.bias is None else out + conv.bias[:, None, None]


def plain_resize(x_CHW: Tensor, height: int, width: int, *, align_corners: bool) -> Tensor:
    """Bilinear resize, one output position at a time."""

    def source(at: int, old: int, new: int) -> tuple[int, int, float]:
        if align_corners:
            place = at * (old - 1) / (new - 1) if new > 1 else 0.0
        else:
            place = max((at + 0.5) * old / new - 0.5, 0.0)
        low = min(int(place), old - 1)
        return low, min(low + 1, old - 1), place - low

    out = torch.empty(x_CHW.shape[0], height, width)
    for row in range(height):
        top, bottom, down = source(row, x_CHW.shape[1], height)
        for col in range(width):
            left, right, along = source(col, x_CHW.shape[2], width)
            upper = (1 - along) * x_CHW[:, top, left] + along * x_CHW[:, top, right]
            lower = (1 - along) * x_CHW[:, bottom, left] + along * x_CHW[:, bottom, right]
            out[:, row, col] = (1 - down) * upper + down * lower
    return out


def unusual_statistics(module) -> None:
    """BatchNorm that is no identity."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            for value in (norm.running_mean, norm.weight.data, norm.bias.data):
                value.copy_(torch.randn_like(value))
            norm.running_var.copy_(0.5 + torch.rand_like(norm.running_var))


def plain_scale_gate(block: ScaleAwareGate, local_CHW: Tensor, wide_Chw: Tensor) -> Tensor:
    height, width = local_CHW.shape[1:]
    gate = torch.clamp(plain_batch_norm(block.gate_bn, plain_conv(block.gate, wide_Chw)) + 3, 0, 6) / 6
    wide = plain_batch_norm(block.wide_bn, plain_conv(block.wide, wide_Chw))
    local = plain_batch_norm(block.local_bn, plain_conv(block.local, local_CHW))
    gate, wide = (plain_resize(map_, height, width, align_corners=False) for map_ in (gate, wide))
    return local * gate + wide


def test_scale_aware_gate() -> None:
    block = ScaleAwareGate(C).eval()
    unusual_statistics(block)
    local, wide = torch.randn(B, C, 6, 5), torch.randn(B, C, 3, 2)
    wanted = torch.stack([plain_scale_gate(block, *sample) for sample in zip(local, wide, strict=True)])
    assert close(block(local, wide), wanted)


def plain_layer_norm(norm, x_NC: Tensor) -> Tensor:
    mean = x_NC.mean(1, keepdim=True)
    variance = ((x_NC - mean) ** 2).mean(1, keepdim=True)
    return (x_NC - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def plain_tmem_block(block: TextAwareBlock, x_NC: Tensor, words_LD: Tensor, mask_L: Tensor) -> Tensor:
    x_NC = x_NC + plain_attention(block.attention, plain_layer_norm(block.norm1, x_NC), words_LD, mask_L)
    return x_NC + rows(block.shrink, F.gelu(rows(block.expand, plain_layer_norm(block.norm2, x_NC))))


def test_tmem_block() -> None:
    block, x, (text, mask) = TextAwareBlock(C, D), tokens(), words()
    torch.nn.init.normal_(block.norm1.weight)
    wanted = torch.stack([plain_tmem_block(block, *sample) for sample in zip(x, text, mask, strict=True)])
    assert close(block(x, text, mask), wanted)


def test_tmem() -> None:
    widths, sides = [2, 4, 6, 8], [8, 4, 2, 2]
    block = TMEM(widths, D, depth=2).eval()
    unusual_statistics(block)
    text, mask = words()
    stages = [torch.randn(B, width, side, side) for width, side in zip(widths, sides, strict=True)]
    got = block(stages, text, mask)
    for sample in range(B):
        pooled = []
        for stage, side in zip(stages, sides, strict=True):
            step = side // 2
            cells = [
                stage[sample, :, step * row : step * row + step, step * col : step * col + step].mean((1, 2))
                for row in range(2)
                for col in range(2)
            ]
            pooled.append(torch.stack(cells, dim=1).view(-1, 2, 2))
        x_NC = plain_conv(block.down, torch.cat(pooled)).reshape(5, 4).T
        for inner in block.blocks:
            x_NC = plain_tmem_block(inner, x_NC, text[sample], mask[sample])
        mixed = plain_conv(block.up, plain_batch_norm(block.bn, x_NC.T.reshape(5, 2, 2)))
        start = 0
        for index, width in enumerate(widths):
            wanted = plain_scale_gate(block.gates[index], stages[index][sample], mixed[start : start + width])
            assert close(got[index][sample], wanted)
            start += width


def plain_rotation(kernel_33: Tensor, angle: float) -> Tensor:
    """One kernel: every cell reads bilinearly between four others, from a place that is moved into the kernel."""
    out = torch.empty(3, 3)
    for row in (-1, 0, 1):
        for col in (-1, 0, 1):
            down = 1 + min(max(row * math.cos(angle) + col * math.sin(angle), -1.0), 1.0)
            along = 1 + min(max(col * math.cos(angle) - row * math.sin(angle), -1.0), 1.0)
            top, left = min(int(down), 1), min(int(along), 1)
            down, along = down - top, along - left
            upper = (1 - along) * kernel_33[top, left] + along * kernel_33[top, left + 1]
            lower = (1 - along) * kernel_33[top + 1, left] + along * kernel_33[top + 1, left + 1]
            out[row + 1, col + 1] = (1 - down) * upper + down * lower
    return out


def test_rotated_kernels() -> None:
    angles = [0.0, 0.3, -0.3, math.radians(40), -math.radians(40), 2.0]
    weight = torch.randn(4, 2, 3, 3)
    got = rotate_kernels(weight, torch.tensor(angles))
    for sample, angle in enumerate(angles):
        for out in range(4):
            for channel in range(2):
                assert close(got[sample, out, channel], plain_rotation(weight[out, channel], angle))
    assert got[0].equal(weight)
    assert close(rotate_kernels(weight, torch.tensor([math.pi / 2]))[0], weight.rot90(1, (2, 3)))


def busy_routing(module) -> None:
    """Routing heads whose angles and gates differ between images, as they do after training."""
    for routing in module.modules():
        if isinstance(routing, RotationRouting):
            for layer in (routing.depthwise, routing.gate, routing.angle):
                torch.nn.init.normal_(layer.weight)
            for value in (routing.gate.bias, routing.norm.weight, routing.norm.bias):
                torch.nn.init.normal_(value)


def plain_routing(block: RotationRouting, x_CHW: Tensor) -> tuple[float, float]:
    dim, height, width = x_CHW.shape
    filtered = plain_conv(block.depthwise, x_CHW).reshape(dim, height * width).T
    pooled = torch.clamp(plain_layer_norm(block.norm, filtered), min=0).mean(0)
    raw_gate = float(block.gate.weight[0] @ pooled + block.gate.bias[0])
    raw_angle = float(block.angle.weight[0] @ pooled)
    return 1 / (1 + math.exp(-raw_gate)), math.radians(40) * raw_angle / (1 + abs(raw_angle))


def plain_rotated_conv(block: AdaptiveRotatedConv, x_CHW: Tensor) -> Tensor:
    gate, angle = plain_routing(block.routing, x_CHW)
    plain = torch.nn.Conv2d(x_CHW.shape[0], block.weight.shape[1], 3, bias=False)
    for out, kernels in enumerate(block.weight[0]):
        for channel, kernel in enumerate(kernels):
            plain.weight[out, channel] = gate * plain_rotation(kernel, angle)
    return plain_conv(plain, x_CHW)


def test_adaptive_rotated_convolution() -> None:
    block = AdaptiveRotatedConv(5, 3).eval()
    busy_routing(block)
    x = torch.randn(4, 5, 4, 3) + 3 * torch.randn(4, 5, 1, 1)
    gates, angles = block.routing(x)
    for sample in range(4):
        assert (float(gates[sample]), float(angles[sample])) == pytest.approx(plain_routing(block.routing, x[sample]))
    assert angles.std() > 0.05, "one angle for all proves nothing"
    assert angles.min() < 0 < angles.max()
    wanted = torch.stack([plain_rotated_conv(block, sample) for sample in x])
    assert close(block(x), wanted)


def test_routing_drops_features_in_training_only() -> None:
    """Gate and angle each lose their own fifth of the pooled features."""
    routing = RotationRouting(400)
    torch.nn.init.ones_(routing.gate.weight)
    torch.nn.init.ones_(routing.angle.weight)
    torch.nn.init.zeros_(routing.gate.bias)
    seen = {}
    for head in ("gate", "angle"):
        getattr(routing, head).register_forward_pre_hook(lambda _, args, head=head: seen.update({head: args[0]}))
    x = torch.randn(1, 400, 6, 6)
    routing.eval()(x)
    kept = seen["gate"]
    assert kept.equal(seen["angle"])
    routing.train()(x)
    dropped = {head: value == 0 for head, value in seen.items()}
    assert all(0.1 < float(zeros.double().mean()) < 0.3 for zeros in dropped.values())
    assert not dropped["gate"].equal(dropped["angle"])
    assert torch.allclose(seen["gate"][~dropped["gate"]] * 0.8, kept[~dropped["gate"]])


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("hidden", [None, 3])
def test_decoder(hidden: int | None, rotated: bool) -> None:
    widths, sizes = [2, 4, 6, 8], [(9, 7), (5, 4), (3, 2), (2, 1)]
    block = TopDownDecoder(widths, hidden, rotated=rotated).eval()
    unusual_statistics(block)
    busy_routing(block)
    stages = [torch.randn(B, width, *size) for width, size in zip(widths, sizes, strict=True)]
    got, features = block(stages), block.features(stages)
    for sample in range(B):
        x_CHW = stages[3][sample]
        for step, stage in zip(block.steps, (2, 1, 0), strict=True):
            x_CHW = torch.cat([plain_resize(x_CHW, *sizes[stage], align_corners=True), stages[stage][sample]])
            x_CHW = torch.clamp(plain_batch_norm(step.bn1, plain_conv(step.conv1, x_CHW)), min=0)
            second = plain_rotated_conv(step.conv2, x_CHW) if rotated else plain_conv(step.conv2, x_CHW)
            x_CHW = torch.clamp(plain_batch_norm(step.bn2, second), min=0)
        assert close(features[sample], x_CHW)
        classes = plain_conv(block.head, x_CHW)
        assert close(got[sample], classes[1] - classes[0])
