"""CMPC and CMPC+: the graph in its plain form, the exchange, and what the golden files see of a wrong block."""

from __future__ import annotations

import math

import pytest
import torch
from rrsis_bench.models.blocks import cmpc
from rrsis_bench.models.blocks.cmpc import Exchange, RelationGraph
from torch import nn

from rrsis_bench import registry
from tests.fakes.classic import Case, relative_error
from tests.fakes.config import compose

from .conftest import build_tiny, make_inputs
from .test_classic_parity import build, run


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.double()


def graph_inputs():
    torch.manual_seed(1)
    map_BCGG = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    words_BLC = torch.randn(2, 5, 4, dtype=torch.float64)
    mask_BL = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    return map_BCGG, words_BLC, torch.rand(2, 5, dtype=torch.float64) * mask_BL, mask_BL


def test_the_graph_is_the_product_with_the_whole_adjacency() -> None:
    graph, (maps, words, relation, mask) = randomised(RelationGraph(4)), graph_inputs()
    with torch.no_grad():
        got = graph(maps, words, relation, mask)
        for row in range(2):
            length = int(mask[row].sum())
            nodes = maps[row].flatten(1).T  # 9 x 4
            keys = graph.key(words[row, :length])
            queries = graph.query(maps[[row]])[0].flatten(1).T
            scores = queries @ keys.T / math.sqrt(4) * relation[row, :length]
            adjacency = scores.softmax(1) @ scores.softmax(0).T
            assert torch.allclose(adjacency.sum(1), torch.ones(9, dtype=torch.float64))
            gathered = (adjacency @ nodes).T.reshape(1, 4, 3, 3)
            summed = torch.relu(maps[[row]] + graph.gathered_norm(gathered))
            plain = torch.relu(graph.update_norm(graph.update(summed)))
            plain = plain / plain.norm(dim=1, keepdim=True).clamp_min(1e-6)
            assert torch.allclose(got[[row]], plain, rtol=0, atol=1e-12)


def test_a_sentence_without_relations_gives_the_uniform_graph() -> None:
    graph, (maps, words, relation, mask) = randomised(RelationGraph(4)), graph_inputs()
    with torch.no_grad():
        got = graph(maps, words, torch.zeros_like(relation), mask)
        even = maps.mean((2, 3), keepdim=True).expand_as(maps)
        summed = torch.relu(maps + graph.gathered_norm(even))
        plain = nn.functional.normalize(torch.relu(graph.update_norm(graph.update(summed))), dim=1)
    assert torch.allclose(got, plain, rtol=0, atol=1e-9)


def test_the_exchange_in_its_plain_form() -> None:
    exchange = randomised(Exchange(3, 4))
    torch.manual_seed(2)
    level, first, second = torch.randn(3, 1, 3, 2, 2, dtype=torch.float64)
    sentence = torch.randn(1, 4, dtype=torch.float64)
    with torch.no_grad():
        key, query = exchange.key(level)[0].flatten(1), exchange.query(sentence)[0]
        attended = torch.stack([(key[:, n] @ query) / math.sqrt(3) for n in range(4)]).softmax(0)
        pooled = sum(attended[n] * level[0].flatten(1)[:, n] for n in range(4))
        context = exchange.context(torch.cat([pooled, sentence[0]]))
        context = context / context.norm()
        plain = level[0].clone()
        for place, partner in enumerate((first, second)):
            gate = torch.sigmoid(exchange.gates[place](context))
            plain += torch.relu(exchange.features[place](partner))[0] * gate[:, None, None]
        plain = plain / plain.norm(dim=0, keepdim=True)
        assert torch.allclose(exchange(level, [first, second], sentence)[0], plain, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def golden():
    case = Case.read("cmpc_plus_small")
    return case, build(case, "cmpc_plus")[0]


def error(golden) -> float:
    case, model = golden
    with torch.no_grad():
        return relative_error(run(model, case, 0).logits, case.expected["logits"][[0]])


def test_the_golden_file_sees_the_relation_weight_left_out(golden, monkeypatch) -> None:
    whole = RelationGraph.forward
    monkeypatch.setattr(RelationGraph, "forward", lambda s, m, w, r, k: whole(s, m, w, torch.ones_like(r), k))
    assert error(golden) > 1e-2


def test_the_golden_file_sees_a_context_without_norm(golden, monkeypatch) -> None:
    scaled = cmpc.l2
    monkeypatch.setattr(cmpc, "l2", lambda x, dim=1: x if x.ndim == 2 and x.shape[1] == 12 else scaled(x, dim))
    assert error(golden) > 1e-2


def test_the_golden_file_sees_partners_swapped(golden, monkeypatch) -> None:
    monkeypatch.setattr(cmpc, "PARTNERS", {level: pair[::-1] for level, pair in cmpc.PARTNERS.items()})
    assert error(golden) > 1e-2


def test_the_golden_file_sees_the_other_join(golden, monkeypatch) -> None:
    monkeypatch.setattr(type(golden[1]), "joined", "visual")
    assert error(golden) > 0.1


def test_side_maps_have_the_authors_weights() -> None:
    model = build_tiny("cmpc_plus").train()
    output = model(*make_inputs(2, views=model.views, tokens=model.max_tokens))
    assert output.main_weight == 0.7
    assert {name: weight for name, (weight, _) in output.side_logits.items()} == {"c5": 0.1, "c4": 0.1, "c3": 0.1}


def test_both_names_share_everything_but_the_join() -> None:
    plus, first = registry.load_class("cmpc_plus"), registry.load_class("cmpc")
    assert (plus.joined, first.joined) == ("multimodal", "visual")
    assert plus.__mro__[1] is first.__mro__[1]
    nodes = [compose(f"model={name}", "data=rrsisd") for name in ("cmpc", "cmpc_plus")]
    assert nodes[0]["model"]["args"] == nodes[1]["model"]["args"]
    assert nodes[0]["train"] == nodes[1]["train"]
    assert nodes[0]["train"]["optimizer"]["eps"] == 1e-13  # 1e-8 divided by 320 x 320
    assert nodes[0]["size"]["image"] == 320
