"""CrossVLT's blocks against their plainest form, its side maps, and what decays."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.crossvlt.fusion import GatedFusion
from rrsis_bench.models.crossvlt.language import AttentionLayer
from torch import Tensor, nn

from rrsis_bench.backbones import build_text
from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.errors import UserError
from tests.fakes.backbones import BERT
from tests.models.conftest import build_tiny, make_inputs
from tests.models.test_blocks import close, rows

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def attended(query: Tensor, keys: list[Tensor], values: list[Tensor], heads: int) -> Tensor:
    """Attention of one projected vector, head by head."""
    size = len(query) // heads
    out = torch.empty_like(query)
    for head in range(heads):
        part = slice(head * size, head * size + size)
        weights = torch.stack([query[part] @ key[part] / math.sqrt(size) for key in keys]).softmax(0)
        out[part] = sum(weight * value[part] for weight, value in zip(weights, values, strict=True))
    return out


def over_positions(x_NC: Tensor) -> Tensor:
    return (x_NC - x_NC.mean(0)) / torch.sqrt(x_NC.var(0, correction=0) + 1e-5)


@pytest.mark.parametrize(("inner", "heads"), [(32, 1), (128, 2)])
def test_the_fusion_adds_what_a_pixel_reads(inner: int, heads: int) -> None:
    block = GatedFusion(16, 6, inner)
    assert block.fusion.heads == heads
    x, words = torch.randn(2, 2, 3, 16), torch.randn(2, 5, 6)
    fused, r = block(x, words, MASK)
    for sample in range(2):
        x_NC = x[sample].reshape(6, 16)
        real = [words[sample, word] for word in range(5) if MASK[sample, word]]
        keys, values = ([rows(layer, word) for word in real] for layer in (block.fusion.key, block.fusion.value))
        queries = over_positions(torch.stack([rows(block.fusion.query, pixel) for pixel in x_NC]))
        read = torch.stack([rows(block.fusion.out, attended(query, keys, values, heads)) for query in queries])
        wanted = torch.stack([F.gelu(rows(block.fusion.mix, row)) for row in over_positions(read) + x_NC])
        gate = torch.tanh((wanted @ block.gate.inner.weight.T).clamp(min=0) @ block.gate.outer.weight.T)
        assert close(r[sample].reshape(6, 16), wanted)
        assert close(fused[sample].reshape(6, 16), x_NC + gate * wanted)
    assert GatedFusion(16, 6, 16, gated=False)(x, words, MASK)[0].equal(x)


def test_a_layer_of_berts_shape() -> None:
    config = build_text(BERT, BertEncoder).config
    layer = AttentionLayer(config, 7).eval()
    words, source = torch.randn(2, 3, config.hidden), torch.randn(2, 5, 7)

    def norm(block: nn.LayerNorm, x: Tensor) -> Tensor:
        return (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-12) * block.weight + block.bias

    for mask in (None, MASK):
        got = layer(words, source, mask)
        for sample in range(2):
            real = [source[sample, at] for at in range(5) if mask is None or mask[sample, at]]
            keys, values = ([rows(part, one) for one in real] for part in (layer.key, layer.value))
            for at, word in enumerate(words[sample]):
                read = rows(layer.out, attended(rows(layer.query, word), keys, values, config.heads))
                first = norm(layer.norm1, word + read)
                assert close(
                    got[sample, at], norm(layer.norm2, first + rows(layer.fc2, F.gelu(rows(layer.fc1, first))))
                )


def test_the_side_maps_are_cosines_and_exist_in_training_alone() -> None:
    views, text = make_inputs(2)
    model = build_tiny("crossvlt").double()
    assert model.eval()(views, text).side_logits == {}
    seen: list[Tensor] = []
    model.pixel_projections[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.sentence_projections[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    out = model.train()(views, text)
    assert out.main_weight == 2.0
    assert {name: weight for name, (weight, _) in out.side_logits.items()} == {f"stage{n}": 1.0 for n in (1, 2, 3, 4)}
    pixels, first = seen
    similarity = out.side_logits["stage2"][1]
    sentence = rows(model.sentence_projections[1], first[1])
    wanted = torch.empty_like(similarity[1])
    for row, col in torch.cartesian_prod(*(torch.arange(size) for size in wanted.shape)).tolist():
        pixel = rows(model.pixel_projections[1], pixels[1, row, col])
        wanted[row, col] = pixel @ sentence / (pixel.norm() * sentence.norm())
    assert close(similarity[1], wanted)
    without = build_tiny("crossvlt", stage_alignment=0.0).train()(views, text)
    assert without.side_logits == {}
    assert without.main_weight == 1.0


def test_more_layers_than_bert_has_are_refused() -> None:
    encoder = build_text(BERT, BertEncoder)
    count = len(encoder.bert.encoder.layer)
    encoder.keep_layers(count - 1)
    assert len(encoder.bert.encoder.layer) == count - 1
    with pytest.raises(UserError, match=r"text\.layers"):
        encoder.keep_layers(count)


def test_norms_of_the_language_and_the_decoder_decay() -> None:
    model = build_tiny("crossvlt")
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {"norms.2.weight", "backbone.layers.1.blocks.0.norm1.weight"} <= spared
    assert not [name for name in spared if name.startswith(("language.", "text_encoder.", "decoder."))]
