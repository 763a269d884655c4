"""RIS-DMMI's blocks and losses against their plainest form, its pads, and what decays."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.dmmi.decoder import LanguageDecoder
from rrsis_bench.models.dmmi.fusion import PixelsToWords, TwoWayAttention, TwoWayStage, WordsToPixels
from rrsis_bench.models.dmmi.objective import ExpressionObjective
from torch import Tensor, nn

from rrsis_bench.data.text.nouns import mark_nouns, noun_runs
from tests.models.conftest import build_tiny, make_inputs, moved_by_more_slots
from tests.models.test_blocks import close, rows, unusual_statistics

H, W, C, L, D = 3, 4, 12, 5, 6
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def over_positions(x_NC: Tensor) -> Tensor:
    """Every channel with mean 0 and deviation 1 over the positions."""
    columns = []
    for column in x_NC.T:
        centred = column - column.sum() / len(column)
        columns.append(centred / torch.sqrt((centred**2).sum() / len(column) + 1e-5))
    return torch.stack(columns, dim=1)


def plain_pixels_to_words(block: PixelsToWords, x_NC: Tensor, words_LD: Tensor, mask_L: Tensor) -> Tensor:
    small = over_positions(torch.stack([rows(block.query, x) for x in x_NC]))
    reach = block.side // 2
    joined = []
    for row in range(H):
        for col in range(W):
            features = [
                small[(row + dy) * W + col + dx, channel]
                if 0 <= row + dy < H and 0 <= col + dx < W
                else torch.zeros(())
                for channel in range(small.shape[1])
                for dy in range(-reach, reach + 1)
                for dx in range(-reach, reach + 1)
            ]
            joined.append(rows(block.join, torch.stack(features)))
    queries = over_positions(torch.stack(joined))
    weights = torch.zeros(H * W, L)
    for at in range(H * W):
        keys = [rows(block.key, words_LD[word]) for word in range(L) if mask_L[word]]
        scores = torch.stack([queries[at] @ key / math.sqrt(C) for key in keys])
        weights[at, : len(keys)] = scores.softmax(0)
    return weights


def plain_words_to_pixels(block: WordsToPixels, x_NC: Tensor, words_LD: Tensor, mask_L: Tensor) -> Tensor:
    small = [rows(block.query, word) for word in words_LD]
    keys = over_positions(torch.stack([rows(block.key, x) for x in x_NC]))
    weights = torch.empty(L, H * W)
    for word in range(L):
        places = [min(max(word + step - block.count // 2, 0), L - 1) for step in range(block.count)]
        features = [small[place][channel] for channel in range(len(small[0])) for place in places]
        query = rows(block.join, torch.stack(features)) * mask_L[word]
        weights[word] = torch.stack([query @ key / math.sqrt(C) for key in keys]).softmax(0)
    return weights


def plain_attention(block: TwoWayAttention, x_NC: Tensor, words_LD: Tensor, mask_L: Tensor) -> tuple[Tensor, Tensor]:
    shares = block.pixel_mix.exp() / block.pixel_mix.exp().sum()
    maps = [plain_pixels_to_words(one, x_NC, words_LD, mask_L) for one in block.pixels_to_words]
    weights = sum(share * one for share, one in zip(shares, maps, strict=True))
    values = torch.stack([rows(block.value, word) for word in words_LD])
    read_NC = over_positions(torch.stack([rows(block.out, weights[at] @ values) for at in range(H * W)]))
    shares = block.word_mix.exp() / block.word_mix.exp().sum()
    maps = [plain_words_to_pixels(one, x_NC, words_LD, mask_L) for one in block.words_to_pixels]
    weights = sum(share * one for share, one in zip(shares, maps, strict=True))
    values = over_positions(torch.stack([rows(block.pixel_value, x) for x in x_NC]))
    return read_NC, torch.stack([rows(block.word_out, weights[word] @ values) for word in range(L)])


def test_a_stage() -> None:
    stage, x, words = TwoWayStage(C, D), torch.randn(2, H, W, C), torch.randn(2, L, D)
    assert [block.side for block in stage.attention.pixels_to_words] == [1, 3, 5]
    assert [block.query.out_features for block in stage.attention.pixels_to_words] == [12, 6, 3]
    assert [block.query.out_features for block in stage.attention.words_to_pixels] == [12, 6, 4]
    stage.attention.pixel_mix.copy_(torch.tensor([0.3, -1.0, 0.6]))
    stage.attention.word_mix.copy_(torch.tensor([-0.2, 0.9, 0.1]))
    fused, r, after = stage(x, words, MASK)
    for sample in range(2):
        x_NC = x[sample].reshape(H * W, C)
        read_NC, read_LD = plain_attention(stage.attention, x_NC, words[sample], MASK[sample])
        for at in range(H * W):
            wanted = F.gelu(rows(stage.mix, F.gelu(rows(stage.visual, x_NC[at])) * read_NC[at]))
            gate = torch.tanh(stage.gate.outer.weight @ (stage.gate.inner.weight @ wanted).clamp(min=0))
            assert close(r[sample].reshape(H * W, C)[at], wanted)
            assert close(fused[sample].reshape(H * W, C)[at], x_NC[at] + gate * wanted)
        for word in range(L):
            assert close(after[sample, word], words[sample, word] + F.gelu(rows(stage.word_update, read_LD[word])))
    assert TwoWayStage(C, D, gated=False)(x, words, MASK)[0].equal(x)


def attended(block: nn.MultiheadAttention, one: Tensor, others: Tensor) -> Tensor:
    """Attention of one vector to others, head by head."""
    dim, heads = len(one), block.num_heads
    size = dim // heads
    query, key, value = block.in_proj_weight.split(dim)
    q, k, v = block.in_proj_bias.split(dim)
    out = torch.empty(dim)
    for head in range(heads):
        part = slice(head * size, head * size + size)
        scores = [(query @ one + q)[part] @ (key @ other + k)[part] / math.sqrt(size) for other in others]
        weights = torch.stack(scores).softmax(0)
        out[part] = sum(weight * (value @ other + v)[part] for weight, other in zip(weights, others, strict=True))
    return rows(block.out_proj, out)


def plain_language(layer: nn.TransformerDecoderLayer, pixels_ND: Tensor, words_LD: Tensor) -> Tensor:
    def norm(block: nn.LayerNorm, x: Tensor) -> Tensor:
        return (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-5) * block.weight + block.bias

    first = [norm(layer.norm1, x + attended(layer.self_attn, x, pixels_ND)) for x in pixels_ND]
    second = [norm(layer.norm2, x + attended(layer.multihead_attn, x, words_LD)) for x in first]
    return torch.stack(
        [norm(layer.norm3, x + rows(layer.linear2, rows(layer.linear1, x).clamp(min=0))) for x in second]
    )


def test_the_decoder_reads_all_slots_or_the_words_alone() -> None:
    decoder = LanguageDecoder((8, 8, 16, 16), 24).eval()
    assert decoder.language[0].linear1.out_features == 64
    assert LanguageDecoder((8, 8, 8, 8), 768).language[0].linear1.out_features == 2048
    unusual_statistics(decoder)
    stages = [torch.randn(2, width, side, side) for width, side in ((8, 8), (8, 4), (16, 2), (16, 1))]
    words = torch.randn(2, L, 24)
    for slots in (torch.ones_like(MASK), MASK):
        maps = decoder.maps(stages, words, slots)
        x = stages[-1]
        for index, fine in enumerate((stages[2], stages[1], stages[0])):
            x = decoder.steps[index](x, fine)
            if index < 2:
                x = torch.stack(
                    [
                        plain_language(decoder.language[index], x[at].flatten(1).T, words[at][slots[at] == 1])
                        for at in range(2)
                    ]
                ).transpose(1, 2).reshape(x.shape)  # fmt: skip
            assert close(maps[index], x)


def test_the_losses_of_training() -> None:
    objective = ExpressionObjective(24).eval()
    unusual_statistics(objective)
    maps = [torch.randn(2, 24, side, side) for side in (1, 2, 4)]
    masked, words = torch.randn(2, L, 24), torch.randn(2, L, 24)
    total = 0.0
    for at in range(2):
        weight, bn = objective.conv.weight, objective.bn
        pixels = F.conv2d(maps[1][at][None], weight, padding=1)[0]
        pixels = (pixels - bn.running_mean[:, None, None]) / torch.sqrt(bn.running_var[:, None, None] + bn.eps)
        pixels = (pixels * bn.weight[:, None, None] + bn.bias[:, None, None]).clamp(min=0).flatten(1).T
        layer = objective.layer
        found = []
        for word in masked[at]:
            x = layer.norm1(word + attended(layer.self_attn, word, masked[at]))
            x = layer.norm2(x + attended(layer.multihead_attn, x, pixels))
            found.append(layer.norm3(x + rows(layer.linear2, rows(layer.linear1, x).clamp(min=0))))
        used = [word for word in range(L) if MASK[at, word]]
        cosines = [found[w] @ words[at, w] / (found[w].norm() * words[at, w].norm()) for w in used]
        total += float(1 - sum(cosines) / len(used)) / 2
    assert objective.reconstruction(maps, masked, words, MASK).item() == pytest.approx(total, rel=1e-9)

    images, sentences = [], []
    for at in range(2):
        vector = maps[0][at].flatten(1).mean(1)
        for join, later in zip(objective.joins, maps[1:], strict=True):
            vector = rows(join, torch.cat([vector, later[at].flatten(1).mean(1)]))
        images.append(vector / vector.norm())
        sentence = sum(rows(objective.align, words[at, word]) for word in range(L)) / L
        sentences.append(sentence / sentence.norm())
    loss = 0.0
    for at in range(2):
        row = torch.stack([images[at] @ sentence / 0.05 for sentence in sentences])
        column = torch.stack([image @ sentences[at] / 0.05 for image in images])
        loss -= float(row.log_softmax(0)[at] + column.log_softmax(0)[at]) / 4
    assert objective.contrast(maps, words, torch.ones_like(MASK)).item() == pytest.approx(loss, rel=1e-9)


def test_the_words_get_no_gradient_from_their_reconstruction_and_the_nouns_are_hidden_in_training_alone() -> None:
    torch.set_default_dtype(torch.float32)
    with torch.enable_grad():
        objective = ExpressionObjective(24)
        words = torch.randn(2, L, 24, requires_grad=True)
        objective.reconstruction([torch.randn(2, 24, 2, 2)] * 3, torch.randn(2, L, 24), words, MASK).backward()
        assert words.grad is None
    views, text = make_inputs(2)
    model = build_tiny("dmmi")
    seen: list[Tensor] = []
    model.text_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.eval()(views, text)
    assert len(seen) == 1
    seen.clear()
    losses = model.train()(views, text).aux_losses
    assert losses.keys() == {"reconstruction", "contrast"}
    assert (seen[1] == 0).equal((text["noun_mask"] == 1) | (text["attention_mask"] == 0))


def test_official_pads_are_read_by_the_decoder_and_masked_ones_are_not() -> None:
    assert moved_by_more_slots("dmmi", pads="official") > 1e-8
    assert moved_by_more_slots("dmmi", pads="masked") <= 1e-8


def test_norms_of_the_decoder_decay() -> None:
    model = build_tiny("dmmi")
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {"norms.2.weight", "backbone.layers.1.blocks.0.norm1.weight"} <= spared
    assert not [name for name in spared if name.startswith(("decoder.", "objective.", "stages."))]


def test_one_run_of_nouns_is_marked_and_the_sentence_decides_which() -> None:
    sentence = "the tennis court on the left of a gray storage tank"
    runs = [sentence[start:end] for start, end in noun_runs(sentence)]
    assert runs[0] == "tennis court"
    assert runs[-1] == "storage tank"
    words = [(sentence.index(word), sentence.index(word) + len(word)) for word in sentence.split() if len(word) > 1]
    marked = mark_nouns(sentence, words)
    assert marked == mark_nouns(sentence, words)
    chosen = [sentence[a:b] for (a, b), on in zip(words, marked, strict=True) if on]
    assert " ".join(chosen) in runs
    every = {tuple(mark_nouns(f"the ship near the bridge {n}", [(4, 8), (18, 24)])) for n in range(20)}
    assert every == {(1, 0), (0, 1)}
    assert mark_nouns("the ship", [(0, 0), (0, 3)]) == [0, 0]  # the noun was cut off
    assert mark_nouns("on the left of it", [(0, 2)]) == [0]
