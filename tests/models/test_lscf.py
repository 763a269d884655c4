"""LSCF's blocks against their plainest form and against the authors' outputs, its pads, its size and its importer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.blocks.attention import PixelWordAttention
from rrsis_bench.models.lscf.decoder import GlobalLanguageFusion
from rrsis_bench.models.lscf.freq_fusion import FreqFusion, normalise, reassemble
from rrsis_bench.models.lscf.fusion import AgentAttention, CoordLinear, ScaleBranch, StageFusion
from rrsis_bench.models.lscf.official_keys import OFFICIAL_FORMAT
from torch import Tensor, nn

from rrsis_bench.errors import UserError
from rrsis_bench.official import convert_official
from tests.fakes.official_checkpoint import noise
from tests.fakes.zoo import ZOO, window, zoo_shapes
from tests.models.conftest import build_tiny, make_inputs, moved_by_more_slots
from tests.models.test_blocks import close, plain_conv, plain_instance_norm, rows, unusual_statistics

pytestmark = pytest.mark.usefixtures("float64", "no_gradients")


def test_coordinates_are_x_then_y_from_minus_one_to_one() -> None:
    layer, x = CoordLinear(3), torch.randn(2, 4, 5, 3)
    out = layer(x)
    for row in range(4):
        for col in range(5):
            with_place = torch.cat([x[1, row, col], torch.tensor([-1 + 2 * col / 4, -1 + 2 * row / 3])])
            assert close(out[1, row, col], rows(layer, with_place))


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_scale_branch(kernel: int) -> None:
    block = ScaleBranch(3, kernel).eval()
    unusual_statistics(block)
    x = 5 * torch.randn(2, 4, 5, 3)
    pointed = block.point(x)[0].permute(2, 0, 1)
    bn = block.bn
    normed = (plain_conv(block.depthwise, pointed) - bn.running_mean[:, None, None]) / torch.sqrt(
        bn.running_var[:, None, None] + bn.eps
    )
    wanted = (normed * bn.weight[:, None, None] + bn.bias[:, None, None]).clamp(0, 6)
    assert close(block(x)[0], wanted.permute(1, 2, 0))


def test_pixel_word_attention_with_heads() -> None:
    block, x, words = PixelWordAttention(8, 6, heads=4), torch.randn(2, 7, 8), torch.randn(2, 5, 6)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]])
    for sample in range(2):
        query = plain_instance_norm(rows(block.query, x[sample]))
        key = rows(block.key, words[sample]) * mask[sample][:, None]
        value = rows(block.value, words[sample])
        attended = torch.zeros(7, 8)
        for head in range(4):
            part = slice(2 * head, 2 * head + 2)
            for at in range(7):
                scores = [
                    float(query[at, part] @ key[word, part]) / math.sqrt(8) - (0 if mask[sample, word] else 1e4)
                    for word in range(5)
                ]
                weights = torch.tensor(scores).softmax(0)
                attended[at, part] = sum(weights[word] * value[word, part] for word in range(5))
        assert close(block(x, words, mask)[sample], plain_instance_norm(rows(block.out, attended)))


@pytest.mark.parametrize("side", [3, 8])
def test_agent_attention(side: int) -> None:
    block = AgentAttention(16, side)
    query, source = torch.randn(2, side, side, 16), torch.randn(2, side, side, 16)
    got = block(query, source)[1]
    q, k, v = rows(block.query, query[1]), rows(block.key, source[1]), rows(block.value, source[1])
    keys, values, attended = [], [], torch.zeros(side, side, 16)
    for row in range(7):
        for col in range(7):
            cells = [slice(side * at // 7, -(-side * (at + 1) // 7)) for at in (row, col)]
            keys.append(k[cells[0], cells[1]].amax((0, 1)))
            values.append(v[cells[0], cells[1]].mean((0, 1)))
    table = F.interpolate(block.agent_bias, size=(side, side), mode="bilinear", align_corners=False)
    for head in range(8):
        part = slice(2 * head, 2 * head + 2)
        for row in range(side):
            for col in range(side):
                scores = torch.stack([key[part] for key in keys]) @ q[row, col, part] / math.sqrt(2)
                scores += table[head, :, row, col] + block.row_bias[0, head, row, 0] + block.col_bias[0, head, 0, col]
                attended[row, col, part] = scores.softmax(0) @ torch.stack([value[part] for value in values])
    attended = attended + plain_conv(block.local, q.permute(2, 0, 1)).permute(1, 2, 0)
    assert close(got, rows(block.out, attended))


def plain_reassemble(source: Tensor, kernel: Tensor, scale: int) -> Tensor:
    channels, height, width = source.shape
    side = math.isqrt(len(kernel))
    out = torch.zeros(channels, *kernel.shape[1:])
    for row in range(out.shape[1]):
        for col in range(out.shape[2]):
            for tap in range(side * side):
                y = row // scale + tap // side - side // 2
                x = col // scale + tap % side - side // 2
                if 0 <= y < height and 0 <= x < width:
                    out[:, row, col] += kernel[tap, row, col] * source[:, y, x]
    return out


@pytest.mark.parametrize(("size", "scale"), [((3, 4), 1), ((6, 8), 2), ((5, 7), 2)], ids=str)
def test_reassemble(size, scale: int) -> None:
    source, kernel = torch.randn(2, 3, 3, 4), torch.randn(2, 9, *size)
    wanted = torch.stack([plain_reassemble(*pair, scale) for pair in zip(source, kernel, strict=True)])
    assert close(reassemble(source, kernel), wanted)


def test_kernels_are_windowed_and_sum_to_one() -> None:
    scores = torch.randn(2, 25, 3, 3)
    kernel = scores.softmax(1) * window(5).double().view(1, 25, 1, 1)
    assert close(normalise(scores), kernel / kernel.sum(1, keepdim=True))
    assert torch.allclose(normalise(scores).sum(1), torch.ones(2, 3, 3))


def test_global_language_fusion() -> None:
    block, x, words = GlobalLanguageFusion(4, 6).eval(), torch.randn(1, 4, 2, 3), torch.randn(1, 3, 6)
    unusual_statistics(block)
    sentence = torch.tanh(rows(block.words, words[0, 0])) + torch.tanh(rows(block.words, words[0, 2]))
    got = block(x, words, torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([3.0]))
    for row in range(2):
        for col in range(3):
            gated = torch.tanh(block.visual.weight[:, :, 0, 0] @ x[0, :, row, col] + block.visual.bias) * sentence / 3
            mixed = block.mix.weight[:, :, 0, 0] @ gated.clamp(min=0) + block.mix.bias
            normed = (mixed - block.bn.running_mean) / torch.sqrt(block.bn.running_var + block.bn.eps)
            total = x[0, :, row, col] + (normed * block.bn.weight + block.bn.bias).clamp(min=0)
            assert close(got[0, :, row, col], total / math.sqrt(float((total**2).sum())))


def load_block(block: nn.Module, official: str, ours: str) -> nn.Module:
    """Fill a block with the small fixture's noise below the official prefix."""
    shapes = zoo_shapes("lscf_small")["float"]
    torch.set_default_dtype(torch.float32)  # the noise follows it
    state = {
        OFFICIAL_FORMAT.rename(key).removeprefix(ours): noise(key, shape, 0).double()
        for key, shape in shapes.items()
        if key.startswith(official) and "hamming" not in key
    }
    torch.set_default_dtype(torch.float64)
    wanted = block.state_dict()
    filled = {key: value.reshape(wanted[key].shape) for key, value in state.items()}
    missing, unexpected = block.load_state_dict(filled, strict=False)
    assert unexpected == []
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return block.eval()


