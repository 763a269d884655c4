"""What a person sees who lacks a dataset, weights or the right name: one message with what to do, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rrsis_bench import cli
from rrsis_bench.run import __main__ as run
from tests.config.test_registry import plugin
from tests.fakes.config import tiny_overrides
from tests.fakes.rrsisd import write_fake_rrsisd


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs write below the working folder, so it is never the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis-bench"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def refused(capsys: pytest.CaptureFixture[str], *overrides: str, verb: str = "bench") -> str:
    """Run in this process and return the message of a refusal."""
    try:
        code = run.main(list(overrides), verb=verb)
    except SystemExit as stop:
        code = stop.code
    shown = "".join(capsys.readouterr())
    assert code not in (0, None), shown
    assert "Traceback" not in shown
    assert shown.count("error:") == 1, shown
    return " ".join(shown.split())


def test_missing_dataset_from_a_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rrsis_bench.run", "model=fianet", "data=rrsisd"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    shown = done.stdout + done.stderr
    assert done.returncode not in (0, 1), shown
    assert "Traceback" not in shown
    flat = " ".join(shown.split())
    assert "VoyageWang/rrsis-d" in flat
    assert "JPEGImages" in flat
    assert "refs(unc).p" in flat
    assert "data.root=" in flat
    assert not (tmp_path / "leaderboards").exists()


def test_missing_pretrained_weights(fake_root, tmp_path, capsys):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + "\n".join("abcdefghijklmnopqrstuvwxyz0123456789"))
    overrides = [*tiny_overrides(tmp_path, fake_root), "model=lavt", "vision.positions=none"]
    shown = refused(capsys, *overrides, "vision.weights=hub:timm/swin_base_patch4_window12_384.ms_in22k")
    assert "timm/swin_base_patch4_window12_384.ms_in22k" in shown
    assert "vision.weights=" in shown
    shown = refused(capsys, *overrides, "text.weights=hub:google-bert/bert-base-uncased")
    assert "google-bert/bert-base-uncased" in shown
    assert "text.weights=" in shown
    shown = refused(capsys, *overrides, "vision.weights=/nowhere/swin.safetensors")
    assert "/nowhere/swin.safetensors" in shown
    assert not (tmp_path / "leaderboards").exists(), "never a silent random initialisation"


def test_missing_tokenizer(fake_root, tmp_path, capsys):
    shown = refused(capsys, *tiny_overrides(tmp_path, fake_root), "text.tokenizer=hub:google-bert/bert-base-uncased")
    assert "google-bert/bert-base-uncased" in shown
    assert "text.tokenizer=" in shown


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=fianett", "Unknown model 'fianett'. Did you mean fianet"),
        ("data=rrsis-d", "Unknown dataset 'rrsis-d'. Did you mean rrsisd, rrsis_hr?"),
    ],
)
def test_misspelt_names_get_suggestions(capsys, override, message):
    assert message in refused(capsys, override)
    assert cli.main(["bench", override]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.precision=16-true", "trainer.precision is '16-true'"),
        ("protocol.empty=maybe", "protocol.empty is 'maybe'; expected one of: rela, zero"),
        ("train.schedule.name=linear", "train.schedule.name"),
        ("train.freeze=[nothing.*]", "the pattern 'nothing.*' matches no parameter"),
        ("text.vocab_size=40", "Raise text.vocab_size"),
        ("data.format=coco", "dataset format 'coco'"),
        ("data.root='/nowhere/[old]/data'", "/nowhere/[old]/data"),
    ],
)
def test_values_that_cannot_work_are_refused_with_brackets_intact(fake_root, tmp_path, capsys, override, message):
    assert message in refused(capsys, *tiny_overrides(tmp_path, fake_root), override)


def test_evaluate_without_a_checkpoint(fake_root, tmp_path, capsys):
    shown = refused(capsys, *tiny_overrides(tmp_path, fake_root), verb="evaluate")
    assert "checkpoint=official:/path/file.pth" in shown


def test_verify_lists_every_defect_and_its_exit_code_says_so(fake_root, tmp_path, capsys):
    assert cli.main(["data", "verify", "rrsisd", "--data-root", str(fake_root)]) == 0
    capsys.readouterr()
    tree = write_fake_rrsisd(tmp_path / "broken", defects=("missing_image", "empty_mask", "unknown_category"))
    assert cli.main(["data", "verify", "rrsisd", "--data-root", str(tree.root)]) == 1
    shown = capsys.readouterr().out
    assert all(sample_id in shown for sample_id in tree.defects.values())


def test_verify_of_nothing_is_a_message(tmp_path, capsys):
    code = cli.main(["data", "verify", "rrsisd", "--data-root", str(tmp_path / "nowhere")])
    shown = "".join(capsys.readouterr())
    assert code != 0
    assert "nowhere" in shown
    assert "Traceback" not in shown


def test_a_run_with_a_broken_picture_is_refused_by_its_sample(tmp_path, capsys):
    tree = write_fake_rrsisd(tmp_path / "broken", defects=("truncated_image",))
    shown = refused(capsys, *tiny_overrides(tmp_path, tree.root))
    assert tree.defects["truncated_image"] in shown


def test_an_installed_plugin_trains_with_its_own_configuration(fake_root, tmp_path, monkeypatch, capsys):
    """A package elsewhere with an entry point and a conf folder: list, compose and bench know it."""
    site = plugin(tmp_path, "outsider", package="rrsis_other")
    (site / "rrsis_other" / "net.py").write_text(
        "from torch import nn\n"
        "from rrsis_bench.interfaces import Segmenter, SegmenterOutput\n"
        "class Net(Segmenter):\n"
        "    def __init__(self, views, max_tokens, width):\n"
        "        super().__init__()\n"
        "        self.views, self.max_tokens = views, max_tokens\n"
        "        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))\n"
        "    def forward(self, views, text):\n"
        "        return SegmenterOutput(self.layers(views['image'].float() / 255)[:, 0])\n"
    )
    (site / "rrsis_other" / "conf" / "model" / "outsider.yaml").write_text(
        "name: outsider\ncard: {title: A plugin}\n"
        "args: {views: {image: '${size.image}'}, max_tokens: '${size.max_tokens}', width: 4}\n"
    )
    monkeypatch.syspath_prepend(site)
    assert cli.main(["list", "--json"]) == 0
    assert '"source": "rrsis-plugin 1.2"' in capsys.readouterr().out
    overrides = [*tiny_overrides(tmp_path, fake_root), "model=outsider", "model.args.width=5", "train.epochs=1"]
    assert run.main(overrides) == 0
    assert "outsider" in capsys.readouterr().out
    (record,) = Path("leaderboards/records/rrsisd/outsider").glob("*.json")
    assert '"model_source": "rrsis-plugin 1.2"' in record.read_text()
