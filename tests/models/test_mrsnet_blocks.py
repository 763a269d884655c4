"""MRSNet's blocks against their plainest form: explicit matrices, loops and numpy's complex numbers, float64."""

from __future__ import annotations

import cmath
import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.mrsnet.cma import CMA
from rrsis_bench.models.mrsnet.csr import CSR, neighbour_mean
from rrsis_bench.models.mrsnet.hfim import HFIM, FrequencyAttention, GlobalAttention, LocalBranch
from rrsis_bench.models.mrsnet.ifim import IFIM, AdaptiveFusion
from rrsis_bench.models.mrsnet.psr import PSR, SpatialSpectralRefinement
from rrsis_bench.models.mrsnet.spectrum import FLOOR, half_spectrum, mirrored
from torch import Tensor, nn

C, D, L = 4, 6, 5
GRIDS = [(6, 6), (5, 7), (4, 5), (5, 4), (2, 3), (1, 4), (1, 1)]


pytestmark = pytest.mark.usefixtures("float64")


def close(got: Tensor, wanted: Tensor, atol: float = 1e-10) -> bool:
    assert got.shape == wanted.shape
    assert wanted.abs().max() > 1e-3, "zeros prove nothing"
    return torch.allclose(got, wanted, rtol=0, atol=atol)


def affine(linear: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer on a vector or on rows, as an explicit matrix."""
    out = x @ linear.weight.T
    return out if linear.bias is None else out + linear.bias


def adjacency(height: int, width: int) -> Tensor:
    """The paper's row-normalised matrix (N, N): 1 where j is one of the eight neighbours of i."""
    matrix = torch.zeros(height * width, height * width)
    for row in range(height):
        for col in range(width):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    inside = 0 <= row + down < height and 0 <= col + right < width
                    if inside and (down, right) != (0, 0):
                        matrix[row * width + col, (row + down) * width + col + right] = 1
    return matrix / matrix.sum(1, keepdim=True).clamp_min(1)


def times_adjacency(x_BHWC: Tensor) -> Tensor:
    return (adjacency(*x_BHWC.shape[1:3]) @ x_BHWC.flatten(1, 2)).view_as(x_BHWC)


def convolved(conv: nn.Conv2d, x_BHWC: Tensor) -> Tensor:
    """A 3 x 3 convolution, tap by tap on the padded map."""
    height, width = x_BHWC.shape[1:3]
    padded = F.pad(x_BHWC, (0, 0, 1, 1, 1, 1))
    out = conv.bias.expand(*x_BHWC.shape[:3], -1)
    for down in range(3):
        for right in range(3):
            out = out + padded[:, down : down + height, right : right + width] @ conv.weight[:, :, down, right].T
    return out


# Context-aware spatial relations


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_neighbour_mean_is_the_product_with_the_normalised_adjacency(height, width) -> None:
    x_BHWC = torch.randn(2, height, width, C)
    got = neighbour_mean(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    if (height, width) == (1, 1):
        assert got.eq(0).all()
    else:
        assert close(got, times_adjacency(x_BHWC))


def test_neighbour_mean_weighs_borders_by_the_neighbours_that_are_there() -> None:
    assert torch.allclose(neighbour_mean(torch.ones(1, 2, 5, 3)), torch.ones(1, 2, 5, 3))
    spike = torch.zeros(1, 1, 3, 3)
    spike[..., 1, 1] = 1
    wanted = torch.tensor([[1 / 3, 1 / 5, 1 / 3], [1 / 5, 0, 1 / 5], [1 / 3, 1 / 5, 1 / 3]])
    assert torch.allclose(neighbour_mean(spike)[0, 0], wanted)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7), (1, 1)])
def test_csr(height, width) -> None:
    block, x_BHWC = CSR(C), torch.randn(2, height, width, C)
    wanted = convolved(block.refine, affine(block.graph, times_adjacency(x_BHWC)).clamp_min(0))
    assert close(block(x_BHWC), wanted)


# Spectra


def spectrum(x_HW: Tensor) -> np.ndarray:
    """The orthonormal transform by its definition, complex (H, W)."""
    height, width = x_HW.shape
    out = np.zeros((height, width), dtype=complex)
    for u in range(height):
        for v in range(width):
            for row in range(height):
                for col in range(width):
                    turn = cmath.exp(-2j * math.pi * (u * row / height + v * col / width))
                    out[u, v] += x_HW[row, col].item() * turn
    return out / math.sqrt(height * width)


