"""LGCE's block against its plainest form, its pads, and what decays."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from rrsis_bench.models.blocks.guidance import GuidedBlocks
from torch import Tensor, nn

from tests.models.conftest import build_tiny, make_inputs
from tests.models.test_blocks import close, rows


def plain_norm(norm: nn.LayerNorm, x_NC: Tensor) -> Tensor:
    out = torch.empty_like(x_NC)
    for at, x in enumerate(x_NC):
        mean = x.sum() / len(x)
        out[at] = (x - mean) / torch.sqrt(((x - mean) ** 2).sum() / len(x) + 1e-5) * norm.weight + norm.bias
    return out


@torch.no_grad()
def test_guided_blocks() -> None:
    torch.manual_seed(0)
    dim, depth = 128, 2
    block = GuidedBlocks(dim, 6, depth).double().eval()
    x, sentence = torch.randn(2, dim, 2, 3).double(), torch.randn(2, 6).double()
    tokens = torch.cat([rows(block.guide, sentence[1])[None], x[1].flatten(1).T])
    for part in block.blocks:
        assert part.attn.num_heads == 2
        assert part.attn.qkv.bias is None
        qkv = plain_norm(part.norm1, tokens) @ part.attn.qkv.weight.T
        attended = torch.zeros_like(tokens)
        for head in range(2):
            query, key, value = (qkv[:, dim * kind + 64 * head : dim * kind + 64 * head + 64] for kind in range(3))
            for at in range(7):
                weights = torch.stack([query[at] @ key[other] / math.sqrt(64) for other in range(7)]).softmax(0)
                attended[at, 64 * head : 64 * head + 64] = sum(weights[other] * value[other] for other in range(7))
        tokens = tokens + rows(part.attn.proj, attended)
        assert part.mlp.fc1.out_features == 2 * dim
        tokens = tokens + rows(part.mlp.fc2, F.gelu(rows(part.mlp.fc1, plain_norm(part.norm2, tokens))))
    assert close(block(x, sentence)[1], tokens[1:].T.reshape(dim, 2, 3))


@torch.no_grad()
def test_official_pads_enter_the_mean_and_masked_ones_do_not() -> None:
    views, text = make_inputs(2)
    text["attention_mask"][:, 6:] = 0
    longer = {key: F.pad(value, (0, 4)) for key, value in text.items()}
    for pads, moves in (("official", True), ("masked", False)):
        model = build_tiny("lgce", pads=pads).double().eval()
        difference = (model(views, text).logits - model(views, longer).logits).abs().max()
        assert bool(difference > 1e-8) == moves


def test_norms_of_the_block_and_the_decoder_decay() -> None:
    model = build_tiny("lgce")
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {"norms.2.weight", "backbone.layers.1.downsample.norm.weight"} <= spared
    assert not [name for name in spared if name.startswith(("guided.", "decoder.", "text_encoder."))]
