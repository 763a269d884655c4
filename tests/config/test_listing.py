"""``list`` and ``--help`` answer at once: they read configuration files and import nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from rrsis_bench import cli, registry
from rrsis_bench.config import cards as listing
from rrsis_bench.errors import UserError
from tests.fakes.config import compose

HEAVY = ("torch", "hydra", "lightning", "transformers", "timm", "wandb", "matplotlib", "numpy", "pandas")
PROBE = """
import sys
from rrsis_bench.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code or 0
print("heavy:", [name for name in {heavy} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "--json"], ["bench", "--help"], ["data", "--help"]]
)
def test_nothing_heavy_is_imported(arguments):
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("heavy: []"), done.stderr
    assert time.perf_counter() - started < 10  # lenient: a busy machine; the imports above are what is held


def test_json_has_models_with_papers_and_datasets_with_sources(capsys):
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    models = {model["name"]: model for model in found["models"]}
    assert models["fianet"]["params_m"] == 254.776
    assert models["lavt"]["url"].startswith("https://")
    assert models["lavt"]["views"] == {"image": 480}, "at paper size"
    assert all(model["views"] and model["title"] and model["source"] == "in-tree" for model in models.values())
    datasets = {dataset["name"]: dataset for dataset in found["datasets"]}
    assert datasets["rrsisd"]["counts"] == {"train": 12181, "val": 1740, "test": 3481}
    assert "VoyageWang/rrsis-d" in datasets["rrsisd"]["source"]


def test_tables_name_every_model_and_dataset(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("lavt", "fianet", "synthetic", "rrsisd", "12,181/1,740/3,481"))


def test_every_card_says_where_to_get_it_the_licence_and_what_is_wrong_with_it():
    cards = {dataset["name"]: dataset for dataset in listing.collect()["datasets"]}
    assert {"custom", "rrsisd", "synthetic"} <= set(cards)
    for name, card in cards.items():
        assert all(card[field] for field in ("title", "source", "licence")), name
        assert all(isinstance(defect, str) for defect in card.get("defects", [])), name
    assert any("09976.jpg" in defect for defect in cards["rrsisd"]["defects"])


def test_unknown_dataset_suggests():
    with pytest.raises(UserError, match="Unknown dataset 'rrsis-d'. Did you mean rrsisd"):
        listing.data_config("rrsis-d")


def test_a_dataset_file_for_the_global_package_is_read_like_the_others():
    assert listing.data_config("synthetic").name == "synthetic"
    assert listing.data_config("rrsisd").name == "rrsisd"


@pytest.mark.parametrize("name", sorted(registry.entries()))
def test_the_views_of_a_card_are_those_of_the_paper_size(name):
    """Models with a ResNet have 320 pixels at paper size, and were once listed with the 480 of the others."""
    composed = compose(f"model={name}", "data=synthetic", "size=paper")["model"]
    listed = registry.card(registry.find(name))["views"]
    assert listed == composed["args"].get("views", composed["card"].get("views", listed))


def test_a_shell_completes_verbs_and_options(tmp_path):
    pytest.importorskip("argcomplete", reason="pip install argcomplete")
    for line, expected in (("rrsis-bench lea", "leaderboard"), ("rrsis-bench predict x.png --ov", "--overlap")):
        # argcomplete writes to a file instead of descriptor 8 if it is asked to.
        out = tmp_path / "completions"
        environment = {
            **os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "_ARGCOMPLETE_IFS": "\n",
        }  # fmt: skip
        subprocess.run([sys.executable, "-m", "rrsis_bench.cli"], env=environment, check=False, capture_output=True)
        assert expected in out.read_text().split()


@pytest.mark.parametrize("verb", [[], ["data"], ["published"]])
def test_help_is_printed_without_a_verb(verb, capsys):
    assert cli.main(verb) == 0
    assert "VERB" in capsys.readouterr().out


def test_help_shows_the_choices(capsys):
    known = {"rrsisd": "data", "native": "protocol", "fianet": "model", "slurm_node": "launcher"}
    wanted = {
        ("bench",): set(known), ("leaderboard",): {"rrsisd", "native"}, ("compare",): {"rrsisd", "native"},
        ("report",): {"rrsisd"}, ("cite",): {"rrsisd", "fianet"}, ("figures",): {"rrsisd", "native"},
        ("score",): {"rrsisd", "native"}, ("predict",): {"fianet", "slurm_node"}, ("check",): {"fianet"},
        ("data", "verify"): {"rrsisd"}, ("data", "convert"): {"rrsisd"}, ("published", "show"): {"rrsisd"},
    }  # fmt: skip
    for verb, names in wanted.items():
        with pytest.raises(SystemExit):
            cli.build_parser().parse_args([*verb, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert {name for name in names if name not in shown} == set(), verb


@pytest.mark.parametrize("verb", ["info", "verify", "stats"])
def test_a_verb_that_informs_writes_no_scenes(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", verb, "synthetic"]) == 2
    assert "data synthesize" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
