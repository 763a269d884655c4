"""BRINet: its attention in loops, its gates and dilations, and what the golden file sees of a wrong one."""

from __future__ import annotations

import pytest
import torch
from rrsis_bench.models.brinet import DILATIONS, CrossAttention, Gate
from torch import nn

from tests.fakes.classic import Case, relative_error
from tests.fakes.config import compose

from .conftest import build_tiny, make_inputs
from .test_classic_parity import build, run


def attention() -> CrossAttention:
    torch.manual_seed(0)
    module = CrossAttention(3, 4, 2, grid=2).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def test_the_attention_is_four_nested_loops() -> None:
    module = attention()
    joined, slots = torch.randn(1, 15, 2, 2, dtype=torch.float64), torch.randn(1, 5, 4, dtype=torch.float64)
    slots[:, 3:] = 0  # two slots behind the sentence
    with torch.no_grad():
        a1, a2, a3, a4 = (
            torch.relu(conv(joined))[0].flatten(1).T
            for conv in (module.asking, module.relating, module.spreading, module.kept)
        )
        words = torch.zeros(4, 4, dtype=torch.float64)
        for pixel in range(4):
            weights = torch.stack([a1[pixel] @ slots[0, slot] for slot in range(5)]).exp()
            for slot in range(5):
                words[pixel] += weights[slot] / weights.sum() * slots[0, slot]
        hidden = torch.tanh(words @ module.from_words.weight.T + a2 @ module.from_vision.weight.T)
        out = torch.zeros(4, 4, dtype=torch.float64)
        for i in range(4):
            row = torch.stack([module.positions_NC[i] @ hidden[j] for j in range(4)]).exp()
            for j in range(4):
                out[j] += row[j] / row.sum() * a3[i]  # row i sums to 1, and pixel j collects over the rows
        both = torch.cat([out, words], dim=1).T.reshape(1, 8, 2, 2)
        summed = torch.relu(module.merged(both)) + a4.T.reshape(1, 4, 2, 2)
        parts = [conv(summed) for conv in module.dilated]  # no activation
        plain = torch.relu(module.out(torch.cat([*parts, summed], dim=1)))
        assert torch.allclose(module(joined, slots), plain, rtol=0, atol=1e-12)


def test_null_slots_drain_weight_by_a_known_factor() -> None:
    """With n words and T slots, a zero slot adds e^0 = 1 to the softmax's denominator."""
    torch.manual_seed(0)
    asked, words = torch.randn(6, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    few = (asked @ words.T).softmax(1) @ words
    slots = torch.cat([words, torch.zeros(5, 4, dtype=torch.float64)])
    many = (asked @ slots.T).softmax(1) @ slots
    total = (asked @ words.T).exp().sum(1, keepdim=True)
    assert torch.allclose(many, few * total / (total + 5), rtol=0, atol=1e-12)


def test_the_number_of_slots_belongs_to_the_model_and_not_to_the_batch() -> None:
    model = build_tiny("brinet").double().eval()
    views, text = make_inputs(2, views=model.views, tokens=12)
    longer = {key: nn.functional.pad(value, (0, 4)) for key, value in text.items()}
    with torch.no_grad():
        before = model(views, text).logits
        assert torch.allclose(model(views, longer).logits, before, rtol=0, atol=1e-12)
        model.slots = 16
        assert not torch.allclose(model(views, text).logits, before, rtol=0, atol=1e-9)


def test_dilations_by_impulse() -> None:
    module = attention()
    impulse = torch.zeros(1, 4, 15, 15, dtype=torch.float64)
    impulse[..., 7, 7] = 1
    for conv, dilation in zip(module.dilated, DILATIONS, strict=True):
        with torch.no_grad():
            answer = conv(impulse) - conv(torch.zeros_like(impulse))
        rows = sorted(set(answer.abs().sum(1)[0].nonzero()[:, 0].tolist()))
        assert rows == [7 - dilation, 7, 7 + dilation]


def test_the_gate_multiplies_the_first_map_and_adds_the_second() -> None:
    gate = Gate(3).double()
    first, second = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        gate.gate.weight.zero_()
        gate.gate.bias.fill_(30.0)
        assert torch.allclose(gate(first, second), first + second)
        gate.gate.bias.fill_(-30.0)
        assert torch.allclose(gate(first, second), second, atol=1e-9)


def test_six_gates_have_six_weights_and_the_sides_weight_one() -> None:
    model = build_tiny("brinet").train()
    assert len({id(gate.feature.weight) for gate in model.gates.values()}) == 6
    output = model(*make_inputs(2, views=model.views, tokens=model.max_tokens))
    assert output.main_weight == 1.0
    assert {name: weight for name, (weight, _) in output.side_logits.items()} == {"c5": 1.0, "c4": 1.0, "c3": 1.0}


@pytest.fixture(scope="module")
def golden():
    case = Case.read("brinet_small")
    return case, build(case, "brinet")[0]


def error(golden, row: int = 0) -> float:
    case, model = golden
    with torch.no_grad():
        return relative_error(run(model, case, row).logits, case.expected["logits"][[row]])


def test_the_golden_file_sees_null_slots_left_out(golden, monkeypatch) -> None:
    monkeypatch.setattr(golden[1], "slots", 7)
    forward = CrossAttention.forward
    monkeypatch.setattr(CrossAttention, "forward", lambda self, joined, slots: forward(self, joined, slots[:, :7]))
    assert error(golden) > 0.05


def test_the_golden_file_sees_a_normalised_sentence(golden, monkeypatch) -> None:
    from rrsis_bench.models import brinet

    spread = brinet.spread
    monkeypatch.setattr(brinet, "spread", lambda vector, like: spread(nn.functional.normalize(vector), like))
    assert error(golden) > 0.05


def test_the_golden_file_sees_ordinary_attention_between_positions(golden, monkeypatch) -> None:
    softmax = torch.Tensor.softmax

    def other_axis(scores, dim):
        square = scores.shape[-1] == scores.shape[-2]
        return softmax(scores, 1 if square else dim)

    monkeypatch.setattr(torch.Tensor, "softmax", other_axis)
    assert error(golden) > 0.05


def test_the_golden_file_sees_activated_dilated_convolutions(golden) -> None:
    hooks = [
        conv.register_forward_hook(lambda _module, _given, out: torch.relu(out))
        for part in golden[1].attentions.values()
        for conv in part.dilated
    ]
    seen = error(golden)
    for hook in hooks:
        hook.remove()
    assert seen > 0.1
    assert error(golden) < 1e-9


def test_the_golden_file_sees_gates_on_the_other_map(golden, monkeypatch) -> None:
    forward = Gate.forward
    monkeypatch.setattr(Gate, "forward", lambda self, gated, added: forward(self, added, gated))
    assert error(golden) > 0.1


def test_the_recipe_divides_eps_by_the_cells_of_the_authors_sum() -> None:
    train = compose("model=brinet", "data=rrsisd")["train"]
    assert train["optimizer"]["eps"] == pytest.approx(1e-8 / 1600, rel=0.05)
    assert (train["optimizer"]["lr"], train["optimizer"]["weight_decay"]) == (2.5e-4, 0.0)
    assert (train["schedule"]["name"], train["schedule"]["min_lr_ratio"]) == ("polynomial", 0.04)