def test_blocks_reproduce_the_authors_outputs() -> None:
    expected = {key: torch.from_numpy(value) for key, value in np.load(ZOO / "expected_lscf_blocks.npz").items()}
    seed = int(expected["input_seed"])

    def draw(offset: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed + offset)
        return torch.randn(shape, generator=generator, dtype=torch.float32).double()

    def error(got: Tensor, wanted: Tensor) -> float:
        return float((got - wanted).norm() / (wanted - wanted.mean()).norm())

    mask = expected["attention_mask"]
    words = draw(1, 1, 20, 768)
    fusion = load_block(StageFusion(256, 768, 20, gated=True), "backbone.layers.1.fusion.", "stages.1.")
    following, out = fusion(draw(0, 1, 256, 20, 20).permute(0, 2, 3, 1), words, mask)
    freq = load_block(FreqFusion(384, 64), "decoder.freq_mix3.", "decoder.freq.")
    fine, coarse = draw(2, 1, 384, 12, 12).relu(), draw(3, 1, 384, 6, 6).relu()
    sharp, smooth = freq(fine, coarse)
    glf = load_block(GlobalLanguageFusion(384, 768), "decoder.clim4.", "decoder.language.3.")
    level = glf(draw(4, 1, 384, 6, 6), words, torch.ones(1, 20), mask.sum(1).double())
    low, _ = freq.kernels(fine, coarse)
    found = {
        "fusion_next": following.permute(0, 3, 1, 2)[:, ::16],
        "fusion_out": out.permute(0, 3, 1, 2)[:, ::16],
        "freq_fine": sharp[:, ::16],
        "freq_coarse_up": smooth[:, ::16],
        "freq_lowpass": normalise(low),
        "glf": level[:, ::16],
    }
    assert {
        key: error(value, expected[key]) for key, value in found.items() if error(value, expected[key]) > 5e-6
    } == {}


def test_official_pads_enter_the_sentence_and_masked_ones_do_not() -> None:
    """The authors sum over all slots: with more slots the answer changes. Their ids never matter."""
    assert moved_by_more_slots("lscf", pads="official") > 1e-8
    assert moved_by_more_slots("lscf", pads="masked") <= 1e-8
    with pytest.raises(UserError, match="model.args.pads=some"):
        build_tiny("lscf", pads="some")


def test_views_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="64 pixels and got 32 x 32"):
        build_tiny("lscf")({"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)}, make_inputs(1)[1])


def test_norms_of_decoder_and_text_and_batch_norms_decay() -> None:
    model = build_tiny("lscf")
    spared = {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert {"stages.0.norm_visual.weight", "stages.3.norm_ffn.bias", "norms.2.weight"} <= spared
    assert not [name for name in spared if "bn." in name or name.startswith(("decoder.", "text_encoder."))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update({"decoder.freq_mix3.dysampler.offset.weight": torch.zeros(2)}), "dysampler"),
        (lambda file: file.update({"decoder.freq_mix3.hamming_lowpass": torch.ones(1, 1, 5, 5)}), "another value"),
        (lambda file: [file.pop(key) for key in list(file) if "highpass" in key], "a constant buffer.*highpass"),
    ],
    ids=["resampler", "other window", "no window"],
)
def test_files_of_another_freq_fusion_are_refused(change, message: str) -> None:
    file = {f"decoder.freq_mix{step}.hamming_{kind}pass": window(side)
            for step in (1, 2, 3) for kind, side in (("low", 5), ("high", 3))}  # fmt: skip
    convert_official(file, {}, OFFICIAL_FORMAT, Path("lscf.pth"))
    change(file)
    with pytest.raises(UserError, match=message):
        convert_official(file, {}, OFFICIAL_FORMAT, Path("lscf.pth"))
