"""Every named entry of a recipe is checked before anything is computed, and a problem names its dotted field."""

from __future__ import annotations

from typing import Annotated

import pytest

from rrsis_bench.config.entries import Entries, option
from rrsis_bench.errors import UserError
from rrsis_bench.train.recipe import KINDS, check_recipe
from tests.fakes.toy import recipe

DICE = {"name": "dice", "weight": 1.0}
TIMM = {"name": "timm", "lr": 1e-3}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"loss": []}, ["train.loss"]),
        ({"loss": [DICE, {"name": "dise", "weight": 1.0}]}, ["train.loss[1].name", "'dise'", "Did you mean dice"]),
        ({"loss": [{"weight": 1.0}]}, ["train.loss[0].name", "dice"]),
        ({"loss": [{"name": "dice"}]}, ["train.loss[0].weight"]),
        ({"loss": [{**DICE, "weight": 0}]}, ["train.loss[0].weight", "above 0"]),
        ({"loss": [{**DICE, "weight": "much"}]}, ["train.loss[0].weight", "'much'"]),
        ({"loss": [{**DICE, "reduction": "batch"}]}, ["train.loss[0].reduction", "sum, mean"]),
        ({"loss": [{**DICE, "reductoin": "sum"}]}, ["train.loss[0].reductoin", "Did you mean reduction"]),
        ({"loss": [{"name": "ce", "weight": 1, "class_weights": [1.0]}]}, ["train.loss[0].class_weights"]),
        ({"optimizer": {"name": "adam"}}, ["train.optimizer.name", "adamw"]),
        ({"optimizer": {"lr": -1.0}}, ["train.optimizer.lr"]),
        ({"optimizer": {"lr_scales": {"words.*": 0.0}}}, ["train.optimizer.lr_scales.words", "above 0"]),
        ({"optimizer": {"betas": [0.9, 1.5]}}, ["train.optimizer", "beta"]),
        ({"optimizer": {"momentum": 0.9}}, ["train.optimizer.momentum"]),
        ({"schedule": {"name": "linear"}}, ["train.schedule.name", "cosine"]),
        ({"schedule": {"min_lr_ratio": 1.5}}, ["train.schedule.min_lr_ratio", "at most 1"]),
        ({"schedule": {"power": 0.9}}, ["train.schedule.power"]),
        ({"augment": [{"name": "black_boxes", "share": 20}]}, ["train.augment[0].share", "at most 1"]),
        ({"callbacks": [{"name": "ema", "decay": 1.0}]}, ["train.callbacks[0].decay", "below 1"]),
        ({"callbacks": [{"name": "ema"}, {"name": "ema"}]}, ["train.callbacks", "ema"]),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(change, names):
    with pytest.raises(UserError) as caught:
        check_recipe(recipe(**change))
    assert all(name in str(caught.value) for name in names), str(caught.value)


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({"opt": "lamp"}, ["train.optimizer.opt", "Did you mean lamb"]),
        ({"opt": "adahessian"}, ["train.optimizer.opt"]),
        ({"opt": "lamb", "options": {"decay": 1}}, ["train.optimizer", "decay"]),
    ],
)
def test_an_optimizer_of_timm_that_does_not_fit_is_refused(entry, names):
    with pytest.raises(UserError) as caught:
        check_recipe(recipe(optimizer={**TIMM, **entry}))
    assert all(name in str(caught.value) for name in names), str(caught.value)


def test_a_good_recipe_and_every_default_pass():
    check_recipe(recipe(augment=[{"name": "hflip"}], callbacks=[{"name": "ema"}]))


def test_every_option_has_a_meaning():
    for kind in KINDS:
        for name in kind:
            for option_ in kind.options(name).__dataclass_fields__.values():
                assert option_.metadata["rrsis_bench"].text, f"{kind.field} {name}.{option_.name}"


def test_a_new_entry_is_one_decorated_function():
    scales = Entries[float]("train.scale")

    @scales.add("twice")
    def twice(value: float, *, plus: Annotated[float, option("Added.")] = 0.0) -> float:
        return 2 * value + plus

    assert scales.bind({"name": "twice", "plus": 1})(3.0) == 7.0
    assert list(scales) == ["twice"]
    with pytest.raises(ValueError, match="twice"):
        scales.add("twice")(twice)


def test_patterns_of_learning_rates_wait_for_the_model():
    """Names of parameters are known only when the model is built; the values are checked before."""
    optimizer = {"name": "adamw", "lr": 1e-3, "lr_scales": {"text_encoder.*": 0.1}}
    check_recipe(recipe(optimizer=optimizer))
    with pytest.raises(UserError, match=r"lr_scales\.text_encoder"):
        check_recipe(recipe(optimizer=optimizer | {"lr_scales": {"text_encoder.*": -1.0}}))