def polar(x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude and phase of all frequencies with numpy; phases of real frequencies are 0 or pi."""
    complexes = np.fft.fft2(x_BHWC.detach().numpy(), axes=(1, 2), norm="ortho")
    phase = np.angle(complexes)
    phase[np.isclose(phase, -math.pi, rtol=0, atol=1e-9)] = math.pi
    return torch.from_numpy(np.abs(complexes)), torch.from_numpy(phase)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_magnitude_and_phase_are_those_of_the_transform_by_definition(height, width) -> None:
    x_BHWC = torch.randn(1, height, width, 2)
    magnitude, phase = half_spectrum(x_BHWC)
    assert magnitude.shape == phase.shape == (1, height, width // 2 + 1, 2)
    magnitude = torch.cat([magnitude, mirrored(magnitude, width)], dim=2)
    phase = torch.cat([phase, mirrored(-phase, width)], dim=2)
    for channel in range(2):
        wanted = spectrum(x_BHWC[0, :, :, channel])
        assert close(magnitude[0, :, :, channel], torch.from_numpy(np.abs(wanted)))
        got = (magnitude * torch.exp(1j * phase))[0, :, :, channel]
        assert torch.allclose(got, torch.from_numpy(wanted), rtol=0, atol=1e-10)
    for got, wanted in zip((magnitude, phase), polar(x_BHWC), strict=True):
        assert torch.allclose(got, wanted, rtol=0, atol=1e-9)


def test_frequencies_that_are_their_own_mirror_image_have_phase_0_or_pi(monkeypatch) -> None:
    """Rounding errors of either sign in the imaginary part, as some libraries make them, would else give minus pi."""
    real, noise = torch.fft.rfft2, 1e-7j * torch.randn(64, 6, 3, C)
    monkeypatch.setattr(torch.fft, "rfft2", lambda *args, **kwargs: real(*args, **kwargs) + noise.to(torch.complex64))
    x_BHWC = torch.randn(64, 6, 4, C, dtype=torch.float32)
    _, phase = half_spectrum(x_BHWC)
    own = phase[:, ::3, ::2]
    assert own.shape == (64, 2, 2, C)
    assert set(own.unique().tolist()) == {0.0, torch.tensor(math.pi, dtype=torch.float32).item()}
    assert (phase < -3).any()


def test_gradients_of_magnitude_and_phase() -> None:
    x_BHWC = torch.randn(1, 4, 5, 2, requires_grad=True)
    assert torch.autograd.gradcheck(half_spectrum, (x_BHWC,))


@pytest.mark.parametrize("value", [0.0, 1.5, -1.5, 1e-9])
def test_a_flat_map_has_finite_gradients_and_no_phase_of_rounding_noise(value) -> None:
    x_BHWC = torch.full((1, 6, 6, 2), value, dtype=torch.float32, requires_grad=True)
    magnitude, phase = half_spectrum(x_BHWC)
    (3 * magnitude + phase).sum().backward()
    assert x_BHWC.grad.isfinite().all()
    assert magnitude.gt(FLOOR).sum() == (2 if abs(value) > FLOOR else 0)
    assert phase.sum().item() == pytest.approx(2 * math.pi if value < -FLOOR else 0)


def test_gradients_next_to_zero_are_bounded_by_the_floor() -> None:
    noise = 3e-8 * torch.randn(1, 8, 8, 2, dtype=torch.float32)
    x_BHWC = noise.requires_grad_()
    sum(part.sum() for part in half_spectrum(x_BHWC)).backward()
    assert x_BHWC.grad.eq(0).all()


# Pyramidal spatial-spectral refinement


def refined(block: SpatialSpectralRefinement, x_BHWC: Tensor) -> Tensor:
    """Equation 1 and the fusion, on the full grid of frequencies."""
    scores = affine(block.spectral, torch.cat(polar(x_BHWC), dim=3))
    weights = scores.softmax(3) if block.over_channels else scores.flatten(1, 2).softmax(1).view_as(scores)
    return affine(block.fuse, torch.cat([convolved(block.spatial, x_BHWC), weights * x_BHWC], dim=3))


def pooled(x_BHWC: Tensor, step: int) -> Tensor:
    height, width = x_BHWC.shape[1:3]
    rows = [
        torch.stack([x_BHWC[:, r : r + step, c : c + step].mean((1, 2)) for c in range(0, width, step)], dim=1)
        for r in range(0, height, step)
    ]
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("softmax", ["channels", "positions"])
@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7), (8, 4), (3, 2), (1, 1)])
def test_psr(height, width, softmax) -> None:
    block, x_BHWC = PSR(C, softmax), torch.randn(2, height, width, C)
    maps = []
    for step, scale in zip((1, 2, 4), block.scales, strict=True):
        small = refined(scale, x_BHWC if step == 1 else pooled(x_BHWC, step)).permute(0, 3, 1, 2)
        resized = F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
        maps.append(resized.permute(0, 2, 3, 1))
    assert close(block(x_BHWC), affine(block.mix, torch.cat(maps, dim=3)))


def test_spectral_weights_sum_to_one_over_their_axis() -> None:
    x_BHWC = torch.randn(2, 5, 6, C)
    over_channels = SpatialSpectralRefinement(C).spectral_weights(x_BHWC)
    over_positions = SpatialSpectralRefinement(C, "positions").spectral_weights(x_BHWC)
    assert torch.allclose(over_channels.sum(3), torch.ones(2, 5, 6))
    assert torch.allclose(over_positions.sum((1, 2)), torch.ones(2, C))


# Cross-modal alignment and the gated fusion


def learning(block: torch.nn.Module) -> list[torch.Tensor]:
    """Parameters but for the bias that the attention's last normalisation takes away."""
    return [value for name, value in block.named_parameters() if not name.endswith("attention.out.bias")]


def over_positions(rows: list[torch.Tensor]) -> list[torch.Tensor]:
    """Every channel with mean 0 and variance 1 over the positions."""
    mean = sum(rows) / len(rows)
    deviation = (sum((row - mean) ** 2 for row in rows) / len(rows) + 1e-5) ** 0.5
    return [(row - mean) / deviation for row in rows]


def test_cma_position_by_position_and_word_by_word() -> None:
    block, x_BNC, words_BLD = CMA(C, D), torch.randn(2, 6, C), torch.randn(2, L, D)
    mask_BL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    attention, wanted = block.attention, torch.zeros(2, 6, C)
    for sample in range(2):
        words = words_BLD[sample, : mask_BL[sample].sum()]
        words = torch.stack([word * torch.sigmoid(affine(block.importance, word)) for word in words])
        visual = torch.stack([F.gelu(affine(block.visual, x_BNC[sample, position])) for position in range(6)])
        queries = over_positions([affine(attention.query, visual[position]) for position in range(6)])
        found = []
        for position in range(6):
            scores = torch.stack([affine(attention.key, word) @ queries[position] / math.sqrt(C) for word in words])
            weights = scores.exp() / scores.exp().sum()
            value = sum(weight * affine(attention.value, word) for weight, word in zip(weights, words, strict=True))
            found.append(affine(attention.out, value))
        language = over_positions(found)
        for position in range(6):
            share = torch.sigmoid(affine(block.choose, torch.cat([visual[position], language[position]])))
            mixed = share * visual[position] + (1 - share) * language[position]
            wanted[sample, position] = affine(block.out, mixed)
    assert close(block(x_BNC, words_BLD, mask_BL), wanted)


def test_cma_without_words_is_finite_and_sees_none() -> None:
    block, x_BNC, mask_BL = CMA(C, D), torch.randn(1, 6, C), torch.zeros(1, L, dtype=torch.int64)
    first, second = (block(x_BNC, torch.randn(1, L, D), mask_BL) for _ in range(2))
    assert first.isfinite().all()
    assert first.equal(second)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_adaptive_fusion(count) -> None:
    block, maps = AdaptiveFusion(C, count), [torch.randn(2, 3, 5, C) for _ in range(count)]
    wanted = torch.zeros(2, 3, 5, C)
    for place in np.ndindex(2, 3, 5):
        gates = torch.sigmoid(affine(block.gate, torch.cat([part[place] for part in maps]))).split(C)
        wanted[place] = affine(block.out, sum(gate * part[place] for gate, part in zip(gates, maps, strict=True)))
    assert close(block(*maps), wanted)


@pytest.mark.parametrize("parts", [(True, True), (True, False), (False, True), (False, False)])
def test_ifim_fuses_the_parts_that_are_there(parts) -> None:
    psr, csr = parts
    block, x_BHWC = IFIM(C, D, psr=psr, csr=csr), torch.randn(2, 5, 7, C)
    words_BLD, mask_BL = torch.randn(2, L, D), torch.ones(2, L)
    maps = [block.psr(x_BHWC)] if psr else []
    maps += [block.csr(x_BHWC)] if csr else []
    maps.append(block.cma(x_BHWC.reshape(2, 35, C), words_BLD, mask_BL).view(2, 5, 7, C))
    assert close(block(x_BHWC, words_BLD, mask_BL), block.fusion(*maps))


# Hierarchical feature integration


def test_local_branch() -> None:
    block, x_BCHW = LocalBranch(C), torch.randn(3, C, 4, 5)
    apart = torch.cat([F.conv2d(x_BCHW[:, [c]], block.depthwise.weight[[c]], padding=1) for c in range(C)], dim=1)
    mixed = torch.einsum("bchw,oc->bohw", apart, block.point.weight[:, :, 0, 0])
    centred = mixed - mixed.mean((0, 2, 3), keepdim=True)
    wanted = centred / (centred.square().mean((0, 2, 3), keepdim=True) + block.bn.eps).sqrt()
    assert close(block(x_BCHW), wanted.clamp_min(0))


@pytest.mark.parametrize("heads", [1, 2])
def test_global_attention(heads) -> None:
    block, x_BCHW = GlobalAttention(C, heads), torch.randn(2, C, 3, 4)
    wanted = torch.zeros_like(x_BCHW)
    for sample in range(2):
        query, key, value = affine(block.qkv, x_BCHW[sample].flatten(1).T).split(C, dim=1)
        found = [
            torch.softmax(q @ k.T / math.sqrt(C / heads), dim=1) @ v
            for q, k, v in zip(*(part.split(C // heads, dim=1) for part in (query, key, value)), strict=True)
        ]
        wanted[sample] = affine(block.out, torch.cat(found, dim=1)).T.view(C, 3, 4)
    assert close(block(x_BCHW), wanted)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_frequency_attention(height, width, heads) -> None:
    """Equation 2 with numpy: complex tokens, the real part of Q K^T, and an inverse transform that is real."""
    block, x_BCHW = FrequencyAttention(C, heads), torch.randn(2, C, height, width)
    weight, size = block.qkv.weight.detach().numpy(), C // heads
    wanted = np.zeros((2, C, height, width))
    for sample in range(2):
        maps = np.einsum("oc,chw->ohw", weight, x_BCHW[sample].numpy())
        query, key, value = np.fft.fft2(maps, norm="ortho").reshape(3, C, height * width)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = (query[own].T @ key[own]).real / math.sqrt(size)
            weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            found = (weights @ value[own].T).T.reshape(size, height, width)
            result = np.fft.ifft2(found, norm="ortho")
            assert np.abs(result.imag).max() < 1e-12
            wanted[sample, own] = result.real
    assert close(block(x_BCHW), torch.from_numpy(wanted))


WIDTHS = (4, 4, 8, 8)


def stages_of(sides: list[tuple[int, int]]) -> list[Tensor]:
    return [torch.randn(2, width, *side) for width, side in zip(WIDTHS, sides, strict=True)]


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("sides", [[(16, 24), (8, 12), (4, 6), (2, 3)], [(19, 9), (10, 5), (5, 3), (3, 2)]])
def test_hfim_lays_every_stage_on_the_coarsest_grid_and_back(sides, reduce) -> None:
    """With branches that do nothing, a stage comes back by the way it went, added to itself."""
    neck, stages = HFIM(WIDTHS, reduce=reduce), stages_of(sides)
    total = (
        sum(WIDTHS) if reduce else sum(width * factor**2 for width, factor in zip(WIDTHS, (8, 4, 2, 1), strict=True))
    )
    neck.local, neck.wide, neck.frequency = nn.Identity(), nn.Identity(), nn.Identity()
    with torch.no_grad():
        neck.fuse.weight.copy_(torch.eye(total).repeat(1, 3)[..., None, None] / 3)
        neck.fuse.bias.zero_()
    for index, (got, stage, factor) in enumerate(zip(neck(stages), stages, (8, 4, 2, 1), strict=True)):
        high, wide = factor * sides[-1][0], factor * sides[-1][1]
        part = torch.zeros(2, stage.shape[1], high, wide)
        part[:, :, : stage.shape[2], : stage.shape[3]] = stage
        if reduce and index < 3:
            cells = [part[:, :, r::factor, c::factor] for r in range(factor) for c in range(factor)]
            joint = torch.stack(cells, dim=2).flatten(1, 2)  # channel by channel, cell by cell
            joint = neck.up[index](neck.down[index](joint)).unflatten(1, (stage.shape[1], factor, factor))
            for r in range(factor):
                for c in range(factor):
                    part[:, :, r::factor, c::factor] = joint[:, :, r, c]
        assert close(got, stage + part[:, :, : stage.shape[2], : stage.shape[3]])


def test_hfim_concatenates_its_three_branches() -> None:
    neck = HFIM((8, 8, 8, 8)).eval()
    stages = [torch.randn(2, 8, side, side + 1) for side in (8, 4, 2, 1)]
    stages = [stage[..., : stage.shape[-2]] for stage in stages]
    parts = [F.pixel_unshuffle(stage, factor) for stage, factor in zip(stages, (8, 4, 2, 1), strict=True)]
    joint = torch.cat([*(down(part) for down, part in zip(neck.down, parts, strict=False)), parts[3]], dim=1)
    fused = neck.fuse(torch.cat([neck.local(joint), neck.wide(joint), neck.frequency(joint)], dim=1))
    assert close(neck(stages)[3], stages[3] + fused[:, 24:])


# Odd sizes and mixed precision, block by block

BLOCKS = {
    "psr": lambda: PSR(8),
    "psr_positions": lambda: PSR(8, "positions"),
    "csr": lambda: CSR(8),
    "ifim": lambda: IFIM(8, D),
    "local": lambda: LocalBranch(8),
    "global": lambda: GlobalAttention(8),
    "frequency": lambda: FrequencyAttention(8),
    "hfim": lambda: HFIM((8, 8)),
    "hfim_all": lambda: HFIM((8, 8), reduce=False),
}


def run(name: str, block: nn.Module, x_BHWC: Tensor) -> Tensor:
    if name == "ifim":
        return block(x_BHWC, torch.ones(len(x_BHWC), L, D, dtype=x_BHWC.dtype), torch.ones(len(x_BHWC), L))
    x_BCHW = x_BHWC.permute(0, 3, 1, 2)
    if name.startswith("hfim"):
        half = [-(-side // 2) for side in x_BCHW.shape[-2:]]
        return block([x_BCHW, F.adaptive_avg_pool2d(x_BCHW, half)])[0].permute(0, 2, 3, 1)
    if name in ("local", "global", "frequency"):
        return block(x_BCHW).permute(0, 2, 3, 1)
    return block(x_BHWC)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("height", "width"), [(7, 5), (9, 1), (1, 1), (15, 15)])
def test_every_block_works_on_odd_sizes(name, height, width) -> None:
    block, x_BHWC = BLOCKS[name](), torch.randn(2, height, width, 8, requires_grad=True)
    out = run(name, block, x_BHWC)
    assert out.shape == x_BHWC.shape
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x_BHWC.grad.isfinite().all()
    assert all(value.grad.isfinite().all() for value in learning(block))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["psr", "psr_positions", "ifim", "frequency", "hfim"])
def test_fourier_blocks_under_bf16_autocast(name, flat) -> None:
    """Finite, and the transforms see float32: bf16 has 8 bits, the results agree with float32 far better than to 2%."""
    torch.set_default_dtype(torch.float32)
    block = BLOCKS[name]()
    data = torch.randn(2, 7, 6, 8)
    if flat:
        data[:, :, :, :4] = 0
        data[:, :, :, 4:] = -2
    x_BHWC = data.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = run(name, block, x_BHWC)
    out.float().square().sum().backward()
    assert out.isfinite().all()
    assert x_BHWC.grad.isfinite().all()
    assert all(value.grad.isfinite().all() for value in learning(block))
    if not flat:
        exact = run(name, block, data)
        assert (out.float() - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_transforms_run_in_float32_whatever_comes_in(monkeypatch) -> None:
    torch.set_default_dtype(torch.float32)
    seen: list[tuple[torch.dtype, bool]] = []

    def watch(real, x, *args, **kwargs):
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        return real(x, *args, **kwargs)

    for name in ("rfft2", "fft2", "irfft2"):
        monkeypatch.setattr(torch.fft, name, partial(watch, getattr(torch.fft, name)))
    x_BHWC = torch.randn(2, 6, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        for name in ("psr", "frequency"):
            run(name, BLOCKS[name](), x_BHWC.bfloat16())
    assert set(seen) == {(torch.float32, False), (torch.complex64, False)}
    assert len(seen) == 3 + 4
    assert [part.dtype for part in half_spectrum(x_BHWC.bfloat16())] == [torch.bfloat16] * 2
