"""The commands that README, CONTRIBUTING, docs/ and the help texts show, and a folder in which they run."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_bench import cli
from rrsis_bench.resources import ROOT
from tests.fakes.config import NARROW
from tests.fakes.custom import write_fake_custom
from tests.fakes.nwpu import write_fake_nwpu
from tests.fakes.rrsisd import write_fake_rrsisd
from tests.predict.rasters import blobs, write_raster

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")
BLOCK = re.compile(r"^( *)```bash\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
OWN = ("rrsis-bench", "make", "python")
"""First words of the commands that this suite answers; all others are the shell's, git's or pip's."""


@dataclass(frozen=True)
class Command:
    """One command with the place that shows it."""

    where: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def commands() -> list[Command]:
    """Every command of the documents and of the help texts, each once, in their order."""
    found = {command.text: command for command in [*_of_help(), *_of_documents()]}
    return list(found.values())


def _of_documents() -> Iterator[Command]:
    for pattern in DOCUMENTS:
        for path in sorted(ROOT.glob(pattern)):
            for _, block in BLOCK.findall(path.read_text(encoding="utf-8")):
                for line in block.replace("\\\n", " ").splitlines():
                    for words in _split(line):
                        yield Command(str(path.relative_to(ROOT)), words)


def _split(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the commands of a line, which ``&&`` separates; without comments."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word != "&&":
            words.append(word)
        elif words:
            while re.match(r"[A-Z_]+=", words[0]):  # variables of the environment
                del words[0]
            yield tuple(words)
            words = []


def _of_help(parser: argparse.ArgumentParser | None = None) -> Iterator[Command]:
    """Yield the examples below the help of every verb."""
    for action in (parser or cli.build_parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _of_help(sub)
    if parser is not None and parser.epilog:
        for example in re.findall(r"rrsis-bench [^;|`]*?(?= \(|;|\||$)", " ".join(parser.epilog.split())):
            yield Command(f"{parser.prog} --help", tuple(shlex.split(example)))


# --- where they run

SHORT = (
    "train.epochs=1", "train.batch_size=4", "train.eval_every=1", "train.schedule.warmup_steps=1", "trainer=cpu",
    "trainer.num_workers=0",
)  # fmt: skip
SCENES = ("data.synthetic.train=4", "data.synthetic.val=2", "data.synthetic.test=3", "data.synthetic.size=96")
COUNTS = "data.counts={train: 8, val: 4, test: 4}"


def sandbox(root: Path) -> Path:
    """A folder with every file that the commands name; returns the one in which they run."""
    work = root / "work"
    (work / "docs").mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "predict_scene.jpg", work / "docs")
    write_fake_rrsisd(root / "rrsis")
    (work / "data").symlink_to(root / "rrsis")
    write_fake_nwpu(root / "rrsis" / "nwpu_refer")
    write_fake_custom(root / "harbour")
    (root / "before").symlink_to(work)
    image = blobs(96, 96)
    (work / "scenes").mkdir()
    for path in (work / "scene.png", work / "scenes" / "one.png", work / "scenes" / "two.png"):
        Image.fromarray(image).save(path)
    write_raster(work / "scene.tif", np.dstack([image, image[..., :1]]), photometric="MINISBLACK")
    (work / "scenes.txt").write_text("scenes/one.png\nscenes/two.png\n")
    (work / "sentences.csv").write_text("expression\nthe ship\nthe bridge\n")
    return work


def overrides(words: tuple[str, ...]) -> list[str]:
    """What makes a `bench` or an `evaluate` of the documents one of seconds on this machine."""
    if {"--rerun", "--rescore"} & set(words):
        return []
    if "evaluate" in words:
        return ["trainer.devices=1", "trainer.accelerator=cpu"]
    text = " ".join(words)
    own = any(name in text for name in ("data=nwpu_refer", "data=custom", "data=harbour"))
    added = [*SHORT, "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.strategy=ddp"]
    added += ["trainer.devices=1", "launcher.name=none"]
    added += ["size=tiny", COUNTS] if "data=rrsisd" in text else ["size=tiny"] if own else list(SCENES)
    added += [] if "model=sgsrf" in text else list(NARROW)
    if "/path" in text or "text=bert_zh" in text:
        added += ["vision.weights=random", "text.weights=random", "text.tokenizer=wordpiece"]
    if "vision=swin_s" in text:
        added += ["vision.weights=random"]
    kept = ("train.epochs=", "trainer=", "size=", "launcher=")  # what a command itself says about its length and place
    given = [word for word in words if word.startswith(kept)]
    return [entry for entry in added if not any(entry.split("=")[0] == word.split("=")[0] for word in given)]
