"""CSINet's blocks against their plainest form: loops over positions, windows, rows, slices and distances, float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.csinet.cda import CollaborativeDilatedAttention, DilatedRows, row_offsets
from rrsis_bench.models.csinet.cross_view import (
    CrossViewWindows,
    SummedViews,
    WindowCrossAttention,
    from_windows,
    to_windows,
)
from rrsis_bench.models.csinet.decoder import CDADecoder, Prediction, conv_of_resized
from rrsis_bench.models.csinet.fusion import LanguageFusion, LanguageFusions, WordProjection
from rrsis_bench.models.csinet.views import Views, assemble, cut
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from rrsis_bench.backbones.positions import sine_positions

C, D, L = 8, 6, 5


pytestmark = pytest.mark.usefixtures("float64")


def close(got: Tensor, wanted: Tensor) -> bool:
    assert got.shape == wanted.shape
    assert wanted.std() > 1e-3, "a constant proves nothing"
    return torch.allclose(got, wanted, rtol=0, atol=1e-5)


def affine(linear, x: Tensor) -> Tensor:
    """A linear layer on a vector or on rows, as an explicit matrix."""
    out = x @ linear.weight.T
    return out if linear.bias is None else out + linear.bias


def resized(x_BHWC: Tensor, height: int, width: int) -> Tensor:
    x_BCHW = F.interpolate(x_BHWC.permute(0, 3, 1, 2), size=(height, width), mode="bilinear", align_corners=False)
    return x_BCHW.permute(0, 2, 3, 1)


def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One query over rows of keys."""
    return torch.softmax(keys @ query / math.sqrt(len(query)), 0) @ values


@pytest.mark.parametrize("n_view", [1, 2, 3])
def test_cut_takes_the_patches_row_by_row_and_assemble_puts_them_back(n_view) -> None:
    high, wide = 3, 2
    whole = torch.randn(2, n_view * high, n_view * wide, C)
    patches = cut(whole, n_view)
    index = 0
    for sample in range(2):
        for row in range(n_view):
            for col in range(n_view):
                wanted = whole[sample, row * high : (row + 1) * high, col * wide : (col + 1) * wide]
                assert patches[index].equal(wanted)
                index += 1
    assert index == len(patches)
    assert assemble(patches, n_view).equal(whole)


@pytest.mark.parametrize(("remote", "close"), [(True, True), (True, False), (False, True)])
def test_views_become_one_batch_and_views_again(remote, close) -> None:
    views = Views(torch.randn(3, 4, 5, C) if remote else None, torch.randn(3, 8, 10, C) if close else None)
    batch = views.to_batch(2)
    assert len(batch) == 3 * remote + 12 * close
    if remote:
        assert batch[:3].equal(views.remote)
    for got, wanted in zip(Views.from_batch(batch, 3, 2, remote=remote, close=close), views, strict=True):
        assert (got is None and wanted is None) or got.equal(wanted)


@pytest.mark.parametrize("gate", [True, False])
def test_language_fusion(gate) -> None:
    block, projection = LanguageFusion(C, gate=gate), WordProjection(C, D)
    x, words = torch.randn(2, 3, 4, C), torch.randn(2, L, D)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]])
    wanted = torch.empty_like(x)
    for sample in range(2):
        real = words[sample][mask[sample] == 1]
        keys, values = affine(projection.key, real), affine(projection.value, real)
        for row in range(3):
            for col in range(4):
                v = x[sample, row, col]
                f = attend(affine(block.query, v), keys, values)
                if not gate:
                    wanted[sample, row, col] = v + f
                    continue
                weights, content = affine(block.mix, torch.cat([f, v])).split(C)
                wanted[sample, row, col] = v + affine(block.out, torch.tanh(weights) * content)
    assert close(block(x, projection(words, mask)), wanted)


@pytest.mark.parametrize(
    ("share", "projections", "fusions"),
    [("words", ["both"], ["remote", "close"]), ("all", ["both"], ["both"]), ("none", *[["remote", "close"]] * 2)],
)
def test_what_the_views_share_of_the_language_fusion(share, projections, fusions) -> None:
    block = LanguageFusions(["remote", "close"], C, D, gate=True, share=share)
    assert (list(block.words), list(block.maps)) == (projections, fusions)
    views, words, mask = Views(torch.randn(2, 3, 4, C), torch.randn(2, 6, 8, C)), torch.randn(2, L, D), torch.ones(2, L)
    got = block(views, words, mask)
    for name in ("remote", "close"):
        projection = block.words[name if share == "none" else "both"]
        fusion = block.maps["both" if share == "all" else name]
        assert close(got[name], fusion(getattr(views, name), projection(words, mask)))


