"""Values that no run can have: one sentence and exit code 2, before the data are opened or a model is built."""

from __future__ import annotations

import copy
import dataclasses
import math
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from rrsis_bench import cli, registry
from rrsis_bench.config.compose import check_overrides
from rrsis_bench.config.fields import Meaning, leaves, meaning
from rrsis_bench.config.schema import Config, ModelCard, ModelConfig
from rrsis_bench.errors import UserError
from rrsis_bench.run.data import scene_spec
from rrsis_bench.run.model import build_model
from rrsis_bench.train.recipe import KINDS, check_recipe
from tests.fakes.backbones import SIDE, TOKENS
from tests.fakes.config import compose, model_args, parsed

ODD = (-1, 0, math.nan, math.inf, -math.inf, "abc", True, [1], 10**30)


def is_number(hint: Any) -> bool:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return bool({int, float} & set(options))


NUMBERS = {name: meaning(field) for name, hint, field in leaves(Config) if is_number(hint)}


def fits(value: Any, known: Meaning) -> bool:
    """Whether the declaration allows -1 or 0; the other odd values are allowed nowhere."""
    if value not in (-1, 0) or value is True:
        return False
    return (known.at_least is None or value >= known.at_least) and (known.above is None or value > known.above)


def refused(parse: Callable[[Any], Any], name: str, known: Meaning) -> None:
    """Every odd value but those that fit is refused with one sentence that names the field."""
    assert known.at_least is not None or known.above is not None, "every number has a lower bound"
    for value in ODD:
        if fits(value, known):
            parse(value)
            continue
        with pytest.raises(UserError) as caught:
            parse(value)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value), value


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_the_configuration(name):
    *sections, last = name.split(".")

    def parse(value: Any) -> Config:
        values = compose("model=lavt")
        node = values
        for section in sections:
            node = node[section]
        node[last] = value
        return Config.parse(values)

    refused(parse, name, NUMBERS[name])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=abc", "seed"),
        ("train.lr=-1", "train.optimizer.lr"),
        ("train.optimizer.lr=-1", "train.optimizer.lr"),
        ("train.optimizer.lr=nan", "train.optimizer.lr"),
        ("limit.test=-3", "limit.test"),
        ("limit.test=0", "limit.test"),
        ("trainer.num_workers=-1", "trainer.num_workers"),
        ("data.counts={train: -1, val: 4, test: 4}", "data.counts.train"),
        ("data.synthetic.train=abc", "data.synthetic.train"),
        ("data.synthetic.multi_target=nan", "data.synthetic.multi_target"),
        ("vision.window=-4", "vision.window"),
        ("text.dropout=nan", "text.dropout"),
        ("model.args.max_tokens=inf", "model.args.max_tokens"),
        ("train.loss.0.class_weights=[0, 0]", "class_weights"),
    ],
)
def test_a_run_is_refused_with_one_sentence(override, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rrsis-bench"])
    monkeypatch.setenv("COLUMNS", "400")
    try:
        code = cli.main(["bench", "model=lavt", "data=synthetic", override])
    except SystemExit as stop:
        code = stop.code
    shown = "".join(capsys.readouterr())
    assert code == 2
    assert named in shown
    assert shown.count("error:") == 1
    assert len(shown.strip().splitlines()) == 1, shown
    assert not list(tmp_path.glob("runs/[!.]*")), "nothing was built"


def test_a_value_is_refused_before_a_run_is_started():
    """By the check of the command line, which imports no torch."""
    with pytest.raises(UserError, match="seed is 'abc'"):
        check_overrides(["model=lavt", "seed=abc"])


def entry_numbers() -> list[Any]:
    return [
        pytest.param(kind, entry, name, meaning(field), id=f"{entry}.{name}")
        for kind in KINDS
        for entry in kind
        for name, hint, field in leaves(kind.options(entry))
        if is_number(hint)
    ]


@pytest.mark.parametrize(("kind", "entry", "option", "known"), entry_numbers())
def test_every_number_of_the_named_entries(kind, entry, option, known):
    """Losses, optimisers, schedules, augmentations and callbacks."""
    required = {
        field.name: {float: 0.5, str: "lion"}[hint]
        for _, hint, field in leaves(kind.options(entry))
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    refused(lambda value: kind.bind({"name": entry, **required, option: value}), option, known)


@pytest.mark.parametrize("weights", [[0, 0], [-1, 1], ["nan", 1]])
def test_class_weights_that_make_every_loss_nan(weights):
    """The loss is divided by the sum of the weights of the pixels."""
    override = f"train.loss=[{{name: ce, weight: 1, class_weights: [{weights[0]}, {weights[1]}]}}]"
    with pytest.raises(UserError, match="class_weights"):
        check_recipe(parsed("model=lavt", override).train)


def numbers_in(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(node, dict):
        return [found for key, value in node.items() for found in numbers_in(value, (*path, key))]
    if isinstance(node, list):
        return [found for index, value in enumerate(node) for found in numbers_in(value, (*path, index))]
    return [path] if isinstance(node, int | float) and not isinstance(node, bool) else []


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", sorted(registry.entries()))
def test_a_model_that_cannot_be_built_says_why(name):
    """Whatever a constructor raises for a number that does not fit is a sentence; other numbers build a model."""
    cls = registry.load_class(name)
    args = model_args(
        name, "size=tiny", f"size.image={SIDE}", f"size.max_tokens={TOKENS}", *cls.contract.tiny_overrides
    )
    places = numbers_in(args)
    for place in places[:: max(1, len(places) // 6)]:
        for value in (-1, 0):
            changed = copy.deepcopy(args)
            node = changed
            for step in place[:-1]:
                node = node[step]
            node[place[-1]] = value
            with suppress(UserError):
                build_model(ModelConfig(name, changed, ModelCard()))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("place", "value"), [("depths", -1), ("num_heads", 0), ("embed_dim", 0), ("patch", 0)])
def test_the_message_of_a_constructor_is_one_sentence_with_its_place(place, value):
    args = model_args("lavt", "size=tiny")
    args["vision"][place] = [value] * 4 if isinstance(args["vision"][place], list) else value
    with pytest.raises(UserError, match=r"model=lavt cannot be built: \w+Error: .* \(in \w+\.py, line \d+\)") as caught:
        build_model(ModelConfig("lavt", args, ModelCard()))
    assert "\n" not in str(caught.value)


def test_the_scenes_have_whole_numbers():
    config = parsed("model=lavt", "data=synthetic", "data.synthetic.train=1.5")
    with pytest.raises(UserError, match="data.synthetic.train"):
        scene_spec(config.data)
