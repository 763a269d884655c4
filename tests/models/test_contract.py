"""The contract of a model with the harness, for every registered model at toy width."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.errors import UserError
from rrsis_bench.eval.efficiency import measure
from rrsis_bench.interfaces import ImageFirstSegmenter, Segmenter
from rrsis_bench.run import check
from tests.fakes.config import compose

from .conftest import build_tiny, make_inputs

MASKS = ("attention_mask", "object_mask", "position_mask", "word_mask", "noun_mask")
Inputs = tuple[dict[str, Tensor], dict[str, Tensor]]


@pytest.fixture(params=sorted(registry.entries()))
def name(request: pytest.FixtureRequest) -> str:
    """Every registered model."""
    return request.param


@pytest.fixture
def model(name: str) -> Segmenter:
    return build_tiny(name)


@pytest.fixture
def inputs(model: Segmenter) -> Callable[[int], Inputs]:
    """Number of samples -> (views, text), as the model asks for them."""
    return lambda samples: make_inputs(samples, views=model.views, tokens=model.max_tokens)


def without_gradient(model: Segmenter) -> set[str]:
    return {parameter for parameter, value in model.named_parameters() if value.grad is None}


def random_weights(args: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments with every backbone's weights random."""
    return {
        name: "random" if name == "weights" else random_weights(value) if isinstance(value, Mapping) else value
        for name, value in args.items()
    }


def test_logits_are_finite_and_one_map_per_sample(model, inputs) -> None:
    output = model(*inputs(3))
    assert output.logits.ndim == 3
    assert len(output.logits) == 3
    assert all(value.ndim == 0 and value.isfinite() for value in (*output.aux_losses.values(), output.logits.sum()))
    for weight, side_Bhw in output.side_logits.values():
        assert weight > 0
        assert side_Bhw.ndim == 3
        assert len(side_Bhw) == 3
        assert side_Bhw.isfinite().all()
    evaluated = model.eval()(*inputs(3))
    assert evaluated.aux_losses == evaluated.side_logits == {}
    masks = model.predict_masks(*inputs(3), sizes=[(80, 70), (64, 64), (33, 90)])
    assert [(tuple(mask.shape), mask.dtype) for mask in masks] == [
        ((80, 70), torch.bool),
        ((64, 64), torch.bool),
        ((33, 90), torch.bool),
    ]


def test_every_parameter_learns_but_the_declared_ones(model, inputs) -> None:
    model(*inputs(3)).logits.square().mean().backward()
    names = {parameter for parameter, _ in model.named_parameters()}
    assert without_gradient(model) == {name for name in names if re.match(model.contract.dead_parameters, name)}


@pytest.mark.parametrize("family", ["lavt", "rmsin", "fianet"])
def test_parameters_that_nothing_reads_are_frozen(family) -> None:
    """Their optimiser would hold parameters that never learn, and the trainable ones would be counted too high."""
    model = build_tiny(family)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if re.match(model.contract.dead_parameters, name)}
    assert any(name.startswith("stages.3.") and "attention" not in name for name in frozen)


def test_the_last_stage_of_fianet_is_trained_where_it_is_read() -> None:
    model = build_tiny("fianet", stage_output="fused")
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert all(name.endswith("attention.out.bias") for name in frozen)


def test_a_sample_does_not_see_its_neighbours(model, name) -> None:
    check.check_batch(check.Subject(model, name))


def test_an_encoded_image_serves_several_expressions(model, inputs) -> None:
    if not isinstance(model, ImageFirstSegmenter):
        pytest.skip("the model encodes images together with the text")
    model.double().eval()
    views, text = inputs(3)
    rows_B = torch.tensor([1, 1, 0])
    with torch.no_grad():
        shared = model(views, text, rows_B).logits
        apart = model({name: view[rows_B] for name, view in views.items()}, text).logits
    assert torch.allclose(shared, apart, rtol=0, atol=1e-10)


def test_language_and_every_view_matter(model, inputs) -> None:
    model.eval()
    views, text = inputs(2)
    with torch.no_grad():
        before = model(views, text).logits
        changed = {"input_ids": model(views, {**text, "input_ids": text["input_ids"].flip(1)}).logits}
        changed |= {view: model({**views, view: pixels.flip(0)}, text).logits for view, pixels in views.items()}
    assert not [name for name, after in changed.items() if (before - after).abs().max() < 1e-5]