def test_one_view_shares_nothing_and_is_named() -> None:
    block = LanguageFusions(["close"], C, D, gate=True, share="words")
    assert (list(block.words), list(block.maps)) == (["close"], ["close"])


def test_the_windows_start_as_the_identity_on_the_views_own_tokens() -> None:
    """Random weights would hand unrelated tokens to the next pretrained stage. All weights get gradients."""
    cosines = {}
    for keep_own in (True, False):
        block = CrossViewWindows(64, 3, 2, keep_own=keep_own)
        remote, near = torch.randn(2, 6, 6, 64), torch.randn(2, 12, 12, 64)
        out = block(remote, near)
        cosines[keep_own] = [
            F.cosine_similarity(a, b, dim=-1).abs().mean().item() for a, b in zip(out, (remote, near), strict=True)
        ]
        sum(o.square().mul(torch.rand_like(o)).sum() for o in out).backward()
        assert all(value.grad.abs().max() > 0 for value in block.parameters())
    assert min(cosines[True]) > 0.99
    assert max(cosines[False]) < 0.7
    layer = WindowCrossAttention(64).integrate
    assert layer.weight[:, :64].equal(torch.eye(64))
    assert 0.015 < float(layer.weight[:, 64:].std()) < 0.025
    assert not layer.bias.any()


def test_language_fusion_without_words_attends_to_none() -> None:
    block, projection = LanguageFusion(C, gate=False), WordProjection(C, D)
    x, mask = torch.randn(2, 3, 4, C), torch.tensor([[0] * L, [1] * L])
    out = block(x, projection(torch.randn(2, L, D), mask))
    assert torch.allclose(out[0], x[0])
    assert not torch.allclose(out[1], x[1])


def plain_direction(block, x: Tensor, other: Tensor, size: tuple[int, int], other_size: tuple[int, int]) -> Tensor:
    """`x` and `other` are resized already: one window after the other, one query after the other."""
    found = torch.empty_like(x)
    for sample in range(len(x)):
        for top in range(0, x.shape[1], size[0]):
            for left in range(0, x.shape[2], size[1]):
                above, beside = top // size[0] * other_size[0], left // size[1] * other_size[1]
                source = other[sample, above : above + other_size[0], beside : beside + other_size[1]].reshape(-1, C)
                keys, values = affine(block.key, source), affine(block.value, source)
                for row in range(top, top + size[0]):
                    for col in range(left, left + size[1]):
                        query = affine(block.query, x[sample, row, col])
                        found[sample, row, col] = attend(query, keys, values)
    return found


@pytest.mark.parametrize(
    ("height", "width", "window", "n_view"),
    [(6, 6, 3, 2), (4, 2, 2, 3), (7, 5, 3, 2), (3, 3, 7, 2)],
    ids=["divides", "three", "resized", "smaller"],
)
@pytest.mark.parametrize("directions", [(True, True), (True, False), (False, True)], ids=str)
def test_cross_view_windows(height, width, window, n_view, directions) -> None:
    block = CrossViewWindows(C, window, n_view, to_remote=directions[0], to_close=directions[1])
    remote, near = torch.randn(2, height, width, C), torch.randn(2, n_view * height, n_view * width, C)
    size = min(window, height), min(window, width)
    grid = math.ceil(height / size[0]), math.ceil(width / size[1])
    wide = n_view * size[0], n_view * size[1]
    small = resized(remote, grid[0] * size[0], grid[1] * size[1])
    large = resized(near, grid[0] * wide[0], grid[1] * wide[1])
    with torch.no_grad():
        got = block(remote, near)
        cases = [
            (block.to_remote, remote, small, large, size, wide),
            (block.to_close, near, large, small, wide, size),
        ]
        for out, (direction, x, queries, source, own, others) in zip(got, cases, strict=True):
            if direction is None:
                assert out.equal(x)
                continue
            found = resized(plain_direction(direction, queries, source, own, others), x.shape[1], x.shape[2])
            assert close(out, affine(direction.integrate, torch.cat([x, found], dim=-1)))


def test_windows_are_put_back() -> None:
    x = torch.randn(2, 6, 8, C)
    assert from_windows(to_windows(x, 3, 2), 2, 4, 3, 2).equal(x)


def test_summed_views() -> None:
    remote, near = torch.randn(2, 3, 4, C), torch.randn(2, 6, 8, C)
    both = SummedViews()(remote, near)
    assert close(both[0], remote + near.reshape(2, 3, 2, 4, 2, C).mean((2, 4)))  # bilinear, by half: the mean of four
    assert close(both[1], near + resized(remote, 6, 8))
    one = SummedViews(to_remote=False)(remote, near)
    assert one[0].equal(remote)
    assert one[1].equal(both[1])


