"""LSCM: the context of words in plain form, its tree, its padding, and what the golden file sees of a wrong one."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models import lscm
from rrsis_bench.models.lscm import WordNorm, WordTree, highest_word, tree_ties
from torch import nn

from rrsis_bench.backbones.resnet import pad_same
from tests.fakes.classic import Case, relative_error
from tests.fakes.config import compose, model_args

from .conftest import build_tiny, make_inputs
from .test_classic_parity import build, run

HEADS = torch.tensor([[1, 1, 1, 2, 4], [0, 0, 1, 3, 4]])
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]).bool()


def tree() -> WordTree:
    torch.manual_seed(0)
    module = WordTree(4).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 3, 3, dtype=torch.float64), torch.randn(2, 5, 4, dtype=torch.float64)


def joint(norm: WordNorm, nodes: torch.Tensor) -> torch.Tensor:
    return (nodes - nodes.mean()) / (nodes.var(correction=0) + 1e-12).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("with_tree", [True, False])
def test_the_three_steps_in_loops(with_tree) -> None:
    module, (maps, words) = tree(), inputs()
    ties = tree_ties(HEADS, torch.float64) if with_tree else None
    with torch.no_grad():
        got = module(maps, words, ties, MASK)
        for row, length in enumerate((4, 3)):
            pixels = maps[row].flatten(1).T
            keys, queries = module.key(maps[[row]])[0].flatten(1).T, module.query(words[row, :length])
            shares = torch.stack([(keys @ query / math.sqrt(4)).softmax(0) for query in queries])
            assert torch.allclose(shares.sum(1), torch.ones(length, dtype=torch.float64))
            nodes = torch.stack([F.normalize(share @ pixels, dim=0) for share in shares])
            gathered = torch.zeros_like(nodes)
            for i in range(length):
                asked = module.asking(nodes[i])
                weights = torch.stack([asked @ module.answering(nodes[j]) / math.sqrt(4) for j in range(length)]).exp()
                for j in range(length):
                    tied = i != j and (int(HEADS[row, i]) == j or int(HEADS[row, j]) == i)
                    tie = (1.0 if tied else 0.1) if with_tree else 1.0
                    gathered[i] += tie * weights[j] / weights.sum() * nodes[j]
            nodes = torch.relu(nodes + joint(module.gathered_norm, gathered))
            nodes = torch.relu(joint(module.update_norm, module.update(nodes)))
            for pixel in range(9):
                wanted = F.normalize(sum(shares[i, pixel] * nodes[i] for i in range(length)), dim=0)
                assert torch.allclose(got[row].flatten(1)[:, pixel], wanted, rtol=0, atol=1e-12)


def test_the_norm_counts_the_words_of_the_sentence_alone() -> None:
    norm, words = WordNorm(3).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        got = norm(words, MASK)
    for row, length in enumerate((4, 3)):
        assert torch.allclose(got[row, :length], joint(norm, words[row, :length]).detach(), rtol=0, atol=1e-12)
    norm(words, torch.zeros_like(MASK)).sum().backward()
    assert norm.weight.grad.isfinite().all()


def test_the_ties_of_a_sentence() -> None:
    """A word's tie to itself is loose, the root's too."""
    assert tree_ties(torch.tensor([[1, 1, 0]]), torch.float32)[0].tolist() == [
        pytest.approx([0.1, 1.0, 1.0]),
        pytest.approx([1.0, 0.1, 0.1]),
        pytest.approx([1.0, 0.1, 0.1]),
    ]


def test_the_sentence_is_the_maximum_over_its_words() -> None:
    words = torch.tensor([[[-3.0, 2.0], [-1.0, 1.0], [9.0, 9.0]], [[5.0, 5.0], [6.0, 6.0], [7.0, 7.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()
    assert highest_word(words, mask).tolist() == [[-1.0, 2.0], [0.0, 0.0]]


def test_the_shallowest_level_is_padded_behind_only() -> None:
    """An impulse in the first row reaches the first row of the result only through the kernel's first row."""
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[..., 0, 0] = 1
    kernel = torch.arange(9.0).reshape(1, 1, 3, 3) + 1
    assert F.conv2d(pad_same(impulse, 3), kernel, stride=2)[0, 0, 0].tolist() == [1, 0, 0, 0]
    assert F.conv2d(pad_same(torch.ones(1, 1, 19, 19), 3), kernel, stride=2).shape[2:] == (10, 10)


def test_heads_follow_the_words_to_the_front() -> None:
    """Padding on the left or special tokens between the words change nothing if the heads name the same words."""
    model = build_tiny("lscm").double().eval()
    views, _ = make_inputs(1, views=model.views)
    first = {
        "input_ids": torch.tensor([[5, 6, 7, 0, 0, 0]]),
        "word_mask": torch.tensor([[1, 1, 1, 0, 0, 0]]),
        "head_ids": torch.tensor([[1, 1, 1, 3, 4, 5]]),
    }
    moved = {
        "input_ids": torch.tensor([[0, 5, 0, 6, 7, 0]]),
        "word_mask": torch.tensor([[0, 1, 0, 1, 1, 0]]),
        "head_ids": torch.tensor([[0, 3, 2, 3, 3, 5]]),
    }
    with torch.no_grad():
        logits = model(views, first).logits
        assert torch.allclose(model(views, moved).logits, logits, rtol=0, atol=1e-12)
        other = {**first, "head_ids": torch.tensor([[2, 2, 2, 3, 4, 5]])}
        assert not torch.allclose(model(views, other).logits, logits, rtol=0, atol=1e-9)


