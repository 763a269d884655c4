"""CGFormer's blocks against their plainest form, its noise, its side maps, and what decays."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.blocks.attention import GatedPWAM
from rrsis_bench.models.cgformer.decoder import GroupingDecoder, KernelHead
from rrsis_bench.models.cgformer.grouping import TokenGrouping, TokenLoading
from timm.layers.mlp import Mlp
from torch import Tensor

from rrsis_bench.errors import UserError
from tests.models.conftest import build_tiny, make_inputs
from tests.models.test_blocks import (
    close,
    plain_batch_norm,
    plain_conv,
    plain_instance_norm,
    plain_layer_norm,
    plain_resize,
    rows,
    unusual_statistics,
)

D, E, L = 8, 6, 5
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]])


pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def scatter(module) -> None:
    """Give every parameter but the statistics of batch norms a value that is not its start value."""
    for value in module.parameters():
        value.copy_(torch.randn(value.shape) / max(1, value[0].numel()) ** 0.5)
    unusual_statistics(module)


def plain_mlp(block: Mlp, x: Tensor) -> Tensor:
    return rows(block.fc2, F.gelu(rows(block.fc1, x)))


def plain_loading(block: TokenLoading, tokens_KD: Tensor, words_LE: Tensor, mask_L: Tensor) -> Tensor:
    query = rows(block.attention.query, plain_layer_norm(block.norm_token, tokens_KD[-1:]))[0]
    words = plain_layer_norm(block.norm_words, words_LE)
    read = [word for word, one in zip(words, mask_L.tolist(), strict=True) if one]
    scores = [query @ rows(block.attention.key, word) / math.sqrt(D) for word in read]
    shares = torch.stack(scores).softmax(0)
    vector = sum(share * rows(block.attention.value, word) for share, word in zip(shares, read, strict=True))
    tokens = torch.cat([tokens_KD[:-1], (tokens_KD[-1] + rows(block.attention.out, vector))[None]])
    return plain_mlp(block.mlp, plain_layer_norm(block.norm, tokens))


def plain_grouping(block: TokenGrouping, tokens_KD: Tensor, pixels_ND: Tensor) -> tuple[Tensor, Tensor]:
    pixels = plain_layer_norm(block.norm_pixels, pixels_ND)
    queries = [rows(block.query, token) for token in plain_layer_norm(block.norm_tokens, tokens_KD)]
    picked = torch.zeros(len(tokens_KD), len(pixels))
    for at, pixel in enumerate(pixels):
        key = rows(block.key, pixel)
        cosines = [float(query @ key / (query.norm() * key.norm())) for query in queries]
        picked[cosines.index(max(cosines)), at] = 1
    out = []
    for token, row in zip(tokens_KD, picked, strict=True):
        total = sum((rows(block.value, pixel) for pixel, one in zip(pixels, row, strict=True) if one), torch.zeros(D))
        grouped = rows(block.out, total / (row.sum() + 1))
        out.append(plain_mlp(block.mlp, plain_layer_norm(block.norm, (grouped + token)[None]))[0])
    return torch.stack(out), picked


def test_loading_replaces_all_tokens_and_only_the_last_reads_the_words() -> None:
    block, tokens, words = TokenLoading(D, E), torch.randn(2, 3, D), torch.randn(2, L, E)
    scatter(block)
    assert block.attention.heads == 1
    assert (block.attention.query.bias, block.mlp.fc1.out_features) == (None, 2 * D)
    got = block(tokens, words, MASK)
    for sample in range(2):
        assert close(got[sample], plain_loading(block, tokens[sample], words[sample], MASK[sample]))


def test_every_pixel_picks_one_token() -> None:
    block, tokens, pixels = TokenGrouping(D, 0.0), torch.randn(2, 3, D), torch.randn(2, 12, D)
    scatter(block)
    got, picked = block(tokens, pixels, noise=False)
    assert all(len(set(sample.argmax(0).tolist())) > 1 for sample in picked), "one token for all proves nothing"
    for sample in range(2):
        wanted, choice = plain_grouping(block, tokens[sample], pixels[sample])
        assert picked[sample].equal(choice)
        assert close(got[sample], wanted)


def test_the_gradient_of_the_choice_is_that_of_the_softmax() -> None:
    block, tokens, pixels = TokenGrouping(D, 0.0), torch.randn(1, 2, D), torch.randn(1, 6, D)
    weights = torch.randn(2, 6)
    with torch.enable_grad():
        block.zero_grad()
        (block(tokens, pixels, noise=False)[1][0] * weights).sum().backward()
        found = block.key.weight.grad.clone()
        block.zero_grad()
        query = F.normalize(block.query(block.norm_tokens(tokens)), dim=-1)
        key = F.normalize(block.key(block.norm_pixels(pixels)), dim=-1)
        ((query @ key.transpose(1, 2)).softmax(1)[0] * weights).sum().backward()
    assert close(found, block.key.weight.grad)


def test_noise_draws_each_token_as_often_as_its_share_of_the_softmax() -> None:
    block, one = TokenGrouping(D, 0.0), torch.randn(D)
    for layer in (block.query, block.key):
        layer.weight.copy_(torch.eye(D))
        layer.bias.zero_()
    share, draws = 1 / (1 + math.exp(-2)), 4000  # cosines 1 and -1
    drawn = block(torch.stack([one, -one])[None], one.expand(1, draws, D), noise=True)[1][0, 0].mean()
    assert abs(float(drawn) - share) < 5 * math.sqrt(share * (1 - share) / draws)


def test_the_head_applies_the_tokens_kernel_with_a_frame_of_its_bias() -> None:
    head, x, token = KernelHead(D).eval(), torch.randn(2, D, 2, 3), torch.randn(2, D)
    scatter(head)
    got = head(x, token, (8, 11))
    for sample in range(2):
        y = x[sample]
        for conv, norm in zip(head.convs, head.norms, strict=True):
            y = plain_resize(y, 2 * y.shape[1], 2 * y.shape[2], align_corners=False)
            y = plain_batch_norm(norm, plain_conv(conv, y)).clamp(min=0)
        y = plain_conv(head.point, y)
        kernel = rows(head.kernel, token[sample])
        framed = kernel[-1].expand(1, y.shape[1] + 2, y.shape[2] + 2).clone()
        framed[0, 1:-1, 1:-1] += torch.einsum("d,dhw->hw", kernel[:-1], y)
        assert close(got[sample], plain_resize(framed, 8, 11, align_corners=True)[0])


def test_the_decoder() -> None:
    decoder = GroupingDecoder((4, 6, 8, 10), (8, 4, 2, 1), E, D, 0.0).eval()
    scatter(decoder)
    sizes = ((4, 8), (6, 4), (8, 2), (10, 1))
    stages, words = [torch.randn(2, width, side, side) for width, side in sizes], torch.randn(2, L, E)
    logits, picked = decoder(stages, words, MASK, (32, 32), noise=False)
    x, tokens = stages[-1][1], decoder.tokens
    for level in range(3):
        finer, step = stages[2 - level][1], decoder.steps[level]
        x = torch.cat([plain_resize(x, *finer.shape[1:], align_corners=True), finer])
        for conv, norm in ((step.conv1, step.bn1), (step.conv2, step.bn2)):
            assert conv.bias is not None
            x = plain_batch_norm(norm, plain_conv(conv, x)).clamp(min=0)
        if level:
            tokens = plain_loading(decoder.loads[level - 1], tokens, words[1], MASK[1])
        pixels = x.flatten(1).T + decoder.positions[level]
        tokens, choice = plain_grouping(decoder.groupings[0 if level == 0 else 1], tokens, pixels)
        assert picked[level][1].flatten().equal(choice[-1])
    assert close(logits[1], decoder.head(x[None], tokens[None, -1], (32, 32))[0])
    assert len(decoder.groupings) == 2


def test_a_stage_with_8_heads_scales_its_scores_by_the_whole_width() -> None:
    block, x, words = GatedPWAM(16, E, heads=8), torch.randn(1, 2, 3, 16), torch.randn(1, L, E)
    attention, x_NC = block.pwam.attention, x[0].reshape(6, 16)
    query = plain_instance_norm(rows(attention.query, x_NC))
    read = [word for word, one in zip(words[0], MASK[0].tolist(), strict=True) if one]
    attended = torch.empty_like(x_NC)
    for at in range(6):
        for head in range(8):
            part = slice(2 * head, 2 * head + 2)
            scores = [query[at, part] @ rows(attention.key, word)[part] / 4 for word in read]
            shares = torch.stack(scores).softmax(0)
            values = [rows(attention.value, word)[part] for word in read]
            attended[at, part] = sum(share * value for share, value in zip(shares, values, strict=True))
    attended = plain_instance_norm(rows(attention.out, attended))
    wanted = F.gelu(rows(block.pwam.mix, F.gelu(rows(block.pwam.visual, x_NC)) * attended))
    assert close(block(x, words, MASK[:1])[1][0].reshape(6, 16), wanted)
    assert [stage.pwam.attention.heads for stage in build_tiny("cgformer").stages] == [8, 8, 8, 8]


def test_noise_is_drawn_in_training_and_in_evaluation_only_if_asked_for() -> None:
    views, text = make_inputs(2)
    for noise in (False, True):
        model = build_tiny("cgformer", inference_noise=noise).eval()
        drawn = [model(views, text).logits for _ in range(2)]
        assert drawn[0].equal(drawn[1]) != noise
    model = build_tiny("cgformer").train()
    drawn = [model(views, text).side_logits["level3"][1] for _ in range(2)]
    assert not drawn[0].equal(drawn[1])


def test_the_choice_of_every_level_is_supervised_in_training_alone() -> None:
    views, text = make_inputs(2)
    model = build_tiny("cgformer")
    assert model.eval()(views, text).side_logits == {}
    out = model.train()(views, text)
    assert out.logits.shape == (2, 64, 64)
    assert {name: (weight, side.shape[-1]) for name, (weight, side) in out.side_logits.items()} == {
        "level1": (0.001, 4),
        "level2": (0.01, 8),
        "level3": (0.1, 16),
    }
    assert all(((side == 0) | (side == 1)).all() for _, side in out.side_logits.values())
    without = build_tiny("cgformer", group_weights=[0, 0, 0.5]).train()(views, text)
    assert {name: weight for name, (weight, _) in without.side_logits.items()} == {"level3": 0.5}
    for weights in ([0.1, 0.1], [0.1, 0.1, -0.1]):
        with pytest.raises(UserError, match="group_weights"):
            build_tiny("cgformer", group_weights=weights)


@pytest.mark.parametrize("name", ["cgformer", "lscf"])
def test_views_of_another_size_than_the_tables_are_refused(name: str) -> None:
    views, text = make_inputs(1)
    with pytest.raises(UserError, match=r"64 pixels.*size\.image"):
        build_tiny(name).eval()({"image": views["image"][..., :48]}, text)


def test_everything_decays() -> None:
    model = build_tiny("cgformer")
    assert not [name for name, _ in model.named_parameters() if model.no_weight_decay(name)]