def attention_cost(monkeypatch, height: int) -> tuple[int, int]:
    """Query-key pairs, and bytes of the largest tensor kept for the gradients, where the scores are materialised."""
    pairs, kept = 0, 0
    attention = F.scaled_dot_product_attention

    def count(query, key, value, **options):
        nonlocal pairs
        pairs += query.shape[:-1].numel() * key.shape[-2]
        return attention(query, key, value, **options)

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept = max(kept, tensor.numel() * tensor.element_size())
        return tensor

    block = CrossViewWindows(C, 6, 2)
    remote, near = (torch.randn(1, n * height, n * height, C, requires_grad=True) for n in (1, 2))
    with monkeypatch.context() as patch, sdpa_kernel(SDPBackend.MATH):
        patch.setattr(F, "scaled_dot_product_attention", count)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            block(remote, near)
    return pairs, kept


def test_attention_memory_is_linear_in_the_number_of_windows(monkeypatch) -> None:
    small, large = (attention_cost(monkeypatch, height) for height in (12, 24))
    assert small[0] == 2 * 12**2 * (2 * 6) ** 2
    assert small[1] >= 8 * small[0] // 2, "the scores were not among what was kept"
    assert large[0] == 4 * small[0]
    assert large[1] == 4 * small[1]


def test_row_offsets() -> None:
    assert row_offsets(15) == (-7, -3, -1, 0, 1, 3, 7)  # the paper's size
    assert row_offsets(5) == (-2, -1, 0, 1, 2)  # d_0 = 0 is the row itself
    assert row_offsets(3) == (-1, 0, 1)
    assert row_offsets(1) == (0,)


def test_the_attended_set_of_one_query() -> None:
    """Row 4, column 7 of a 15 x 15 map: rows 4, 4 +- 1, 4 +- 3, 4 +- 7 (4 - 7 lies beyond), columns 5 to 9."""
    block = DilatedRows(C, 5, mask_padding=False)
    x, joint = torch.randn(1, 1, 15, 15, C), torch.randn(1, 15, 15, C, requires_grad=True)
    block(x, joint)[0, 0, 4, 7].square().sum().backward()
    attended = {(row, col) for row, col in joint.grad[0].abs().sum(-1).nonzero().tolist()}
    assert attended == {(row, col) for row in (1, 3, 4, 5, 7, 11) for col in (5, 6, 7, 8, 9)}


