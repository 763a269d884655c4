"""CMSA: its attention over the whole volume in plain form, pairs of words, and what the golden file sees."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models import cmsa
from rrsis_bench.models.cmsa import LevelGate, VolumeAttention, mean_word, on_volume
from torch import nn

from tests.fakes.classic import Case, relative_error

from .conftest import build_tiny, make_inputs
from .test_classic_parity import SIZES, build, run


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


def test_a_layer_on_the_parts_is_the_layer_on_the_volume() -> None:
    layer = randomised(nn.Linear(9, 4))
    vision, words, places = (torch.randn(2, n, c, dtype=torch.float64) for n, c in ((6, 3), (5, 4), (6, 2)))
    volume = torch.cat(
        [vision[:, None].expand(-1, 5, -1, -1), words[:, :, None].expand(-1, -1, 6, -1),
         places[:, None].expand(-1, 5, -1, -1)], dim=3,
    )  # fmt: skip
    assert torch.allclose(on_volume(layer, vision, words, places), layer(volume), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_the_attention_in_its_plain_form(length) -> None:
    """One sentence of `length` words on a 3 x 3 grid, whose last row and column stay alone in the pooling."""
    attention = randomised(VolumeAttention(5, 3))
    volume = torch.randn(1, 4, 9, 5, dtype=torch.float64)
    mask = (torch.arange(4) < length)[None]
    with torch.no_grad():
        got = attention(lambda layer: layer(volume), mask)
        elements = volume[0, :length].reshape(length, 3, 3, 5)
        keys, values = [], []
        for word in range(0, length, 2):
            for row in range(0, 3, 2):
                for column in range(0, 3, 2):
                    block = elements[word : word + 2, row : row + 2, column : column + 2].reshape(-1, 5)
                    keys.append(torch.relu(attention.key(block)).amax(0))
                    values.append(torch.relu(attention.value(block)).amax(0))
        queries = torch.relu(attention.query(volume[0, :length].reshape(-1, 5)))
        collected = (queries @ torch.stack(keys).T).softmax(1) @ torch.stack(values)
        plain = torch.relu(attention.back(collected)).reshape(length, 9, 5).mean(0)
    assert torch.allclose(got[0], plain, rtol=0, atol=1e-12)


def test_the_mean_counts_the_words_of_the_sentence() -> None:
    volume = torch.tensor([[1.0, 3.0, 100.0], [5.0, 7.0, 9.0]])[..., None, None]
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()
    assert mean_word(volume, mask).flatten().tolist() == [2.0, 0.0]


def test_the_gate_in_its_plain_form() -> None:
    gate = LevelGate(2)
    assert float(gate.balance.detach()) == 0.5
    gate = randomised(gate)
    own, first, second = torch.randn(3, 1, 2, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        i, f, r = gate.gates(own).split(2, dim=1)
        f, r = 1 / (1 + (-f - 1).exp()), 1 / (1 + (-r - 1).exp())
        a = float(gate.balance)
        c = a * f * first + (1 - a) * f * second + (1 - f) * i
        assert torch.allclose(gate(own, first, second), r * torch.tanh(c) + (1 - r) * own, rtol=0, atol=1e-12)


def test_the_order_of_words_matters_across_pairs_and_not_within() -> None:
    model = build_tiny("cmsa").double().eval()
    views, text = make_inputs(1, views=model.views, tokens=model.max_tokens)
    text["word_mask"] = text["attention_mask"] = torch.ones_like(text["word_mask"])

    def swapped(first: int, second: int) -> torch.Tensor:
        ids = text["input_ids"].clone()
        ids[:, [first, second]] = ids[:, [second, first]]
        return model(views, {**text, "input_ids": ids}).logits

    with torch.no_grad():
        before = model(views, text).logits
        assert torch.allclose(swapped(0, 1), before, rtol=0, atol=1e-12)
        assert not torch.allclose(swapped(1, 2), before, rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def golden():
    case = Case.read("cmsa_small")
    return case, build(case, "cmsa", **SIZES["cmsa_small"])[0]


def error(golden) -> float:
    case, model = golden
    with torch.no_grad():
        return relative_error(run(model, case, 0).logits, case.expected["logits"][[0]])


def test_the_golden_file_sees_pooling_from_the_other_end(golden, monkeypatch) -> None:
    """The sentence has 7 words, so its last word is alone in a pair."""
    whole = cmsa.pool
    monkeypatch.setattr(cmsa, "pool", lambda volume, mask: whole(volume.roll(1, 1), mask.roll(1, 1)))
    assert error(golden) > 1e-2


def test_the_golden_file_sees_pooling_over_positions_only(golden, monkeypatch) -> None:
    def positions_only(volume, mask):
        side = round(volume.shape[2] ** 0.5)
        volume = (volume * mask[..., None, None]).unflatten(2, (side, side)).movedim(-1, 1)
        pooled = F.max_pool3d(volume, (1, 2, 2), stride=(2, 2, 2), ceil_mode=True)
        return pooled.flatten(2).mT

    monkeypatch.setattr(cmsa, "pool", positions_only)
    assert error(golden) > 1e-2


def test_the_golden_file_sees_a_scaled_attention(golden, monkeypatch) -> None:
    plain = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: plain(*a, **{**k, "scale": None}))
    assert error(golden) > 1e-2


def test_the_golden_file_sees_gates_swapped(golden) -> None:
    model = golden[1]
    weights = {}
    for level, gate in model.gates.items():
        weights[level] = {key: value.clone() for key, value in gate.state_dict().items()}
        for part in (gate.gates.weight, gate.gates.bias):
            i, f, r = part.data.chunk(3)
            part.data = torch.cat([f, i, r])
    seen = error(golden)
    for level, gate in model.gates.items():
        gate.load_state_dict(weights[level])
    assert seen > 0.05
    assert error(golden) < 1e-9
