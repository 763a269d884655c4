"""CARIS's blocks against their plainest form, its recipe, and what decays."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.caris.decoder import PROMPTS, ContextDecoder, ContextLayer
from rrsis_bench.models.caris.deformable import DeformableAttention, cell_centres, cell_positions
from rrsis_bench.models.caris.prompts import ImagePrompts
from torch import Tensor, nn

from rrsis_bench.backbones import build_text
from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.errors import UserError
from rrsis_bench.train.optim import build_optimizer
from tests.fakes.backbones import BERT
from tests.fakes.config import compose
from tests.models.conftest import build_tiny
from tests.models.test_blocks import close, plain_conv, plain_layer_norm, plain_resize, rows
from tests.models.test_crossvlt import attended

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
SIZES = [(2, 3), (4, 5)]
DIM, CELLS = 8, 26


pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def drawn(module: nn.Module, scale: float = 0.5) -> nn.Module:
    """The module with every parameter drawn anew, so that none hides behind 0 or 1."""
    for parameter in module.parameters():
        parameter.copy_(scale * torch.randn_like(parameter))
    return module.eval()


def bilinear(map_cHW: Tensor, x: float, y: float) -> Tensor:
    """The map at a place given as shares of its sides, 0 outside; a cell's value is at its centre."""
    _, height, width = map_cHW.shape
    x, y = x * width - 0.5, y * height - 0.5
    out = torch.zeros(len(map_cHW))
    for row in (math.floor(y), math.floor(y) + 1):
        for col in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= col < width:
                out += (1 - abs(x - col)) * (1 - abs(y - row)) * map_cHW[:, row, col]
    return out


def plain_deformable(block: DeformableAttention, query_NC: Tensor, source_NC: Tensor) -> Tensor:
    """One cell, head, level and place at a time."""
    value_NC = torch.stack([rows(block.value, row) for row in source_NC])
    areas = [height * width for height, width in SIZES]
    maps = [part.T.unflatten(1, size) for part, size in zip(value_NC.split(areas), SIZES, strict=True)]
    centres = [((col + 0.5) / w, (row + 0.5) / h) for h, w in SIZES for row in range(h) for col in range(w)]
    heads, points, width = block.heads, block.points, DIM // block.heads
    out = torch.zeros(len(query_NC), DIM)
    for at, query in enumerate(query_NC):
        offsets, scores = rows(block.offsets, query), rows(block.weights, query)
        for head in range(heads):
            channels = slice(head * width, (head + 1) * width)
            first = head * len(SIZES) * points
            weights = scores[first : first + len(SIZES) * points].softmax(0)
            for level, (rows_, cols) in enumerate(SIZES):
                for point in range(points):
                    index = first + level * points + point
                    x = centres[at][0] + float(offsets[2 * index]) / cols
                    y = centres[at][1] + float(offsets[2 * index + 1]) / rows_
                    found = bilinear(maps[level][channels], x, y)
                    out[at, channels] += weights[level * points + point] * found
    return torch.stack([rows(block.out, row) for row in out])


def test_deformable_attention_reads_places_around_each_cell_in_every_level() -> None:
    block = drawn(DeformableAttention(DIM, heads=2, levels=2, points=3), 0.8)
    query, source = torch.randn(2, CELLS, DIM), torch.randn(2, CELLS, DIM)
    wanted = [plain_deformable(block, *sample) for sample in zip(query, source, strict=True)]
    assert close(block(query, source, SIZES), torch.stack(wanted))


def test_the_places_start_on_one_ray_per_head_with_equal_weights() -> None:
    block = DeformableAttention(DIM, heads=4, levels=2, points=3)
    query = torch.randn(DIM)
    assert rows(block.weights, query).softmax(0).allclose(torch.tensor(1 / 24))
    rays = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    wanted = [(step * x, step * y) for x, y in rays for _ in range(2) for step in (1, 2, 3)]
    assert rows(block.offsets, query).view(-1, 2).allclose(torch.tensor(wanted, dtype=torch.float64), atol=1e-6)


