"""Every configuration file composes and fits the schema."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest

from rrsis_bench import codec, registry
from rrsis_bench.backbones import backbone_class
from rrsis_bench.config import compose as composing
from rrsis_bench.config import label as labelling
from rrsis_bench.config.cards import model_card
from rrsis_bench.config.label import variant
from rrsis_bench.config.overrides import check_evaluation
from rrsis_bench.config.recipes import check_plugin, check_recipes
from rrsis_bench.errors import UserError
from rrsis_bench.train.recipe import check_recipe
from tests.fakes.config import CONF, compose, parsed

GROUPS = (
    "model", "data", "trainer", "protocol", "logger", "size", "experiment", "ablation", "backbones", "vision", "text",
    "debug", "launcher",
)  # fmt: skip


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def is_written_for(model: str, data: str, size: str) -> bool:
    """Whether the pair has a recipe of its own; any other takes the model's and the dataset's."""
    return (CONF / "recipe" / model / f"{data}_{size}.yaml").is_file()


PAIRS = [(model, data, size) for model in names("model") for data in names("data") for size in names("size")]
CASES = [
    *(f"{group}={name}" for group in GROUPS for name in names(group)),
    *(
        pytest.param(
            f"model={model} data={data} size={size}",
            marks=() if data == "custom" or is_written_for(model, data, size) else pytest.mark.slow,
        )
        for model, data, size in PAIRS
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_composes_and_fits_the_schema(case):
    config = parsed(*case.split())
    check_recipe(config.train)
    assert config.model.args.get("views") or config.model.card.views
    assert config.model.name in registry.entries()


@pytest.mark.parametrize(
    ("wrong", "right"), [("fianett/paper", "fianet"), ("fianet/papr", "paper"), ("sgsrf/rrsid_paper", "rrsisd_paper")]
)
def test_a_misspelt_recipe_is_an_error(tmp_path, wrong, right):
    for group in ("model", "data", "size", "recipe"):
        shutil.copytree(CONF / group, tmp_path / group)
    check_recipes(tmp_path, registry.entries())
    path = tmp_path / "recipe" / f"{wrong}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("# @package _global_\n")
    with pytest.raises(UserError, match=rf"{wrong.partition('/')[0]}.*Did you mean.*{right}"):
        check_recipes(tmp_path, registry.entries())


def test_every_model_file_has_a_configuration_of_its_name():
    for entry in registry.entries().values():
        if entry.source == "in-tree":
            assert compose(f"model={entry.name}")["model"]["name"] == entry.name
            assert model_card(entry).title
            assert model_card(entry).params_m


@pytest.mark.parametrize("name", names("model"))
def test_the_yaml_alone_has_a_models_arguments_and_their_defaults(name):
    parameters = list(inspect.signature(registry.load_class(name)).parameters.values())
    assert {parameter.name for parameter in parameters} == set(compose(f"model={name}")["model"]["args"])
    assert all(parameter.default is inspect.Parameter.empty for parameter in parameters)


@pytest.mark.parametrize("case", [f"{field}={name}" for field in ("vision", "text") for name in names(field)])
def test_every_backbone_node_has_exactly_the_options_of_its_backbone(case):
    field = case.partition("=")[0]
    node = compose(case)[field]
    codec.decode(backbone_class(node["backbone"], field).Config, node, case)


def test_synthetic_data_choose_the_tiny_size_and_the_command_line_wins():
    assert compose("data=synthetic")["size"]["name"] == "tiny"
    assert compose("data=synthetic", "size=paper")["size"]["name"] == "paper"
    assert compose("data=rrsisd")["size"]["name"] == "paper"
    assert compose("size=tiny", "data=rrsisd")["size"]["name"] == "tiny"


def test_a_models_pair_of_backbones_follows_the_size_and_the_command_line_wins():
    def chosen(*overrides: str) -> tuple[str, str]:
        config = compose(*overrides)
        return config["vision"]["weights"], config["text"]["tokenizer"]

    assert chosen("model=lavt", "size=paper")[1] == "hub:google-bert/bert-base-uncased"
    assert chosen("model=lavt", "size=tiny") == ("random", "wordpiece")
    assert chosen("model=sgsrf", "size=paper")[0] == "hub:facebook/sam2.1-hiera-large"
    assert chosen("model=sgsrf", "size=tiny") == ("random", "clip")
    assert "swin_small" in chosen("model=csinet", "size=tiny", "vision=swin_s")[0]


def test_the_recipe_follows_the_size():
    assert compose("data=synthetic")["train"]["schedule"]["name"] == "cosine"
    assert compose("data=rrsisd")["train"]["schedule"]["name"] == "polynomial"


def test_a_recipe_for_model_data_and_size_is_picked_up_and_the_command_line_wins():
    config = compose("model=fianet", "data=rrsisd")
    assert (config["train"]["optimizer"]["lr"], config["model"]["args"]["max_tokens"]) == (3.0e-5, 22)
    assert compose("model=lavt", "data=rrsisd")["train"]["optimizer"]["lr"] == 5.0e-5
    assert compose("model=fianet", "data=rrsisd", "train.optimizer.lr=1e-4")["train"]["optimizer"]["lr"] == 1.0e-4


def test_expected_counts_are_the_published_ones():
    assert compose("data=rrsisd")["data"]["counts"] == {"train": 12181, "val": 1740, "test": 3481}


def test_views_reach_the_model():
    assert compose("data=synthetic", "size.image=64")["model"]["args"]["views"] == {"image": 64}


@pytest.mark.parametrize(("text", "vocab_size"), [("bert_zh", 21128), ("bert_multilingual", 119547)])
@pytest.mark.parametrize("size", ["paper", "tiny"])
def test_a_text_choice_gives_every_bert_model_its_encoder_and_tokenizer(text, vocab_size, size):
    for model in names("model"):
        config = compose(f"model={model}", "data=nwpu_refer", f"size={size}", f"text={text}", "text.weights=/w")
        bert = config["model"]["args"]["text"]
        assert (bert["vocab_size"], bert["hidden"], bert["max_positions"]) == (vocab_size, 768, 512)
        assert bert["weights"] == "/w"  # the command line wins
        assert config["text"]["tokenizer"].startswith("hub:google-bert/bert-base-")


def test_an_unknown_field_is_refused():
    with pytest.raises(UserError, match=r"train\.epoch'.*Did you mean train\.epochs"):
        parsed("train.epoch=1")
    with pytest.raises(UserError, match=r"unknown field: train\.epoch\. Did you mean epochs"):
        parsed("+train.epoch=1")


@pytest.mark.parametrize(
    ("override", "field"),
    [("train.epochs=0", "train.epochs=0"), ("trainer.precision=16-true", "trainer.precision"),
     ("protocol.empty=maybe", "protocol.empty"), ("protocol.no_target_pixels=-1", "protocol.no_target_pixels"),
     ("predictions=all", "predictions"), ("data.cache_gb=0", "data.cache_gb"), ("limit.test=a", "limit.test")],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_by_its_field(override, field):
    with pytest.raises(UserError, match=field):
        parsed(override)


@pytest.mark.parametrize("name", ["seed", "train.epochs", "model", "limit.train", "protocol.selection_split", "runs"])
def test_the_evaluation_of_a_run_refuses_what_its_training_has_fixed(name):
    with pytest.raises(UserError, match=f"{name}=1 does not apply"):
        check_evaluation([f"{name}=1"], "a-run")
    check_evaluation(["protocol=lavt", "limit.test=3", "trainer.num_workers=2", "+data.cache=x"], "a-run")


def test_no_configuration_file_is_left_out_of_these_tests():
    groups = {path.relative_to(CONF).parts[0] for path in Path(CONF).rglob("*.yaml") if path.parent != Path(CONF)}
    assert groups <= {*GROUPS, "recipe", "local"}


def test_a_label_names_every_difference_that_affects_a_result_and_nothing_else():
    typed = ["model=csinet", "size=paper", "data=rrsisd", "data.root=x", "seed=3", "model.args.gate=false", "runs=x",
             "trainer.num_workers=2", "limit.train=8", "vision=swin_s", "text=bert_zh",
             "train.epochs=2", "+data.options.box=1", "protocol.strict=true"]  # fmt: skip
    assert variant(parsed(*typed)) == (
        "vision=swin_s", "text=bert_zh", "gate=false", "data.options.box=1", "train.epochs=2", "limit.train=8",
        "protocol.strict=true",
    )  # fmt: skip
    assert variant(parsed("model=lavt", "data=synthetic")) == ()
    assert variant(parsed("model=fianet", "data=refsegrs", "protocol=lavt")) == (), "a dataset's recipe is the default"


def test_configuration_that_nobody_typed_is_in_the_label(tmp_path, monkeypatch):
    """Bug: a git-ignored conf/local halved the learning rate of a row that was named like the default."""
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "local").mkdir()
    (conf / "local" / "default.yaml").write_text("# @package _global_\ntrain: {optimizer: {lr: 0.5}}\n")
    for module in (composing, labelling):
        monkeypatch.setattr(module, "CONF", conf)
    labelling._composed.cache_clear()
    config = composing.compose_config(["model=lavt", "data=synthetic"])
    assert variant(config) == ("train.optimizer.lr=0.5",)
    labelling._composed.cache_clear()


def test_a_plugin_may_add_only_its_own_models_files(tmp_path):
    for name in ("model/mine.yaml", "recipe/mine/tiny.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    check_plugin(tmp_path, {"mine"})
    for name in ("local/default.yaml", "recipe/lavt/synthetic_tiny.yaml", "data/synthetic.yml", "model/lavt.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
        with pytest.raises(UserError, match=name):
            check_plugin(tmp_path, {"mine"})
        (tmp_path / name).unlink()
