"""The drill: in a fresh checkout, two files make a model that trains, is listed and stands in the leaderboard."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rrsis_bench import registry

MODEL = '''\
"""A convolutional net that multiplies its map with the mean word: what a new model needs, and no more."""

from __future__ import annotations

import torch
from torch import nn

from rrsis_bench.interfaces import Segmenter, SegmenterOutput


class Toy(Segmenter):
    def __init__(self, views, max_tokens, vocab_size, width):
        super().__init__()
        self.views, self.max_tokens = dict(views), max_tokens
        self.words = nn.Embedding(vocab_size, width)
        self.pixels = nn.Sequential(nn.Conv2d(3, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, views, text):
        image_BCSS = views["image"].to(self.head.weight.dtype) / 127.5 - 1
        mask_BL1 = text["attention_mask"][..., None]
        words_BD = (self.words(text["input_ids"]) * mask_BL1).sum(1) / mask_BL1.sum(1)
        maps_BCHW = torch.relu(self.pixels(image_BCSS)) * words_BD[..., None, None]
        return SegmenterOutput(self.head(maps_BCHW)[:, 0])
'''
CONF = """\
name: toy
card:
  title: A toy
  venue: nowhere
  url: https://example.org
  code: null
  params_m: null
args:
  views: {image: "${size.image}"}
  max_tokens: ${size.max_tokens}
  vocab_size: ${text.vocab_size}
  width: 8
"""
SMALL = (
    "data.synthetic.train=6 data.synthetic.val=2 data.synthetic.test=3 data.synthetic.size=96 "
    "size.image=32 train.epochs=1 train.batch_size=4 trainer=cpu"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a clone would hold, committed to a repository of its own."""
    root = tmp_path / "checkout"
    root.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "local")
    for name in ("rrsis_bench", "models", "conf"):
        shutil.copytree(registry.ROOT / name, root / name, ignore=skip)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".gitignore"):
        shutil.copy(registry.ROOT / name, root / name)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "clone")
    return root


def git(root: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def call(root: Path, *command: str) -> str:
    """Run a command in the checkout; its packages come before the installed ones, the environment is this one's."""
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_files_make_a_model(checkout):
    assert len(MODEL.splitlines()) + len(CONF.splitlines()) < 60
    (checkout / "models" / "toy.py").write_text(MODEL)
    (checkout / "conf" / "model" / "toy.yaml").write_text(CONF)
    assert git(checkout, "status", "--porcelain").split() == ["??", "conf/model/toy.yaml", "??", "models/toy.py"]

    where = call(
        checkout,
        sys.executable,
        "-c",
        "import rrsis_bench, rrsis_bench.models as m; print(rrsis_bench.__file__, m.__file__)",
    )
    assert all(path.startswith(str(checkout)) for path in where.split())
    listed = json.loads(call(checkout, sys.executable, "-m", "rrsis_bench.cli", "list", "--json"))
    assert "toy" in [model["name"] for model in listed["models"]]

    # The environment that runs this test stands for the one that make would have set up (-o: take the stamp as it is).
    tools, stamp = str(Path(sys.executable).parent), "conf/config.yaml"
    shown = call(checkout, "make", "-o", stamp, f"STAMP={stamp}", f"BIN={tools}", "bench", "MODEL=toy", f"ARGS={SMALL}")
    assert "toy" in shown

    (path,) = (checkout / "leaderboards" / "records" / "synthetic" / "toy").glob("*.json")
    record = json.loads(path.read_text())
    assert (record["status"], record["model"], record["model_source"]) == ("finished", "toy", "in-tree")
    assert record["n"] == record["n_expected"] == 9
    assert set(record["control"]) == {"shuffled_text", "same_image_other_expression", "category_only"}
    with (checkout / "leaderboards" / "synthetic.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["toy"]

    changed = [line[3:] for line in git(checkout, "status", "--porcelain", "--untracked-files=all").splitlines()]
    ours = {"conf/model/toy.yaml", "models/toy.py"}
    assert ours <= set(changed)
    assert all(name.startswith("leaderboards/") for name in set(changed) - ours)