def test_without_a_tree_no_heads_are_asked_for() -> None:
    model = build_tiny("lscm", "model.args.parser=none")
    assert (model.phrase_masks, model.head_parser) == (("word_mask",), None)
    views, text = make_inputs(2, views=model.views, tokens=model.max_tokens)
    del text["head_ids"]
    assert model(views, text).logits.isfinite().all()
    asked = build_tiny("lscm")
    assert (asked.phrase_masks, asked.head_parser) == (("word_mask", "head_ids"), "spacy:en_core_web_sm")


def test_side_maps_have_the_authors_weights() -> None:
    model = build_tiny("lscm").train()
    output = model(*make_inputs(2, views=model.views, tokens=model.max_tokens))
    assert output.main_weight == 0.6
    assert {name: weight for name, (weight, _) in output.side_logits.items()} == dict.fromkeys(
        ("c5", "c4", "c3", "c2"), 0.1
    )


def test_the_recipe_and_the_size_are_the_authors() -> None:
    node = compose("model=lscm", "data=rrsisd", "size=paper")
    assert node["train"]["optimizer"]["eps"] == 1e-13  # 1e-8 divided by 320 x 320
    assert (node["size"]["image"], node["model"]["args"]["max_tokens"]) == (320, 30)
    with torch.device("meta"):
        model = lscm.LSCM(**model_args("lscm", "size=paper", "vision.weights=random", "text.vocab_size=21692"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 130_785_265


def test_a_small_eps_is_the_step_of_the_summed_loss() -> None:
    """Adam forgets the scale of a loss but for eps: a mean needs it smaller by the number of pixels.

    With 1e-8 beside the mean, the exchange between words moves far less than with the authors' sum.
    """
    case = Case.read("lscm_small")
    start, _ = build(case, "lscm")
    pixels = 80 * 80
    target = torch.zeros(1, 80, 80, dtype=torch.float64)
    target[:, 20:60, 10:40] = 1

    def moved(scale: float, eps: float) -> tuple[float, dict[str, torch.Tensor]]:
        model = copy.deepcopy(start)
        with torch.no_grad():  # a weak exchange, as Glorot's start gives at paper size
            for tree in model.trees.values():
                tree.asking.weight *= 1e-4
                tree.answering.weight *= 1e-4
        before = {name: value.detach().clone() for name, value in model.named_parameters() if "asking" in name}
        optimizer = torch.optim.AdamW(model.parameters(), lr=2.5e-4, eps=eps, weight_decay=0.0)
        logits = F.interpolate(run(model, case, 0).logits[:, None], size=(80, 80), mode="bilinear")[:, 0]
        (F.binary_cross_entropy_with_logits(logits, target) * scale).backward()
        optimizer.step()
        after = dict(model.named_parameters())
        step = sum(float((after[name].detach() - value).norm()) for name, value in before.items())
        return step, {name: value.detach() for name, value in after.items()}

    summed, mean = moved(pixels, 1e-8), moved(1.0, 1e-8 / pixels)
    for name, value in summed[1].items():
        assert torch.allclose(mean[1][name], value, rtol=0, atol=1e-9), name
    assert moved(1.0, 1e-8)[0] < 0.8 * summed[0]


@pytest.fixture(scope="module")
def golden():
    case = Case.read("lscm_small")
    return case, build(case, "lscm")[0]


def error(golden, row: int = 0) -> float:
    case, model = golden
    with torch.no_grad():
        return relative_error(run(model, case, row).logits, case.expected["logits"][[row]])


def test_the_golden_file_sees_the_last_word_in_place_of_the_maximum(golden, monkeypatch) -> None:
    monkeypatch.setattr(lscm, "highest_word", lambda words, mask: words[:, int(mask.sum()) - 1])
    assert error(golden) > 0.5
    assert error(golden, row=2) < 1e-9  # one word


def test_the_golden_file_sees_a_firm_tie_of_a_word_to_itself(golden, monkeypatch) -> None:
    whole = lscm.tree_ties
    monkeypatch.setattr(lscm, "tree_ties", lambda h, dtype: whole(h, dtype).maximum(torch.eye(h.shape[1], dtype=dtype)))
    assert error(golden) > 1e-3


def test_the_golden_file_sees_a_tree_that_is_scaled_to_one(golden, monkeypatch) -> None:
    forward = WordTree.forward

    def scaled(self, map_BCGG, words_BLC, ties_BLL, mask_BL):
        softmax = torch.Tensor.softmax

        def weighted(scores, dim):
            weights = softmax(scores, dim)
            if scores.shape[1] != scores.shape[2] or dim != 2:
                return weights
            return weights / (weights * ties_BLL).sum(2, keepdim=True)

        monkeypatch.setattr(torch.Tensor, "softmax", weighted)
        out = forward(self, map_BCGG, words_BLC, ties_BLL, mask_BL)
        monkeypatch.setattr(torch.Tensor, "softmax", softmax)
        return out

    monkeypatch.setattr(WordTree, "forward", scaled)
    assert error(golden) > 1e-3


def test_the_golden_file_sees_padding_in_front(golden, monkeypatch) -> None:
    monkeypatch.setattr(lscm, "pad_same", lambda maps, _kernel: F.pad(maps, (1, 0, 1, 0)))
    assert error(golden) > 0.05


def test_the_golden_file_sees_one_step_left_out(golden, monkeypatch) -> None:
    monkeypatch.setattr(lscm, "STEPS", lscm.STEPS[:4])
    assert error(golden) > 0.05


def test_the_golden_file_sees_sentence_and_context_exchanged(golden, monkeypatch) -> None:
    monkeypatch.setattr(WordTree, "forward", lambda _self, maps, *_others: maps)
    assert error(golden) > 0.05
