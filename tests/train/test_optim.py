"""Which parameters are trained with what, and the learning rate at every step."""

from __future__ import annotations

import pytest
import torch

from rrsis_bench.errors import UserError
from rrsis_bench.train.optim import build_optimizer, freeze
from tests.fakes.toy import Toy

ADAMW = {"name": "adamw", "lr": 1e-1}


def names_of(model: torch.nn.Module, group: dict) -> set[str]:
    held = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in held}


def test_every_trainable_parameter_stands_in_exactly_one_group():
    model = Toy()
    decayed, plain = build_optimizer(model, {**ADAMW, "weight_decay": 0.01, "betas": [0.9, 0.98]}).param_groups
    assert names_of(model, decayed) | names_of(model, plain) == {name for name, _ in model.named_parameters()}
    assert names_of(model, decayed) & names_of(model, plain) == set()
    assert names_of(model, plain) == {name for name, _ in model.named_parameters() if model.no_weight_decay(name)}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert {tuple(group["betas"]) for group in (decayed, plain)} == {(0.9, 0.98)}


def test_frozen_parameters_stay_out_of_the_optimizer_and_do_not_move():
    model = Toy()
    frozen = freeze(model, ["words.*"])
    assert frozen == ["words.weight"]
    optimizer = build_optimizer(model, ADAMW)
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
    with pytest.raises(UserError, match=r"train\.freeze"):
        build_optimizer(model, ADAMW)
