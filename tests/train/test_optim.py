"""Which parameters are trained with what, and the learning rate at every step."""

from __future__ import annotations

import pytest
import torch

from rrsis_bench.errors import UserError
from rrsis_bench.train.optim import build_optimizer, freeze
from rrsis_bench.train.schedule import build_schedule
from tests.fakes.toy import Toy, make_trainer

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


def test_patterns_scale_the_rate_and_the_first_match_counts():
    model = Toy()
    entry = {**ADAMW, "weight_decay": 0.01, "lr_scales": {"pixels.weight": 0.5, "pixels.*": 0.1, "norm.*": 0.1}}
    found = {
        name: (group["lr"] / ADAMW["lr"], group["weight_decay"])
        for group in build_optimizer(model, entry).param_groups
        for name in names_of(model, group)
    }
    assert found == {
        "words.weight": (1.0, 0.01),
        "head.weight": (1.0, 0.01),
        "head.bias": (1.0, 0.0),
        "pixels.weight": (0.5, 0.01),
        "pixels.bias": (pytest.approx(0.1), 0.0),
        "norm.weight": (pytest.approx(0.1), 0.0),
        "norm.bias": (pytest.approx(0.1), 0.0),
    }
    assert build_optimizer(model, entry).param_groups[0]["lr"] == ADAMW["lr"], "the rate that is logged"


def test_the_schedule_keeps_the_shares_of_the_rate():
    optimizer = build_optimizer(Toy(), {**ADAMW, "lr_scales": {"words.*": 0.1}})
    schedule = build_schedule(optimizer, {"name": "polynomial", "warmup_steps": 2}, total=10)
    for _ in range(4):
        base, _, words = (group["lr"] for group in optimizer.param_groups)
        assert words == pytest.approx(0.1 * base)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("scales", "match"), [({"bert.*": 0.1}, r"'bert\.\*'"), ({"words.*": 0.0}, r"lr_scales\.words")]
)
def test_a_scale_that_matches_nothing_or_is_zero_is_an_error(scales, match):
    with pytest.raises(UserError, match=match):
        build_optimizer(Toy(), {**ADAMW, "lr_scales": scales})


def test_nothing_left_to_train_is_an_error():
    model = Toy()
    freeze(model, ["*"])
    with pytest.raises(UserError, match=r"train\.freeze"):
        build_optimizer(model, ADAMW)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "sgd", "lr": 0.1, "momentum": 0.5, "nesterov": True},
        {"name": "timm", "opt": "lion", "lr": 1e-3, "weight_decay": 0.1, "options": {"betas": [0.8, 0.9]}},
        {"name": "timm", "opt": "lamb", "lr": 1e-3, "weight_decay": 0.1},
    ],
    ids=["sgd", "lion", "lamb"],
)
def test_other_optimizers_train_and_resume_exactly(fake_root, tmp_path, entry):
    options = {"optimizer": entry, "epochs": 4, "schedule": {"name": "constant"}}
    start = make_trainer(fake_root, tmp_path / "stopped", **(options | {"epochs": 2}))
    start.fit()
    stopped = make_trainer(fake_root, tmp_path / "stopped", **options)
    stopped.fit()
    straight = make_trainer(fake_root, tmp_path / "straight", **options)
    straight.fit()
    assert not torch.equal(start.raw_model.words.weight, straight.raw_model.words.weight)
    for a, b in zip(straight.raw_model.parameters(), stopped.raw_model.parameters(), strict=True):
        assert torch.equal(a, b)
    decays = [group["weight_decay"] for group in straight.optimizer.param_groups]
    assert decays == [entry.get("weight_decay", 0.0), 0.0]


def test_amsgrad_is_an_option_of_adamw() -> None:
    model = Toy()
    assert not build_optimizer(model, ADAMW).defaults["amsgrad"]
    assert build_optimizer(model, {**ADAMW, "amsgrad": True}).defaults["amsgrad"]