def test_padding_does_not_matter(model, inputs) -> None:
    model.double().eval()
    views, text = inputs(4)
    padded = text["input_ids"].where(text["attention_mask"] == 1, 7)
    assert not padded.equal(text["input_ids"])
    with torch.no_grad():
        difference = model(views, text).logits - model(views, {**text, "input_ids": padded}).logits
    assert difference.abs().max() < 1e-10


def test_unknown_text_keys_are_ignored(model, inputs) -> None:
    model.eval()
    views, text = inputs(2)
    needed = {"input_ids", "attention_mask", *model.phrase_masks}
    with torch.no_grad():
        every = model(views, {**text, "category_ids": torch.zeros_like(text["input_ids"])}).logits
        few = model(views, {key: value for key, value in text.items() if key in needed}).logits
    assert every.equal(few)


def test_every_declared_phrase_mask_matters(model, inputs) -> None:
    """To the logits or, in training, to a loss of the model."""
    views, text = inputs(2)

    def outputs(text: dict[str, Tensor]) -> list[Tensor]:
        kept = copy.deepcopy(model.state_dict())
        torch.manual_seed(0)
        losses = model.train()(views, text).aux_losses
        model.load_state_dict(kept)  # training moves the running statistics
        return [model.eval()(views, text).logits, *losses.values()]

    with torch.no_grad():
        before = outputs(text)
        for mask in model.phrase_masks:
            after = outputs({**text, mask: text[mask].roll(1, dims=1)})
            assert not all(one.equal(two) for one, two in zip(before, after, strict=True)), mask


def test_rows_without_any_word_stay_finite(model, inputs) -> None:
    views, text = inputs(3)
    for mask in MASKS:
        text[mask][1] = 0
    logits = model(views, text).logits
    logits.square().mean().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)


def test_double_works_on_uint8_views_and_agrees_with_float(model, inputs) -> None:
    model.eval()
    with torch.no_grad():
        single = model(*inputs(2)).logits
        double = model.double()(*inputs(2)).logits
    assert double.dtype == torch.float64
    assert torch.allclose(single.double(), double, rtol=0, atol=1e-4 * max(1.0, float(double.abs().max())))


def test_same_seed_same_numbers(name, model, inputs) -> None:
    second = build_tiny(name)
    for built in (model, second):
        torch.manual_seed(1)  # dropout
        built(*inputs(2)).logits.square().mean().backward()
    for (parameter, one), (_, two) in zip(model.named_parameters(), second.named_parameters(), strict=True):
        assert one.equal(two), parameter
        assert (one.grad is None and two.grad is None) or one.grad.equal(two.grad), parameter


def test_state_dict_round_trip(model, name) -> None:
    check.check_state(check.Subject(model, name))


def test_another_image_size_works_or_is_refused(name) -> None:
    """75 pixels, a side that no patch, window or stage divides."""
    try:
        model = build_tiny(name, "size.image=75").eval()
    except UserError:
        return
    with torch.no_grad():
        logits = model(*make_inputs(2, views=model.views, tokens=model.max_tokens)).logits
    assert len(logits) == 2
    assert torch.isfinite(logits).all()


def test_weight_decay_is_decided_for_every_parameter(model) -> None:
    decisions = [model.no_weight_decay(parameter) for parameter, _ in model.named_parameters()]
    assert all(isinstance(decision, bool) for decision in decisions)


def test_the_paper_size_has_the_parameters_of_the_card(name) -> None:
    composed = compose(f"model={name}", "data=synthetic", "size=paper")["model"]
    expected = composed["card"]["params_m"]
    if expected is None:
        pytest.skip("the card names no number of parameters")
    with torch.device("meta"):
        model = registry.load_class(name)(**random_weights(composed["args"]))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(expected, abs=5e-4)


def test_what_a_model_costs_can_be_measured(model) -> None:
    """A parameter that is a module's input, as in SAM 2, once broke the FLOP counter."""
    asking = [parameter for parameter, value in model.named_parameters() if value.requires_grad]
    cost = measure(model, torch.device("cpu"), warmup=0, passes=1)
    assert cost.gflops > 0
    assert [parameter for parameter, value in model.named_parameters() if value.requires_grad] == asking


def test_the_version_is_a_positive_integer(name) -> None:
    version = registry.load_class(name).version
    assert isinstance(version, int)
    assert version >= 1