def test_places_keep_their_digits_under_autocast() -> None:
    block = drawn(DeformableAttention(DIM, heads=2, levels=2, points=3)).float()
    dtypes = []
    read = block._read
    block._read = lambda *arguments: (dtypes.extend(x.dtype for x in arguments[:3]), read(*arguments))[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block(torch.randn(1, CELLS, DIM).float(), torch.randn(1, CELLS, DIM).float(), SIZES).isfinite().all()
    assert dtypes == [torch.float32] * 3


def test_positions_alternate_sines_and_cosines_of_the_row_then_of_the_column() -> None:
    height, width, dim = 3, 4, 8
    positions, centres = cell_positions(height, width, dim), cell_centres(height, width)
    for row in range(height):
        for col in range(width):
            wanted = []
            for count, size in ((row + 1, height), (col + 1, width)):
                angle = 2 * math.pi * count / (size + 1e-6)
                for turn in (angle, angle / 10000 ** (2 / 4)):
                    wanted += [math.sin(turn), math.cos(turn)]
            at = row * width + col
            assert positions[at].tolist() == pytest.approx(wanted, abs=1e-12)
            assert centres[at].tolist() == pytest.approx([(col + 0.5) / width, (row + 0.5) / height], abs=1e-12)


def test_prompts_are_the_means_of_the_map_and_its_quarters() -> None:
    block = drawn(ImagePrompts(6, 7))
    x = torch.randn(2, 6, 4, 6)
    for sample, got in zip(x, block(x), strict=True):
        halves = [(rows_, cols) for rows_ in (slice(2), slice(2, 4)) for cols in (slice(3), slice(3, 6))]
        cells = [(0, sample), *((1, sample[:, rows_, cols]) for rows_, cols in halves)]
        prompts = [
            rows(block.outer[grid], rows(block.inner[grid], cell.mean((1, 2))).clamp(min=0)) for grid, cell in cells
        ]
        assert close(got, plain_layer_norm(block.norm, torch.stack(prompts) + block.learned.weight))


def plain_attention(layer: nn.Module, queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    key, value = ([rows(part, one) for one in source] for part, source in ((layer.key, keys), (layer.value, values)))
    return torch.stack([rows(layer.out, attended(rows(layer.query, one), key, value, heads)) for one in queries])


def test_a_layer_lets_words_read_first_and_masks_no_pixel() -> None:
    layer = drawn(ContextLayer(DIM, 2), 0.3)
    words, pixels, positions = torch.randn(2, 5, DIM), torch.randn(2, CELLS, DIM), torch.randn(CELLS, DIM)
    got = layer(words, pixels, positions, MASK.bool(), SIZES)

    def mlp(block: nn.Module, x_NC: Tensor) -> Tensor:
        return torch.stack([rows(block.fc2, rows(block.fc1, row).clamp(min=0)) for row in x_NC])

    for sample in range(2):
        w, p, allowed = words[sample], pixels[sample], MASK[sample].bool()
        read = plain_attention(layer.words_from_pixels, w, p + positions, p, 8)
        w = plain_layer_norm(layer.words_norms[0], w + layer.words_scale[0] * read)
        w = plain_layer_norm(
            layer.words_norms[1], w + plain_attention(layer.words_from_words, w, w[allowed], w[allowed], 8)
        )
        w = plain_layer_norm(layer.words_norms[2], w + mlp(layer.words_mlp, w))
        read = plain_attention(layer.pixels_from_words, p + positions, w[allowed], w[allowed], 8)
        p = plain_layer_norm(layer.pixels_norms[0], p + layer.pixels_scale[0] * read)
        p = plain_layer_norm(layer.pixels_norms[1], p + plain_deformable(layer.pixels_from_pixels, p + positions, p))
        p = plain_layer_norm(layer.pixels_norms[2], p + mlp(layer.pixels_mlp, p))
        assert close(got[0][sample], w)
        assert close(got[1][sample], p)


def plain_group_norm(norm: nn.GroupNorm, x_CHW: Tensor) -> Tensor:
    out = torch.empty_like(x_CHW)
    size = len(x_CHW) // norm.num_groups
    for channel in range(len(x_CHW)):
        group = x_CHW[channel // size * size : (channel // size + 1) * size]
        scaled = (x_CHW[channel] - group.mean()) / torch.sqrt(group.var(correction=0) + 1e-5)
        out[channel] = scaled * norm.weight[channel] + norm.bias[channel]
    return out


class Recorded(nn.Module):
    """A layer that keeps what it gets and changes words and pixels a little."""

    def forward(self, words: Tensor, pixels: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        self.seen = (words, pixels, *rest)
        return words + 0.5, pixels * 2 - 0.5


def test_the_decoder_orders_the_stages_and_compares_pixels_with_two_classes() -> None:
    dim = 40  # GroupNorm has gcd(32, 40) groups
    decoder = drawn(ContextDecoder([3, 4, 5, 6], 7, dim, 1))
    decoder.layers[0] = Recorded()
    stages = [torch.randn(2, 3, 6, 5), torch.randn(2, 4, 3, 3), torch.randn(2, 5, 2, 2), torch.randn(2, 6, 1, 2)]
    words = torch.randn(2, 5, 7)
    logits = decoder(decoder.project(stages), words, MASK)
    seen_words, seen_pixels, positions, mask, sizes = decoder.layers[0].seen
    assert sizes == [(1, 2), (2, 2), (3, 3)]
    assert mask.tolist() == [[True] * 3 + [False] * 2 + [True] * PROMPTS, [True] * (5 + PROMPTS)]
    wanted = [cell_positions(*size, dim) + decoder.levels.weight[level] for level, size in enumerate(sizes)]
    assert close(positions, torch.cat(wanted))

    def projected(part: nn.Sequential, x_CHW: Tensor) -> Tensor:
        return plain_group_norm(part[1], plain_conv(part[0], x_CHW))

    def classes(vector: Tensor) -> Tensor:
        hidden = rows(decoder.classes[2], rows(decoder.classes[0], vector).clamp(min=0)).clamp(min=0)
        return decoder.classes[4].weight @ hidden

    for sample in range(2):
        maps = [projected(decoder.inputs[index], stages[3 - index][sample]) for index in range(3)]
        assert close(seen_pixels[sample], torch.cat([map_.flatten(1) for map_ in maps], dim=1).T)
        real = plain_layer_norm(decoder.words_norm, torch.stack([rows(decoder.words, word) for word in words[sample]]))
        assert close(seen_words[sample], torch.cat([real, decoder.prompts.weight]))
        fine = plain_resize(maps[2] * 2 - 0.5, 6, 5, align_corners=False)
        x = projected(decoder.output, projected(decoder.lateral, stages[0][sample]) + fine).clamp(min=0)
        for step in (0, 2):
            x = plain_conv(decoder.pixels[step], x).clamp(min=0)
        x = plain_conv(decoder.pixels[4], x)
        foreground, background = classes(real[0] + 0.5), classes(decoder.prompts.weight.mean(0) + 0.5)
        for row in range(6):
            for col in range(5):
                wanted = x[:, row, col] @ foreground - x[:, row, col] @ background
                assert float(logits[sample, row, col]) == pytest.approx(float(wanted), rel=1e-9)


def test_bert_reads_appended_vectors_without_positions() -> None:
    encoder = drawn(build_text(BERT, BertEncoder), 0.3)
    bert, ids, appended = (
        encoder.bert,
        torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]]),
        torch.randn(2, 3, encoder.width),
    )
    got = encoder(ids, MASK, appended)
    for sample in range(2):
        x = torch.cat([bert.embeddings(input_ids=ids[[sample]])[0], appended[sample]])
        allowed = torch.cat([MASK[sample].bool(), torch.ones(3, dtype=torch.bool)])
        for layer in bert.encoder.layer:
            part = layer.attention.self
            keys, values = ([rows(one, token) for token in x[allowed]] for one in (part.key, part.value))
            heads = encoder.config.heads
            read = torch.stack([attended(rows(part.query, token), keys, values, heads) for token in x])
            out = layer.attention.output
            x = plain_layer_norm(out.LayerNorm, x + torch.stack([rows(out.dense, row) for row in read]))
            inner = [F.gelu(rows(layer.intermediate.dense, row)) for row in x]
            x = plain_layer_norm(
                layer.output.LayerNorm, x + torch.stack([rows(layer.output.dense, row) for row in inner])
            )
        assert close(got[sample], x[:5])
    assert not close(got, encoder(ids, MASK))
    assert close(encoder(ids, MASK, appended[:, :0]), encoder(ids, MASK))


def test_the_paper_recipe_trains_both_encoders_at_a_tenth_of_the_rate() -> None:
    model = build_tiny("caris")
    entry = compose("model=caris", "data=rrsisd")["train"]["optimizer"]
    rates = {
        id(parameter): group["lr"]
        for group in build_optimizer(model, entry).param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("backbone.", "norms.", "text_encoder."))
        assert rates[id(parameter)] == pytest.approx(1e-5 if encoder else 1e-4), name


def test_norms_prompts_and_berts_embeddings_do_not_decay() -> None:
    model = build_tiny("caris")
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {
        "norms.2.weight",
        "prompts.learned.weight",
        "prompts.norm.bias",
        "decoder.prompts.weight",
        "decoder.words_norm.weight",
        "decoder.layers.0.pixels_norms.1.weight",
        "text_encoder.bert.embeddings.word_embeddings.weight",
        "text_encoder.bert.encoder.layer.0.output.LayerNorm.bias",
    } <= spared
    decayed = {"decoder.inputs.0.1.weight", "decoder.layers.0.words_scale", "decoder.levels.weight"}
    decayed |= {"prompts.inner.0.bias", "text_encoder.bert.encoder.layer.0.output.dense.bias"}
    assert not decayed & spared
    assert decayed <= {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("field", "value"), [("decoder_width", 20), ("decoder_layers", 0)])
def test_sizes_that_do_not_fit_are_refused(field: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"model\.args\.{field}"):
        build_tiny("caris", **{field: value})
