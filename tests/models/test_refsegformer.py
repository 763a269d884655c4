"""RefSegformer's blocks against their plainest form, its pads, its side maps and loss, and what decays."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from rrsis_bench.models.blocks.cross_attention import CrossAttention
from rrsis_bench.models.refsegformer.decoder import MemoryDecoder
from rrsis_bench.models.refsegformer.fusion import MemoryFusion
from rrsis_bench.models.refsegformer.official_keys import OFFICIAL_FORMAT
from torch import Tensor

from rrsis_bench.errors import UserError
from rrsis_bench.official import convert_official
from tests.models.conftest import build_tiny, make_inputs, moved_by_more_slots
from tests.models.test_blocks import close, plain_batch_norm, plain_conv, plain_resize, rows, unusual_statistics

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]])
MODES = ((None, False), (MASK, False), (MASK, True))  # mask, and whether pads keep their share


pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def plain_attention(block: CrossAttention, x_ND: Tensor, source_LE: Tensor, mask_L=None, *, pads=False) -> Tensor:
    """Attention of one sequence to another, query by query and head by head."""
    taken = [1] * len(source_LE) if mask_L is None else mask_L.tolist()
    keys = [one * rows(block.key, source) for one, source in zip(taken, source_LE, strict=True)]
    values = [one * rows(block.value, source) for one, source in zip(taken, source_LE, strict=True)]
    read = [at for at, one in enumerate(taken) if one or pads]
    size = x_ND.shape[1] // block.heads
    out = []
    for x in x_ND:
        query, vector = rows(block.query, x), torch.zeros(x_ND.shape[1])
        for head in range(block.heads):
            part = slice(head * size, head * size + size)
            shares = torch.stack([query[part] @ keys[at][part] / math.sqrt(size) for at in read]).exp()
            vector[part] = sum(share / shares.sum() * values[at][part] for share, at in zip(shares, read, strict=True))
        out.append(rows(block.out, vector))
    return torch.stack(out)


def over_positions(x_NC: Tensor) -> Tensor:
    return (x_NC - x_NC.mean(0)) / torch.sqrt(x_NC.var(0, correction=0) + 1e-5)


def scatter(module) -> None:
    """Give every parameter but the statistics of batch norms a value that is not its start value."""
    for value in module.parameters():
        value.copy_(torch.randn(value.shape) / max(1, value[0].numel()) ** 0.5)
    unusual_statistics(module)


@pytest.mark.parametrize(("mask", "pads"), MODES)
@pytest.mark.parametrize(("heads", "bias"), [(1, False), (2, True)])
def test_cross_attention(mask: Tensor | None, pads: bool, heads: int, bias: bool) -> None:
    block = CrossAttention(8, 6, heads, bias=bias)
    assert (block.key.bias is not None) == bias
    x, source = torch.randn(2, 3, 8), torch.randn(2, 5, 6)
    got = block(x, source, mask, read_pads=pads)
    for sample in range(2):
        own = None if mask is None else mask[sample]
        assert close(got[sample], plain_attention(block, x[sample], source[sample], own, pads=pads))


def test_without_a_word_nothing_is_read() -> None:
    block = CrossAttention(8, 6)
    got = block(torch.randn(1, 3, 8), torch.randn(1, 5, 6), torch.zeros(1, 5))
    assert torch.allclose(got, block.out.bias.expand(1, 3, 8))


@pytest.mark.parametrize("pads", [True, False])
def test_the_fusion(pads: bool) -> None:
    block, x, words = MemoryFusion(64, 6, zero_start=False).eval(), torch.randn(2, 2, 3, 64), torch.randn(2, 5, 6)
    assert block.to_words.heads == block.to_memory.heads == 2
    assert (len(block.memory), len(block.blank)) == (20, 10)
    scatter(block)
    got, memory = block(x, words, MASK, read_pads=pads)
    for sample in range(2):
        language = torch.stack([rows(block.words, word) for word in words[sample]])
        read = plain_attention(block.to_words, block.memory, language, MASK[sample], pads=pads)
        wanted = over_positions(torch.cat([block.blank, read]))
        assert close(memory[sample], wanted)
        query = torch.stack([rows(block.input, pixel) for pixel in x[sample].reshape(6, 64)])
        query = plain_batch_norm(block.input_bn, query.T[..., None])[..., 0].T
        read = over_positions(plain_attention(block.to_memory, query, wanted))
        out = torch.stack([rows(block.output, pixel) for pixel in read])
        assert close(got[sample].reshape(6, 64), plain_batch_norm(block.output_bn, out.T[..., None])[..., 0].T)


def test_the_decoder() -> None:
    decoder = MemoryDecoder((4, 6, 8), zero_start=False).eval()
    scatter(decoder)
    stages = [torch.randn(2, width, side, side) for width, side in ((4, 8), (6, 4), (8, 2))]
    memories = [torch.randn(2, 5, width) for width in (6, 8)]
    got = decoder(stages, memories)
    x = stages[-1][1]
    for level in (2, 1, 0):
        if level:
            tokens = x.flatten(1).T
            read = plain_attention(decoder.attentions[level - 1], tokens, memories[level - 1][1])
            x = x + plain_batch_norm(decoder.norms[level - 1], read.T.reshape(x.shape))
        background, foreground = plain_conv(decoder.heads[level], x)
        assert close(got[level][1], foreground - background)
        if level:
            finer, step = stages[level - 1][1], decoder.steps[level - 1]
            x = torch.cat([plain_resize(x, *finer.shape[1:], align_corners=True), finer])
            for conv, norm in ((step.conv1, step.bn1), (step.conv2, step.bn2)):
                x = plain_batch_norm(norm, plain_conv(conv, x)).clamp(min=0)


def test_the_map_goes_on_with_what_it_reads_and_the_decoder_gets_this_alone() -> None:
    views, text = make_inputs(2)
    model = build_tiny("refsegformer").double().eval()
    reads, maps, outputs = [], [], []
    for stage in model.stages:
        stage.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
        stage.register_forward_hook(lambda *passed: reads.append(passed[2][0]))
    model.decoder.register_forward_pre_hook(lambda _, inputs: outputs.extend(inputs[0]))
    model(views, text)
    assert close(outputs[0].permute(0, 2, 3, 1), model.backbone.stage(0, model.backbone.embed(views["image"])))
    for index in range(3):
        assert outputs[index + 1].permute(0, 2, 3, 1).equal(reads[index])
    for index in range(2):
        assert close(maps[index + 1], model.backbone.stage(index + 2, maps[index] + reads[index]))


def test_the_words_have_no_effect_before_the_first_step_in_the_authors_start() -> None:
    views, text = make_inputs(2)
    other = {**text, "input_ids": text["input_ids"].flip(1)}
    for zero, moves in ((True, False), (False, True)):
        model = build_tiny("refsegformer", zero_start=zero).eval()
        assert model(views, text).logits.equal(model(views, other).logits) != moves
        assert all(stage.output_bn.weight.any() == moves for stage in model.stages)
        assert all(norm.weight.any() == moves for norm in model.decoder.norms)


def test_official_pads_take_their_share_and_masked_ones_do_not() -> None:
    assert moved_by_more_slots("refsegformer", pads="official") > 1e-8
    assert moved_by_more_slots("refsegformer", pads="masked") <= 1e-8


def test_coarser_masks_are_supervised_in_training_alone() -> None:
    views, text = make_inputs(2)
    model = build_tiny("refsegformer")
    assert model.eval()(views, text).side_logits == {}
    out = model.train()(views, text)
    assert {name: (weight, side.shape[-1]) for name, (weight, side) in out.side_logits.items()} == {
        "stage2": (0.4, 8),
        "stage3": (0.4, 4),
        "stage4": (0.4, 2),
    }
    assert out.main_weight == 1.0
    assert build_tiny("refsegformer", side_weight=0.0).train()(views, text).side_logits == {}


def test_norms_of_the_fusions_and_the_decoder_decay() -> None:
    model = build_tiny("refsegformer")
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {"backbone.patch_embed.norm.weight", "backbone.layers.1.blocks.0.norm1.weight"} <= spared
    assert not [name for name in spared if not name.startswith("backbone.")]


def test_files_with_an_existence_head_are_refused_by_name() -> None:
    key = "segmentation.exist_pred.weight"
    with pytest.raises(UserError, match=rf"unexpected in the file: {key}"):
        convert_official({key: torch.zeros(1, 256)}, {}, OFFICIAL_FORMAT, Path("released.pth"))
