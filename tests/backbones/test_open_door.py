"""A backbone is two files: a module and a node. The models that use its interface run it unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rrsis_bench import backbones, registry
from rrsis_bench.backbones import build_text, build_vision
from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.backbones.interfaces import StagedEncoder, TextEncoder
from rrsis_bench.errors import UserError
from tests.fakes.backbones import BERT, CLIP, SAM2, SIDE, SWIN
from tests.fakes.config import model_args
from tests.models.conftest import make_inputs

MODULE = """
from dataclasses import dataclass

from torch import nn

from rrsis_bench.backbones.interfaces import BackboneConfig, StagedEncoder


@dataclass(frozen=True, slots=True)
class ConvConfig(BackboneConfig):
    width: int


class ConvEncoder(StagedEncoder):
    Config = ConvConfig
    patch = 4

    def __init__(self, config, *, image_size):
        super().__init__()
        self.config = config
        self.widths = tuple(config.width * 2**i for i in range(4))
        self.sides = tuple(image_size // (4 * 2**i) for i in range(4))
        self.stem = nn.Conv2d(3, config.width, 4, 4)
        self.stages = nn.ModuleList(
            nn.Conv2d(self.widths[max(i - 1, 0)], width, 3, 2 if i else 1, 1) for i, width in enumerate(self.widths)
        )

    def embed(self, image_BCHW):
        return self.stem(image_BCHW.to(self.stem.weight.dtype) / 255).permute(0, 2, 3, 1)

    def stage(self, index, x_BHWC):
        return self.stages[index](x_BHWC.permute(0, 3, 1, 2)).relu().permute(0, 2, 3, 1)
"""
NODE = "backbone: conv\nweights: random\nwidth: 8\n"


@pytest.fixture
def conv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Add a plain convolutional backbone by its two files; the override that makes Hydra see the second."""
    (tmp_path / "conv.py").write_text(MODULE)
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "conv.yaml").write_text(NODE)
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path)])
    return f"hydra.searchpath=[file://{tmp_path}]"


@pytest.mark.parametrize("name", ["lavt", "fianet", "rmsin", "mrsnet"])
def test_two_files_make_a_backbone_that_a_model_trains(name: str, conv: str) -> None:
    args = model_args(name, "size=tiny", f"size.image={SIDE}", "vision=conv", conv)
    model = registry.load_class(name)(**args)
    assert type(model.backbone).__name__ == "ConvEncoder"
    views, text = make_inputs(2, views=model.views, tokens=model.max_tokens)
    logits = model(views, text).logits
    assert logits.shape == (2, SIDE // 4, SIDE // 4)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())


def test_csinet_needs_windows_for_its_own_fusion_only(conv: str) -> None:
    small = ("size=tiny", "vision=conv", conv)
    with pytest.raises(UserError, match=r"vision\.backbone=conv"):
        registry.load_class("csinet")(**model_args("csinet", *small, "model.args.close_size=64"))
    registry.load_class("csinet")(**model_args("csinet", *small, "model.args.close_size=64", "model.args.fusion=sum"))


@pytest.mark.parametrize(
    ("field", "node", "needs", "message"),
    [
        ("vision", {**SWIN, "backbone": "swinn"}, StagedEncoder, r"vision\.backbone 'swinn'.*Did you mean swin"),
        ("vision", {"weights": "random"}, StagedEncoder, r"vision\.backbone"),
        ("vision", SAM2, StagedEncoder, r"vision\.backbone=sam2.*StagedEncoder.*vision="),
        ("vision", BERT, StagedEncoder, r"vision\.backbone=bert"),
        ("text", CLIP, TextEncoder, r"text\.backbone=clip.*TextEncoder.*text="),
        ("text", {**BERT, "hiden": 3}, BertEncoder, r"text\.hiden.*hidden"),
        ("text", {name: value for name, value in BERT.items() if name != "heads"}, BertEncoder, r"text\.heads"),
        ("text", {**BERT, "backbone": "weights"}, BertEncoder, r"text\.backbone 'weights'"),
    ],
)
def test_a_node_that_does_not_fit_is_refused_by_its_field(
    field: str, node: dict[str, Any], needs: Any, message: str
) -> None:
    build = build_vision if field == "vision" else build_text
    with pytest.raises(UserError, match=message):
        build(node, needs)


def test_a_module_without_a_backbone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.py").write_text("")
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path)])
    with pytest.raises(UserError, match=r"empty\.py must define exactly one"):
        build_vision({"backbone": "empty"}, StagedEncoder)


def test_the_device_of_the_context_is_used() -> None:
    with torch.device("meta"):
        assert next(build_vision(SWIN, StagedEncoder, image_size=SIDE).parameters()).is_meta
