"""CSINet's recipes and the sweeps of its ablation tables: every job composes, builds, and is another model."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import yaml

from rrsis_bench import registry
from tests.fakes.config import CONF, compose

# Table -> (jobs, the paper's full model among them).
TABLES = {5: (8, 0), 6: (3, 0), 7: (5, 0), 8: (4, 0), 9: (4, 2)}


def jobs_of(name: str) -> list[list[str]]:
    """The overrides of every job of a sweep, in Hydra's order."""
    hydra = yaml.safe_load((CONF / "ablation" / f"{name}.yaml").read_text(encoding="utf-8"))["hydra"]
    assert hydra["mode"] == "MULTIRUN"
    choices = [
        [f"{key}={value}" for value in str(values).split(",")] for key, values in hydra["sweeper"]["params"].items()
    ]
    return [list(job) for job in product(*choices)]


@pytest.mark.parametrize("table", TABLES)
def test_every_job_of_a_table_builds_another_model(table) -> None:
    name, (count, full) = f"csinet_table{table}", TABLES[table]
    fitting = ["model.args.close_size=144"] if table == 6 else []  # the tiny default is not divisible by 3 patches
    configs = [compose(f"ablation={name}", *fitting, *job) for job in jobs_of(name)]
    assert len(configs) == count
    arguments = [config["model"]["args"] for config in configs]
    assert all(arguments[left] != arguments[right] for left in range(count) for right in range(left))
    assert arguments[full] == compose("model=csinet", *fitting)["model"]["args"]
    for config, args in zip(configs, arguments, strict=True):
        assert config["model"]["name"] == "csinet"
        assert config["leaderboards"] == f"runs/ablation/{name}"
        with torch.device("meta"):
            registry.load_class("csinet")(**args)


def test_every_experiment_of_table_5_is_swept() -> None:
    swept = {job.removeprefix("experiment=csinet_table5/") for (job,) in jobs_of("csinet_table5")}
    assert swept == {path.stem for path in (CONF / "experiment" / "csinet_table5").glob("*.yaml")}


def test_paper_recipe() -> None:
    config = compose("model=csinet", "data=rrsisd")
    train, args = config["train"], config["model"]["args"]
    optimizer, schedule = train["optimizer"], train["schedule"]
    assert (optimizer["lr"], optimizer["weight_decay"], schedule["name"]) == (5e-5, 0.01, "polynomial")
    assert (train["batch_size"], train["epochs"], args["max_tokens"]) == (8, 40, 20)
    assert train["loss"] == [{"name": "ce", "weight": 0.1}, {"name": "dice", "weight": 0.9}]
    assert not train["align_corners"]
    assert (args["close_size"], args["n_view"], args["cmp_width"]) == (768, 2, None)


def test_reversed_loss() -> None:
    loss = compose("model=csinet", "data=rrsisd", "experiment=csinet_reversed_loss")["train"]["loss"]
    assert loss == [{"name": "ce", "weight": 0.9}, {"name": "dice", "weight": 0.1}]


def test_a_backbone_wins_over_size_and_recipe_and_the_command_line_over_it() -> None:
    assert compose("model=csinet", "size=tiny")["model"]["args"]["vision"]["window"] == 8
    for size in ("tiny", "paper"):
        swin = compose("model=csinet", f"size={size}", "vision=swin_s")["model"]["args"]["vision"]
        assert (swin["embed_dim"], swin["window"], swin["positions"]) == (96, 7, "none")
        assert swin["weights"] == "hub:timm/swin_small_patch4_window7_224.ms_in22k"
    named, default = (compose("model=csinet", "size=paper", *extra)["vision"] for extra in (["vision=swin_b"], []))
    assert named == default
    typed = compose("model=csinet", "vision=swin_s", "vision.weights=random")
    assert typed["model"]["args"]["vision"]["weights"] == "random"
