"""Every pair of model and dataset that the papers print has a recipe, and composes."""

from __future__ import annotations

import pytest
import yaml

from tests.fakes.config import CONF, compose

PAIRS = [
    *(
        (model, data)
        for model in ("lavt", "rmsin", "fianet")
        for data in ("rrsisd", "refsegrs", "risbench", "nwpu_refer")
    ),
    *((model, data) for model in ("csinet", "sgsrf") for data in ("rrsisd", "refsegrs", "risbench")),
    ("mrsnet", "nwpu_refer"),
]


@pytest.mark.parametrize(("model", "data"), PAIRS)
def test_a_pair_of_the_papers_has_a_recipe(model, data) -> None:
    assert (CONF / "recipe" / model / f"{data}_paper.yaml").is_file()
    config = compose(f"model={model}", f"data={data}")
    assert config["train"]["epochs"] > 0
    assert config["train"]["optimizer"]["lr"] > 0


@pytest.mark.parametrize("model", ["lavt", "rmsin", "fianet", "csinet", "mrsnet"])
def test_risbench_takes_30_tokens_and_the_papers_20_by_name(model) -> None:
    assert compose(f"model={model}", "data=risbench")["model"]["args"]["max_tokens"] == 30
    cut = compose(f"model={model}", "data=risbench", "experiment=risbench_20_tokens")
    assert cut["model"]["args"]["max_tokens"] == 20


def test_fianets_printed_weight_decay_and_equation_9_are_experiments() -> None:
    assert compose("model=fianet", "data=rrsisd")["train"]["optimizer"]["weight_decay"] == 0.01
    printed = compose("model=fianet", "data=rrsisd", "experiment=fianet_paper_decay")
    assert printed["train"]["optimizer"]["weight_decay"] == 0.1
    equation = compose("model=fianet", "data=rrsisd", "experiment=fianet_paper_eq9")
    assert equation["model"]["args"]["modulation_input"] == "fused"


def test_figure_9_sweeps_the_necks() -> None:
    table = yaml.safe_load((CONF / "ablation" / "fianet_fig9.yaml").read_text(encoding="utf-8"))
    necks = table["hydra"]["sweeper"]["params"]["model.args.neck"].split(",")
    assert necks == ["tmem", "cim", "lgce"]
    for neck in necks:
        assert compose("ablation=fianet_fig9", f"model.args.neck={neck}")["model"]["args"]["neck"] == neck
