"""Which parameters are trained with what, and the learning rate at every step."""

from __future__ import annotations

import math

import pytest
import torch

from rrsis_bench.errors import UserError
from rrsis_bench.train.optim import build_optimizer, freeze, learning_rate_factor
from tests.fakes.toy import Toy


def names_of(model: torch.nn.Module, group: dict) -> set[str]:
    held = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in held}


def test_every_trainable_parameter_stands_in_exactly_one_group():
    model = Toy()
    decayed, plain = build_optimizer(model, 1e-3, 0.01, (0.9, 0.98)).param_groups
    assert names_of(model, decayed) | names_of(model, plain) == {name for name, _ in model.named_parameters()}
    assert names_of(model, decayed) & names_of(model, plain) == set()
    assert names_of(model, plain) == {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert {tuple(group["betas"]) for group in (decayed, plain)} == {(0.9, 0.98)}


def test_frozen_parameters_stay_out_of_the_optimizer_and_do_not_move():
    model = Toy()
    frozen = freeze(model, ["words.*"])
    assert frozen == ["words.weight"]
    optimizer = build_optimizer(model, 1e-1, 0.01, (0.9, 0.98))
    assert all("words.weight" not in names_of(model, group) for group in optimizer.param_groups)
    before = model.words.weight.clone()
    views = {"image": torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)}
    model(views, {"input_ids": torch.ones(2, 4, dtype=torch.long)}).logits.sum().backward()
    optimizer.step()
    assert torch.equal(before, model.words.weight)


def test_a_pattern_without_a_match_is_an_error():
    with pytest.raises(UserError, match=r"'bert\.\*' matches no parameter"):
        freeze(Toy(), ["words.*", "bert.*"])


def test_nothing_left_to_train_is_an_error():
    model = Toy()
    freeze(model, ["*"])
    with pytest.raises(UserError, match="Nothing is left to train"):
        build_optimizer(model, 1e-3, 0.0, (0.9, 0.98))


def test_polynomial_is_the_formula_of_the_lavt_family():
    for step in range(100):
        expected = (1 - step / 100) ** 0.9
        assert learning_rate_factor(step, 100, schedule="polynomial", power=0.9) == pytest.approx(expected)
    assert learning_rate_factor(0, 100, schedule="polynomial") == 1
    assert learning_rate_factor(100, 100, schedule="polynomial") == 0


def test_cosine_at_its_ends_and_in_its_middle():
    assert learning_rate_factor(0, 10, schedule="cosine", min_lr_ratio=0.1) == 1
    assert learning_rate_factor(5, 10, schedule="cosine", min_lr_ratio=0.1) == pytest.approx(0.55)
    assert learning_rate_factor(10, 10, schedule="cosine", min_lr_ratio=0.1) == pytest.approx(0.1)
    assert learning_rate_factor(2, 10, schedule="cosine") == pytest.approx((1 + math.cos(math.pi / 5)) / 2)


def test_constant_stays():
    assert {learning_rate_factor(step, 7, schedule="constant") for step in range(8)} == {1.0}


def test_warm_up_rises_in_equal_steps_and_hands_over_at_one():
    rising = [learning_rate_factor(step, 20, schedule="cosine", warmup_steps=4) for step in range(5)]
    assert rising == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    falling = [learning_rate_factor(step, 20, schedule="cosine", warmup_steps=4) for step in range(4, 21)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0, abs=1e-12)


def test_a_warm_up_longer_than_the_run_divides_by_nothing():
    assert learning_rate_factor(2, 3, schedule="cosine", warmup_steps=10) == pytest.approx(0.3)
    assert learning_rate_factor(10, 10, schedule="polynomial", warmup_steps=10) == 1


def test_an_unknown_schedule_is_refused():
    with pytest.raises(UserError, match="polynomial, cosine or constant, not 'linear'"):
        learning_rate_factor(5, 10, schedule="linear")
