"""MRSNet's recipes, the printed learning rate, and the rows of Table III."""

from __future__ import annotations

import pytest
import yaml

from tests.fakes.config import CONF, compose

ROWS = {"psr": (True, False), "csr": (False, True), "both": (True, True)}


def test_table_3_runs_the_rows_that_the_paper_prints() -> None:
    sweep = yaml.safe_load((CONF / "ablation" / "mrsnet_table3.yaml").read_text(encoding="utf-8"))["hydra"]
    assert sweep["mode"] == "MULTIRUN"
    ((key, jobs),) = sweep["sweeper"]["params"].items()
    assert key == "experiment"
    assert jobs.split(",") == [f"mrsnet_table3/{row}" for row in ROWS]
    assert {path.stem for path in (CONF / "experiment" / "mrsnet_table3").glob("*.yaml")} == set(ROWS)
    for row, switches in ROWS.items():
        config = compose("ablation=mrsnet_table3", f"experiment=mrsnet_table3/{row}", "data=synthetic")
        args = config["model"]["args"]
        assert config["model"]["name"] == "mrsnet"
        assert config["leaderboards"] == "runs/ablation/mrsnet_table3"
        assert (args["psr"], args["csr"]) == switches
        if row == "both":
            assert args == compose("model=mrsnet", "data=synthetic")["model"]["args"]


@pytest.mark.parametrize("data", ["nwpu_refer", "rrsisd", "refsegrs", "risbench"])
def test_paper_recipe_is_rmsins_but_for_rate_and_schedule(data) -> None:
    train, args = (compose("model=mrsnet", f"data={data}")[node] for node in ("train", "model"))
    assert train["optimizer"] == {"name": "adamw", "lr": 6e-5, "weight_decay": 0.01, "betas": [0.9, 0.999]}
    assert train["schedule"] == {"name": "cosine", "warmup_steps": 0, "min_lr_ratio": 0.0}
    wanted = compose("model=rmsin", f"data={data}")["train"]
    same = wanted.keys() - {"optimizer", "schedule", "epochs"}  # RMSIN's for RefSegRS are printed, by FIANet's paper
    assert {key: train[key] for key in same} == {key: wanted[key] for key in same}
    assert (train["epochs"], train["batch_size"]) == (40, 8)
    assert [(term["name"], term["weight"]) for term in train["loss"]] == [("ce", 0.9), ("dice", 0.1)]
    args = args["args"]
    tokens = 30 if data == "risbench" else 20  # 20 cut a quarter of RISBench's sentences
    assert (args["max_tokens"], args["views"], args["vision"]["embed_dim"]) == (tokens, {"image": 480}, 128)


def test_the_printed_rate_is_an_experiment() -> None:
    stable, printed = (
        compose("model=mrsnet", "data=nwpu_refer", *extra) for extra in ([], ["experiment=mrsnet_paper_lr"])
    )
    assert (printed["train"]["optimizer"]["lr"], stable["train"]["optimizer"]["lr"]) == (6e-4, 6e-5)
    stable["train"]["optimizer"]["lr"] = printed["train"]["optimizer"]["lr"]
    assert stable == printed


def test_the_tiny_size_trains_by_the_common_recipe() -> None:
    assert compose("model=mrsnet", "data=synthetic")["train"] == compose("model=lavt", "data=synthetic")["train"]
