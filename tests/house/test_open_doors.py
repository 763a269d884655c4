"""Drills in a temporary checkout: how many files each extension takes, and that it works in a run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrsis_bench import registry
from tests.backbones.test_open_door import MODULE, NODE

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
        words_BD = (self.words(text["input_ids"]) * mask_BL1).sum(1) / mask_BL1.sum(1).clamp_min(1)
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

DATASET = '''\
"""Images and masks of equal names; a line of expressions.txt is a split, a name and an expression."""

from rrsis_bench.data.formats.index import DatasetIndex, Row
from rrsis_bench.data.formats.masks import FileMask
from rrsis_bench.data.pixels.mask_files import ABOVE

DIRECTORY_TREE = "<root>/\\n├── images/\\n├── masks/\\n└── expressions.txt\\n"


def read_index(root):
    index = DatasetIndex("pairs", root, (root / "expressions.txt",), ("ship", "car"))
    for number, line in enumerate((root / "expressions.txt").read_text().splitlines()):
        split, name, text = line.split(" ", 2)
        category = text.split()[-1]
        mask = FileMask(str(root / "masks" / name), ABOVE)
        row = Row(str(number), name, text, "en", category, 1, str(root / "images" / name), mask, name)
        index.rows[split].append(row)
        index.counts[split] += 1
    return index
'''
DATA_CONF = """\
name: pairs
format: pairs
root: pairs
counts: {train: 8, val: 4, test: 4}
synthetic: null
card: {title: Pairs, source: nowhere, licence: none, defects: []}
"""
# Module -> an entry that is appended to it.
ENTRIES = {
    "rrsis_bench/train/losses.py": '''
@LOSSES.add("toy")
def toy(logits_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Squared error of the probabilities."""
    return (torch.sigmoid(logits_BHW) - target_BHW).square().mean()
''',
    "rrsis_bench/train/optim.py": '''
@OPTIMIZERS.add("toy")
def toy(groups: Groups, lr: float) -> Optimizer:
    """RMSprop of torch."""
    return torch.optim.RMSprop(groups, lr=lr)
''',
    "rrsis_bench/train/schedule.py": '''
@SCHEDULES.add("toy")
def toy(progress: float) -> float:
    """Decay linearly."""
    return 1 - progress
''',
    "rrsis_bench/data/loading/augment.py": '''
@AUGMENTATIONS.add("toy")
def toy(scene: Scene, rng: np.random.Generator) -> Scene:
    """Invert the image."""
    print("toy augmentation")
    return replace(scene, image_HWC=255 - scene.image_HWC)
''',
    "rrsis_bench/train/callbacks.py": '''
@CALLBACKS.add("toy")
class Toy(Callback):
    """Report every optimiser step."""

    def after_step(self) -> None:
        print("toy callback")
''',
}
METRIC = 'Metric("toy", "Toy", "IoU above 0", lambda scored: (scored.iou_N > 0, scored.iou_N >= 0)),'
PROBE = '''\
"""Capitals: an expression in capital letters means the same."""

from fractions import Fraction

from rrsis_bench.eval.probes.probe import PROBES, Case, Figure, Probe, Question, iou


@PROBES.add("toy")
class Toy(Probe):
    """Write the expression in capitals."""

    figures = (Figure("same", "Same", "IoU of the two predictions", "higher"),)

    def cases(self, subject):
        for index, sample in enumerate(subject.samples):
            yield Case(index, (Question(index, sample.expression.upper()),))

    def measure(self, case, answers):
        return {"same": iou(answers.masks[0], answers.given)}
