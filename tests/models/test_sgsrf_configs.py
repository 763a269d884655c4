"""SGSRF's recipes and the sweeps of its ablation tables: every job composes, builds, and is another model."""

from __future__ import annotations

import csv
from itertools import product
from typing import Any

import pytest
import torch
import yaml

from rrsis_bench import registry
from tests.fakes.config import CONF, compose

LEADERBOARDS = CONF.parent / "leaderboards" / "published"

# Table -> (jobs, the paper's full model among them).
TABLES = {"7": (9, 8), "8_context": (5, 2), "8_init": (3, 0), "8_sparse": (4, 2), "8_lambda": (5, 3)}


def jobs_of(name: str) -> list[list[str]]:
    """The overrides of every job of a sweep, in Hydra's order."""
    hydra = yaml.safe_load((CONF / "ablation" / f"{name}.yaml").read_text(encoding="utf-8"))["hydra"]
    assert hydra["mode"] == "MULTIRUN"
    choices = [
        [f"{key}={value}" for value in str(values).split(",")] for key, values in hydra["sweeper"]["params"].items()
    ]
    return [list(job) for job in product(*choices)]


def arguments_of(table: str) -> list[dict[str, Any]]:
    return [
        compose(f"ablation=sgsrf_table{table}", "size=tiny", *job)["model"]["args"]
        for job in jobs_of(f"sgsrf_table{table}")
    ]


@pytest.mark.parametrize("table", TABLES)
def test_every_job_of_a_table_builds_another_model(table) -> None:
    count, full = TABLES[table]
    arguments = arguments_of(table)
    assert len(arguments) == count
    assert all(arguments[left] != arguments[right] for left in range(count) for right in range(left))
    config = compose("model=sgsrf", "size=tiny")
    assert arguments[full] == config["model"]["args"]
    swept = compose(f"ablation=sgsrf_table{table}", "size=tiny", *jobs_of(f"sgsrf_table{table}")[0])
    assert swept["model"]["name"] == "sgsrf"
    assert swept["leaderboards"] == f"runs/ablation/sgsrf_table{table}"
    for args in arguments:
        with torch.device("meta"):
            registry.load_class("sgsrf")(**args)


def test_rows_of_table_7() -> None:
    """Sparse prompts, dense ones, BCMI, CLSM, SCR, GMFE, row by row as section 4.5.1 tells them."""
    rows = [
        (args["dense"] != "none", args["bcmi"], args["context_tokens"] > 0, args["consistency"] > 0, args["gmfe"])
        for args in arguments_of("7")
    ]
    off, on = False, True
    assert rows == [
        (off, off, off, off, off),
        (off, off, off, off, off),
        (on, off, off, off, off),
        (on, on, off, off, off),
        (on, on, on, off, off),
        (on, on, on, off, on),
        (on, on, off, on, off),
        (on, on, on, on, off),
        (on, on, on, on, on),
    ]
    assert [args["prompts"] for args in arguments_of("7")] == ["text", *["gpg"] * 8]


def test_the_row_without_the_loss_equals_lambda_0_of_table_8() -> None:
    """Rows 6 and 7 of Table 7: the model without the loss is BCMI + CLSM + GMFE, in the data and in the sweep."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    with (LEADERBOARDS / "rrsisd_ablations.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["paper"] == "sgsrf":
                rows.setdefault((line["table"], line["group"], line["setting"]), []).append(line["value"])
    table_7 = [setting for table, _, setting in rows if table == "Table 7"]
    assert table_7[5:7] == ["+BCMI+CLSM+GMFE", "+BCMI+SCR"]
    assert rows["Table 7", "components", "+BCMI+CLSM+GMFE"] == rows["Table 8", "lambda_cons", "0"]
    assert rows["Table 7", "components", "+BCMI+SCR"][-1] == "69.53"
    without = compose("model=sgsrf", "size=tiny", jobs_of("sgsrf_table7")[5][0])["model"]["args"]
    assert without == compose("model=sgsrf", "size=tiny", "model.args.consistency=0.0")["model"]["args"]


def test_every_experiment_of_table_7_is_swept() -> None:
    swept = {job.removeprefix("experiment=sgsrf_table7/") for (job,) in jobs_of("sgsrf_table7")}
    assert swept == {path.stem for path in (CONF / "experiment" / "sgsrf_table7").glob("*.yaml")}


def test_the_defaults_are_the_papers() -> None:
    args = compose("model=sgsrf", "data=rrsisd")["model"]["args"]
    assert (args["context_tokens"], args["sparse_tokens"], args["consistency"]) == (6, 9, 0.5)
    assert (args["text"]["adapt"], args["vision"]["adapt"]) == ("lora", "lora")


@pytest.mark.parametrize(
    ("data", "lr", "samples"), [("refsegrs", 2e-4, 2172), ("rrsisd", 1e-4, 12181), ("risbench", 2e-5, 26300)]
)
def test_paper_recipe_of_a_dataset(data, lr, samples) -> None:
    config = compose("model=sgsrf", f"data={data}")
    train = config["train"]
    assert config["data"]["counts"]["train"] == samples
    assert (train["optimizer"]["lr"], train["schedule"]["warmup_steps"]) == (lr, 5 * (samples // 8))
    assert (train["batch_size"], train["epochs"], train["optimizer"]["weight_decay"]) == (8, 100, 0.05)
    assert (train["schedule"]["name"], train["schedule"]["min_lr_ratio"], train["clip_norm"]) == ("cosine", 0.01, 3.0)
    assert train["loss"] == [{"name": "bce", "weight": 1.0}, {"name": "dice", "weight": 1.0}]
    assert not train["align_corners"]
    assert config["text"]["tokenizer"].startswith("siglip2:hub:")


def test_tiny_recipe_trains_random_backbones_with_a_tokenizer_at_hand() -> None:
    config = compose("model=sgsrf", "data=synthetic")
    args = config["model"]["args"]
    assert config["text"]["tokenizer"] == "clip"
    assert args["consistency_reduction"] == "mean"
    assert compose("model=sgsrf", "data=rrsisd")["model"]["args"]["consistency_reduction"] == "sum"
    assert [args[part]["adapt"] for part in ("vision", "text")] == ["all", "all"]
    assert [args[part]["weights"] for part in ("vision", "text")] == ["random", "random"]


def test_the_losses_of_rsrefseg2() -> None:
    loss = compose("model=sgsrf", "data=rrsisd", "experiment=sgsrf_loss5")["train"]["loss"]
    assert loss == [{"name": "bce", "weight": 5.0}, {"name": "dice", "weight": 5.0}]
