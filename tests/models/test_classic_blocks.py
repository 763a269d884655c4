"""Blocks of the CNN and LSTM systems against plain loops, and what the golden files see of a wrong one."""

from __future__ import annotations

import math

import pytest
import torch
from rrsis_bench.models.blocks.classic import ConvLSTM, JointNorm, coordinate_map, l2
from torch import Tensor, nn

from tests.fakes.classic import Case, relative_error

from .conftest import build_tiny, make_inputs
from .test_classic_parity import build, run


def test_coordinates_cell_by_cell() -> None:
    got = coordinate_map(3, 4)
    for h in range(3):
        for w in range(4):
            left, right, top, bottom = 2 * w / 4 - 1, 2 * (w + 1) / 4 - 1, 2 * h / 3 - 1, 2 * (h + 1) / 3 - 1
            cell = [left, top, right, bottom, (left + right) / 2, (top + bottom) / 2, 1 / 4, 1 / 3]
            assert got[:, h, w].tolist() == pytest.approx(cell, abs=1e-15)


def test_l2_keeps_zero_and_its_gradient_finite() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    assert l2(x).tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]
    l2(x).sum().backward()
    assert x.grad.isfinite().all()


def test_the_joint_norm_counts_channels_and_positions_together_and_each_sample_alone() -> None:
    torch.manual_seed(0)
    norm, x = JointNorm(3).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for row in range(2):
        values = x[row].flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        plain = (x[row] - mean) / math.sqrt(variance + 1e-12)
        plain = plain * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert torch.allclose(norm(x)[row], plain, rtol=0, atol=1e-12)


def plain_conv_lstm(cell: ConvLSTM, steps: list[Tensor]) -> Tensor:
    """The recurrence gate by gate and cell by cell of the grid, for one sample."""
    width, grid = steps[0].shape[1], steps[0].shape[2]
    c = h = torch.zeros(width, grid, grid, dtype=torch.float64)
    kernel = cell.kernel.weight[:, :, 0, 0]

    def normed(part: str, x: Tensor) -> Tensor:
        norm = cell.norms[part]
        scaled = (x - x.mean()) / (x.var(correction=0) + 1e-12).sqrt()
        return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]

    for step in steps:
        y = torch.zeros(4 * width, grid, grid, dtype=torch.float64)
        for row in range(grid):
            for column in range(grid):
                y[:, row, column] = kernel @ torch.cat([step[0, :, row, column], h[:, row, column]])
        j, i, f, o = y.split(width)
        j = normed("j", j)
        i = torch.sigmoid(normed("i", i + cell.peepholes["i"] * c))
        f = torch.sigmoid(normed("f", f + cell.peepholes["f"] * c) + 1)
        c = f * c + i * torch.tanh(j)
        o = torch.sigmoid(normed("o", o + cell.peepholes["o"] * c))
        c = normed("c", c)
        h = o * torch.tanh(c)
    return h


def test_the_conv_lstm_is_the_plain_recurrence() -> None:
    torch.manual_seed(0)
    cell = ConvLSTM(3, 2).double()
    for parameter in cell.parameters():
        nn.init.normal_(parameter)
    steps = [torch.randn(2, 3, 2, 2, dtype=torch.float64) for _ in range(3)]
    with torch.no_grad():
        got = cell(steps)
        for row in range(2):
            wanted = plain_conv_lstm(cell, [step[[row]] for step in steps])
            assert torch.allclose(got[row], wanted, rtol=0, atol=1e-12)
        assert not torch.allclose(cell(steps[::-1]), got, atol=1e-3)  # the order of the steps matters


class Mutant(ConvLSTM):
    """A wrong ConvLSTM: ``raw`` state, ``gates`` in the LSTM's order, norms per ``pixel``, the ``order`` reversed."""

    fault = ""

    def forward(self, steps):
        width = steps[0].shape[1]
        if self.fault == "order":
            return super().forward(steps[::-1])
        if self.fault == "gates":
            weight = self.kernel.weight
            order = torch.tensor([1, 0, 2, 3])
            swapped = weight.reshape(4, width, *weight.shape[1:])[order].reshape_as(weight)
            self.kernel.weight.data.copy_(swapped)
            out = super().forward(steps)
            self.kernel.weight.data.copy_(weight.reshape(4, width, *weight.shape[1:])[order].reshape_as(weight))
            return out
        kept = dict(self.norms.items())
        if self.fault == "raw":
            self.norms["c"] = nn.Identity()
        if self.fault == "pixel":
            for part, norm in kept.items():
                self.norms[part] = PixelNorm(norm)
        if self.fault == "eps":
            for norm in kept.values():
                norm.eps = 1e-5
        out = super().forward(steps)
        for part, norm in kept.items():
            norm.eps = 1e-12
            self.norms[part] = norm
        return out


class PixelNorm(nn.Module):
    def __init__(self, norm: JointNorm):
        super().__init__()
        self.norm = norm

    def forward(self, x_BCHW):
        scaled = nn.functional.layer_norm(x_BCHW.movedim(1, -1), x_BCHW.shape[1:2], eps=1e-12).movedim(-1, 1)
        return scaled * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


@pytest.fixture(scope="module")
def rrn():
    case = Case.read("rrn_small")
    return case, build(case, "rrn")[0]


@pytest.mark.parametrize(
    ("fault", "least"), [("raw", 0.5), ("gates", 0.5), ("pixel", 0.2), ("order", 0.3), ("eps", 1e-6)]
)
def test_the_golden_file_sees_a_wrong_conv_lstm(rrn, monkeypatch, fault, least) -> None:
    case, model = rrn
    monkeypatch.setattr(model.refinement, "__class__", Mutant)
    monkeypatch.setattr(Mutant, "fault", fault)
    with torch.no_grad():
        assert relative_error(run(model, case, 0).logits, case.expected["logits"][[0]]) > least
        monkeypatch.setattr(model.refinement, "__class__", ConvLSTM)
        assert relative_error(run(model, case, 0).logits, case.expected["logits"][[0]]) < 1e-9


def test_the_golden_file_sees_coordinates_shifted_by_half_a_cell(rrn, monkeypatch) -> None:
    case, model = rrn
    places = type(model).places
    monkeypatch.setattr(type(model), "places", lambda self, like: places(self, like) + 1 / self.grid)
    with torch.no_grad():
        assert relative_error(run(model, case, 0).logits, case.expected["logits"][[0]]) > 0.01


def test_rrn_is_blind_without_the_fusions_language_columns() -> None:
    """The columns of the fusion are visual, words, coordinates, in this order."""
    model = build_tiny("rrn").double().eval()
    visual, words = model.visual.out_channels, model.words.width
    views, text = make_inputs(2, views=model.views, tokens=model.max_tokens)
    other = {**text, "input_ids": text["input_ids"].flip(1)}
    with torch.no_grad():
        assert not model(views, text).logits.equal(model(views, other).logits)
        model.fusion.weight[:, visual : visual + words] = 0
        assert model(views, text).logits.equal(model(views, other).logits)


def test_the_grid_follows_the_image() -> None:
    assert build_tiny("rrn", "size.image=75").refinement.peepholes["i"].shape[1:] == (10, 10)
