"""`rrsis-bench check` and the same rules before a run: every broken model in one sentence with its file."""

from __future__ import annotations

import sys

import pytest

from rrsis_bench import cli
from rrsis_bench.errors import UserError
from rrsis_bench.run.check import require_contract, run_checks
from tests.config.test_registry import plugin

GOOD = """
import torch
from torch import nn
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
class Net(Segmenter):
    def __init__(self, views, max_tokens, width):
        super().__init__()
        self.views = dict(views)
        self.max_tokens = max_tokens
        self.words = nn.Embedding(3000, width)
        self.pixels = nn.Conv2d(3, width, 3, padding=1)
        self.head = nn.Conv2d(width, 1, 1)
    def forward(self, views, text):
        image = views["image"].to(self.head.weight.dtype) / 255
        words = self.words(text["input_ids"]).cumsum(1).mean(1)
        logits = self.head(torch.relu(self.pixels(image)) * words[..., None, None])[:, 0]
        return SegmenterOutput(logits)
"""
CONF = (
    "name: {name}\ncard: {{title: A plugin}}\n"
    "args: {{views: {{image: '${{size.image}}'}}, max_tokens: '${{size.max_tokens}}', width: 4}}\n"
)
RETURN = "return SegmenterOutput(logits)"
BROKEN = {
    "shape": (RETURN, "return SegmenterOutput(logits[:, None])", "shape (3, 1, 64, 64)"),
    "samples": (RETURN, "return SegmenterOutput(logits[:1])", "shape (1, 64, 64)"),
    "tensor": (RETURN, "return logits", "returns a Tensor"),
    "nothing": (RETURN, "pass", "returns a NoneType"),
    "mask": (RETURN, "return SegmenterOutput(logits > 0)", "torch.bool"),
    "nan": (RETURN, "return SegmenterOutput(logits / 0)", "NaN or infinity"),
    "views": ("self.views = dict(views)", "pass", "self.views"),
    "tokens": ("self.max_tokens = max_tokens", "pass", "self.max_tokens"),
    "side": ("dict(views)", "{'image': '64'}", "self.views['image']"),
    "raises": (RETURN, "raise KeyError('imagee')", "forward raises KeyError"),
    "constructor": ("max_tokens, width):", "max_tokens, widht):", "argument 'width'"),
    "init": ("super().__init__()", "pass", "__init__ raises AttributeError"),
    "dead": ("self.head =", "self.unused = nn.Linear(2, 2); self.head =", "unused.weight"),
    "batch": (RETURN, "return SegmenterOutput(logits - logits.mean())", "other samples"),
    "text": ('text["input_ids"])', 'text["input_ids"] * 0)', "do not change with the text"),
    "state": ("self.max_tokens =", "self.factor = nn.Parameter(torch.ones(())); self.max_tokens =", "factor"),
    "double": ("to(self.head.weight.dtype)", "float()", "forward raises RuntimeError"),
}
IN_A_RUN = (
    "shape",
    "samples",
    "tensor",
    "nothing",
    "mask",
    "nan",
    "views",
    "tokens",
    "side",
    "raises",
    "constructor",
    "init",
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Installs a plugin model of a code and a yaml; returns its name."""

    def install(code: str, name: str, conf: str | None = None) -> str:
        package = f"rrsis_check_{name}"
        site = plugin(tmp_path, name, package=package)
        (site / package / "net.py").write_text(code)
        yaml = site / package / "conf" / "model" / f"{name}.yaml"
        yaml.unlink(missing_ok=True)
        if conf != "":
            yaml.write_text(conf or CONF.format(name=name))
        monkeypatch.syspath_prepend(site)
        return name

    yield install
    for module in [module for module in sys.modules if module.startswith("rrsis_check_")]:
        del sys.modules[module]


def test_a_good_model_passes(write, capsys):
    assert cli.main(["check", write(GOOD, "good")]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ok"] * 9
    require_contract("good")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_model_is_one_sentence_with_its_file(write, kind, capsys):
    before, after, words = BROKEN[kind]
    name = write(GOOD.replace(before, after), f"broken_{kind}")
    problems = [problem for _, problem in run_checks(name) if problem]
    assert problems
    assert words in problems[0]
    assert "\n" not in problems[0]
    assert name in problems[0] or "Net" in problems[0]
    assert cli.main(["check", name]) == 1
    assert "Traceback" not in "".join(capsys.readouterr())
    if kind in IN_A_RUN:
        with pytest.raises(UserError):
            require_contract(name)


@pytest.mark.parametrize(
    ("conf", "words"), [("", "is missing"), (CONF.format(name="other"), "name: other")], ids=["missing", "wrong name"]
)
def test_a_yaml_that_does_not_fit_is_named(write, conf, words):
    name = write(GOOD, "yaml_" + ("missing" if conf == "" else "name"), conf)
    with pytest.raises(UserError, match=words) as caught:
        require_contract(name)
    assert f"{name}.yaml" in str(caught.value)


def test_every_model_of_the_suite_keeps_it():
    problems = [(title, problem) for title, problem in run_checks("lavt") if problem]
    assert problems == []
