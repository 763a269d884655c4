"""`rrsis-bench check` and the same rules before a run: every broken model in one sentence with its file."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
import torch

from rrsis_bench import cli, registry
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.run import bench, check
from rrsis_bench.run.check import require_contract, run_checks
from tests.config.test_registry import plugin
from tests.fakes.config import parsed, tiny_overrides

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
    "side": ("dict(views)", "{'image': '64'}", "model.args.views.image=64"),
    "raises": (RETURN, "raise KeyError('imagee')", "forward raises KeyError"),
    "constructor": ("max_tokens, width):", "max_tokens, widht):", "argument 'width'"),
    "init": ("super().__init__()", "pass", "AttributeError: cannot assign"),
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
    assert cli.main(["check", name]) == 1
    out, err = capsys.readouterr()
    problem = next(line for line in out.splitlines() if not line.startswith(("ok", "FAILED")))
    assert words in problem
    assert f"{name}.yaml" in problem
    assert "Traceback" not in out + err
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


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.entries())
def test_every_model_of_the_suite_keeps_it(name):
    problems = [(title, problem) for title, problem in run_checks(name) if problem]
    assert problems == []


def test_the_check_before_a_run_draws_nothing():
    """The integers of a run would change."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check._require.cache_clear()
    require_contract("lavt")
    assert torch.equal(torch.rand(4), expected)


def test_a_run_of_a_broken_model_makes_no_folder(write, tmp_path, fake_root):
    before, after, words = BROKEN["shape"]
    name = write(GOOD.replace(before, after), "broken_in_a_run")
    overrides = [*tiny_overrides(tmp_path, fake_root)[:6], f"model={name}", "trainer=cpu"]
    with pytest.raises(UserError, match=re.escape(words)):
        bench.bench(parsed(*overrides), Terminal(file=io.StringIO()))
    assert not list((tmp_path / "runs").glob(f"{name}*"))


@pytest.mark.parametrize("conf", ["a: [", "- 1", "card: {title: 3}", ""])
def test_a_broken_model_never_breaks_the_list(write, conf, capsys):
    name = write(GOOD, f"listed_{abs(hash(conf))}", conf)
    assert cli.main(["list", "--json"]) == 0
    models = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert f"{name}.yaml" in models[name]["problem"]
    assert models["lavt"]["problem"] is None
    assert cli.main(["list"]) == 0
    assert name[:8] in capsys.readouterr().out