def plain_rows(block: DilatedRows, x_MHWC: Tensor, joint_HWC: Tensor) -> Tensor:
    """One query after the other, key after key; a row beyond the map is a key and a value of 0, or nothing."""
    maps, height, width, _ = x_MHWC.shape
    positions, size, out = sine_positions(height, width, C), block.slice_size, torch.empty_like(x_MHWC)
    all_keys, all_values = affine(block.key, joint_HWC + positions), affine(block.value, joint_HWC)
    distances = {height // 2 ** (3 - j) for j in range(3)}
    rows = sorted({0, *distances, *(-distance for distance in distances)})
    for at in range(maps):
        for row in range(height):
            for col in range(width):
                keys, values = [], []
                for offset in rows:
                    for other in range(col // size * size, col // size * size + size):
                        if 0 <= row + offset < height:
                            keys.append(all_keys[row + offset, other])
                            values.append(all_values[row + offset, other])
                        elif not block.mask_padding:
                            keys.append(torch.zeros(C))
                            values.append(torch.zeros(C))
                query = affine(block.query, x_MHWC[at, row, col] + positions[row, col])
                r = affine(block.out, attend(query, torch.stack(keys), torch.stack(values)))
                r = (r - r.mean()) / torch.sqrt(r.var(unbiased=False) + block.norm.eps)
                out[at, row, col] = x_MHWC[at, row, col] + r * block.norm.weight + block.norm.bias
    return out


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize(("height", "width", "slice_size"), [(9, 4, 2), (2, 5, 5)])
def test_dilated_rows(height, width, slice_size, mask_padding) -> None:
    block = DilatedRows(C, slice_size, mask_padding=mask_padding)
    torch.nn.init.normal_(block.norm.weight)
    x, joint = torch.randn(2, 2, height, width, C), torch.randn(2, height, width, C)
    with torch.no_grad():
        wanted = torch.stack([plain_rows(block, *sample) for sample in zip(x, joint, strict=True)])
        assert close(block(x, joint), wanted)


@pytest.mark.parametrize(("remote", "near"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize(("height", "width", "n_view"), [(4, 3, 2), (2, 2, 3)])
def test_dilated_attention_of_both_views(height, width, n_view, remote, near) -> None:
    """Rows, then columns, as plain loops; the close view is queried by sub-grids x[n1::N, n2::N]."""
    block = CollaborativeDilatedAttention(C, n_view, slice_size=2, remote=remote, close=near)
    views = Views(
        torch.randn(2, height, width, C) if remote else None,
        torch.randn(2, n_view * height, n_view * width, C) if near else None,
    )
    high, wide = math.ceil(height / 2) * 2, math.ceil(width / 2) * 2
    got = block(views)

    def passes(module, x_HWC: Tensor, joint_HWC: Tensor) -> Tensor:
        x_HWC = plain_rows(module.rows, x_HWC[None], joint_HWC)[0]
        return plain_rows(module.columns, x_HWC.transpose(0, 1)[None], joint_HWC.transpose(0, 1))[0].transpose(0, 1)

    with torch.no_grad():
        small = [resized(view, high, wide) for view in views if view is not None]
        joint = affine(block.joint, torch.cat(small, dim=-1))
        for sample in range(2):
            if remote:
                assert close(got.remote[sample], passes(block.remote, small[0][sample], joint[sample]))
            if near:
                large = resized(views.close, n_view * high, n_view * wide)[sample]
                wanted = torch.empty_like(large)
                for n1 in range(n_view):
                    for n2 in range(n_view):
                        grid = large[n1::n_view, n2::n_view]
                        wanted[n1::n_view, n2::n_view] = passes(block.close, grid, joint[sample])
                assert close(got.close[sample], wanted)


@pytest.mark.parametrize("sizes", [(5, 5, 24, 24), (5, 4, 6, 7), (1, 3, 6, 3), (6, 6, 5, 4)], ids=str)
def test_convolution_of_a_resized_map(sizes) -> None:
    x, weight = torch.randn(2, 7, *sizes[:2]), torch.randn(4, 7, 3, 3)
    wanted = F.conv2d(F.interpolate(x, size=sizes[2:], mode="bilinear", align_corners=False), weight, padding=1)
    assert close(conv_of_resized(x, weight, *sizes[2:]), wanted)


def unusual_statistics(module) -> None:
    """BatchNorm that is no identity."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for value in (norm.running_mean, norm.weight.data, norm.bias.data):
                value.copy_(torch.randn_like(value))
            norm.running_var.copy_(0.5 + torch.rand_like(norm.running_var))


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("stages", [4, 3, 1])
def test_decoder(stages, skip) -> None:
    """Equation 13 as it stands: resize, concatenate, convolve, normalise."""
    widths, sides, hidden, n_view = [2, 4, 6, 8], [9, 5, 4, 2], 5, 2
    attention = CollaborativeDilatedAttention(8, n_view, slice_size=3, remote=True, close=True)
    decoder = CDADecoder(widths, hidden, n_view, attention, skip=skip, stages=stages).eval()
    unusual_statistics(decoder)
    features = [torch.randn(5, width, side, side) for width, side in zip(widths, sides, strict=True)]
    last = Views.from_batch(features[3].permute(0, 2, 3, 1), 1, n_view, remote=True, close=True)

    def up(x: Tensor, side: int) -> Tensor:
        return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)

    def cbr(block, x: Tensor) -> Tensor:
        x = F.conv2d(x, block.conv.weight, padding=1)
        scale = block.bn.weight / torch.sqrt(block.bn.running_var + block.bn.eps)
        shift = block.bn.bias - block.bn.running_mean * scale
        return torch.clamp(x * scale[:, None, None] + shift[:, None, None], min=0)

    with torch.no_grad():
        enhanced = attention(last)
        first = torch.cat([enhanced.remote, cut(enhanced.close, n_view)]).permute(0, 3, 1, 2)
        wanted = first
        for step, stage in zip(decoder.steps, (2, 1, 0), strict=False):
            integrated = cbr(step.merge, torch.cat([up(wanted, sides[stage]), features[stage]], dim=1))
            wanted = cbr(step.skip, torch.cat([integrated, up(first, sides[stage])], dim=1) if skip else integrated)
        assert len(decoder.steps) == stages - 1
        got = decoder(features, last)
        assert got.shape[1] == decoder.width
        assert close(got, wanted)


@pytest.mark.parametrize(("remote", "near"), [(True, True), (True, False), (False, True)])
def test_prediction(remote, near) -> None:
    block = Prediction(C, 2, remote=remote, close=near)
    x = torch.randn(3 * remote + 12 * near, C, 4, 5)
    parts = []
    if remote:
        size = (8, 10) if near else (4, 5)
        parts.append(F.interpolate(x[:3], size=size, mode="bilinear", align_corners=False))
    if near:
        parts.append(assemble(x[3 * remote :].permute(0, 2, 3, 1), 2).permute(0, 3, 1, 2))
    background, foreground = F.conv2d(torch.cat(parts, dim=1), block.head.weight, block.head.bias).unbind(1)
    assert close(block(x, 3), foreground - background)