'''
RECIPE = (
    "train.loss=[{name: toy, weight: 1.0}]",
    "~train.optimizer",  # Hydra merges mappings, so the old options have to go
    "+train.optimizer={name: toy, lr: 0.001}",
    "~train.schedule",
    "+train.schedule={name: toy}",
    "train.augment=[{name: toy}]",
    "train.callbacks=[{name: toy}]",
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


def changed(root: Path) -> list[str]:
    """Files that differ from the last commit."""
    return [line[3:] for line in git(root, "status", "--porcelain", "--untracked-files=all").splitlines()]


def add_model(root: Path, name: str = "toy", source: str = MODEL) -> None:
    (root / "models" / f"{name}.py").write_text(source)
    (root / "conf" / "model" / f"{name}.yaml").write_text(CONF.replace("name: toy", f"name: {name}"))


def add_entry(root: Path, module: str, text: str) -> None:
    """Append an entry to a module, commit it, and count the files."""
    with (root / module).open("a") as file:
        file.write(f"\n{text}")
    assert changed(root) == [module]
    git(root, "commit", "-qam", f"an entry in {module}")


def write_pairs(root: Path) -> None:
    """A dataset in the drill's own format: a bright square per image, named by its category."""
    generator = np.random.default_rng(0)
    lines = []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(16):
        mask_HW = np.zeros((48, 48), dtype=bool)
        mask_HW[8 + number : 24 + number, 10:30] = True
        image_HWC = generator.integers(0, 100, (48, 48, 3), dtype=np.uint8) + (100 * mask_HW[..., None]).astype(
            np.uint8
        )
        Image.fromarray(image_HWC).save(root / "images" / f"{number}.png")
        Image.fromarray(255 * mask_HW.astype(np.uint8)).save(root / "masks" / f"{number}.png")
        split = "train" if number < 8 else "val" if number < 12 else "test"
        lines.append(f"{split} {number}.png the bright {('ship', 'car')[number % 2]}")
    (root / "expressions.txt").write_text("\n".join(lines) + "\n")


def test_two_files_make_a_model(checkout):
    assert len(MODEL.splitlines()) + len(CONF.splitlines()) < 60
    add_model(checkout)
    assert changed(checkout) == ["conf/model/toy.yaml", "models/toy.py"]

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

    ours = {"conf/model/toy.yaml", "models/toy.py"}
    assert ours <= set(changed(checkout))
    assert all(name.startswith("leaderboards/") for name in set(changed(checkout)) - ours)


def test_the_contract_tests_collect_a_new_model_and_find_a_broken_one(checkout):
    skip = shutil.ignore_patterns("__pycache__", "golden")
    shutil.copytree(registry.ROOT / "tests", checkout / "tests", ignore=skip)
    add_model(checkout)
    failing = MODEL.replace("class Toy", "class Broken").replace(
        "def forward(self, views, text):", "def forward(self, views, text):\n        raise RuntimeError"
    )
    add_model(checkout, "broken", failing)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", "-rA", "tests/models/test_contract.py"]
        + ["-k", "toy or broken"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)\[(\w+)\]", done.stdout, re.MULTILINE)
    results = {(test, model): outcome for outcome, test, model in outcomes}
    assert {outcome for (_, model), outcome in results.items() if model == "toy"} == {"PASSED"}, done.stdout
    assert sum(model == "toy" for _, model in results) >= 12
    assert results["test_logits_are_finite_and_one_map_per_sample", "broken"] == "FAILED"


@pytest.mark.slow
def test_every_other_door_takes_one_entry_or_one_folder_and_works_in_a_run(checkout):
    add_model(checkout)
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "a model")

    for module, text in ENTRIES.items():
        add_entry(checkout, module, text)
    metrics = checkout / "rrsis_bench" / "eval" / "metrics.py"
    before = '        Metric("macro_miou"'
    assert before in metrics.read_text()
    metrics.write_text(metrics.read_text().replace(before, f"        {METRIC}\n{before}", 1))
    assert changed(checkout) == ["rrsis_bench/eval/metrics.py"]
    git(checkout, "commit", "-qam", "a metric")

    (checkout / "rrsis_bench" / "eval" / "probes" / "toy.py").write_text(PROBE)
    assert changed(checkout) == ["rrsis_bench/eval/probes/toy.py"]
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "a probe")

    folder = checkout / "rrsis_bench" / "data" / "formats" / "pairs"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "dataset.py").write_text(DATASET)
    (checkout / "conf" / "data" / "pairs.yaml").write_text(DATA_CONF)
    places = {name if name.startswith("conf/") else str(Path(name).parent) for name in changed(checkout)}
    assert places == {"conf/data/pairs.yaml", "rrsis_bench/data/formats/pairs"}
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "a dataset format")

    write_pairs(checkout / "pairs")
    run = [sys.executable, "-m", "rrsis_bench.run", "model=toy", "data=pairs", "size=tiny", "size.image=32"]
    shown = call(
        checkout,
        *run,
        *RECIPE,
        "train.epochs=1",
        "train.batch_size=4",
        "trainer=cpu",
        "trainer.num_workers=0",
        "probes=[toy]",
    )
    assert "toy augmentation" in shown
    assert "toy callback" in shown
    (path,) = (checkout / "leaderboards" / "records" / "pairs" / "toy").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "finished"
    assert '"toy": {' in path.read_text().partition('"scores"')[2]
    assert record["probes"]["toy"]["n"] == 4
    with (checkout / "leaderboards" / "pairs_probes.csv").open() as file:
        assert [line["figure"] for line in csv.DictReader(file)] == ["same"]
    with (checkout / "leaderboards" / "pairs.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert [column for column in row if "toy" in column.lower()]


@pytest.mark.slow
def test_a_module_and_a_file_make_a_backbone_that_an_existing_model_trains(checkout):
    (checkout / "rrsis_bench" / "backbones" / "conv.py").write_text(MODULE)
    (checkout / "conf" / "vision" / "conv.yaml").write_text(NODE)
    assert changed(checkout) == ["conf/vision/conv.yaml", "rrsis_bench/backbones/conv.py"]
    run = [sys.executable, "-m", "rrsis_bench.run", "model=lavt", "data=synthetic", "size=tiny", "vision=conv"]
    call(checkout, *run, *SMALL.split())
    (path,) = (checkout / "leaderboards" / "records" / "synthetic" / "lavt").glob("*.json")
    assert json.loads(path.read_text())["status"] == "finished"
