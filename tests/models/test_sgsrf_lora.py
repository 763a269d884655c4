"""SGSRF's paper-size path at toy width: timm's SigLIP tower, LoRA on packed weights, float32 and bfloat16."""

from __future__ import annotations

import copy
from typing import Any

import open_clip
import pytest
import torch
from rrsis_bench.models.sgsrf import SGSRF
from torch.nn import functional as F

from rrsis_bench.backbones.lora import merge_lora
from tests.backbones.test_clip import LENGTH, SIDE, SIGLIP, named
from tests.fakes.backbones import SAM2
from tests.fakes.config import model_args

from .conftest import make_inputs

LORA = {"adapt": "lora", "lora_rank": 2}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """SGSRF with timm's tower of SigLIP's kind and SAM 2's, both adapted."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "siglip-of-this-test", copy.deepcopy(SIGLIP))
    torch.manual_seed(0)
    given = {"vision": {**SAM2, **LORA}, "text": named("siglip-of-this-test", **LORA)}
    return SGSRF(**model_args("sgsrf", **given, heads=4, prompt_width=32, hidden=48))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_moves_the_adapters_and_leaves_the_packed_weights(model, dtype) -> None:
    views, text = make_inputs(3, views={"sam": model.views["sam"], "clip": SIDE}, tokens=LENGTH)
    text["input_ids"] %= 99
    before = {name: value.clone() for name, value in model.state_dict().items()}
    target = torch.zeros(3, 16, 16)
    target[:, 4:9, 4:9] = 1
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=3e-3)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output = model(views, text)
        loss = F.binary_cross_entropy_with_logits(output.logits.float(), target) + output.aux_losses["consistency"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = model.state_dict()
    moved = {name for name, value in after.items() if not value.equal(before[name])}
    for tower in ("clip.visual", "clip.text", "sam2"):
        assert any(name.startswith(tower) and "lora_" in name for name in moved), tower
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert any(name.endswith("qkv.weight") for name in frozen)
    assert not moved & frozen
    with torch.no_grad():
        wanted = model.eval()(views, text).logits
        merge_lora(model, keep_pairs=True)
        torch.testing.assert_close(model(views, text).logits, wanted, rtol=1e-3, atol=1e-3)
