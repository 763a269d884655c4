"""Constants of a forward pass stay on their device, and remember no default device of an earlier caller."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from rrsis_bench.models.csinet.decoder import _taps, conv_of_resized
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rrsis_bench.backbones.positions import sine_positions_on

from .conftest import build_tiny, make_inputs

CPU = torch.device("cpu")


def test_constants_are_kept_on_the_device() -> None:
    for make, sizes in ((_taps, (5, 7)), (sine_positions_on, (4, 3, 8))):
        first = make(*sizes, CPU, torch.float32)
        assert make(*sizes, CPU, torch.float32) is first
        assert make(*sizes, CPU, torch.float64).dtype == torch.float64


def test_constants_do_not_remember_a_meta_device() -> None:
    _taps.cache_clear()
    with torch.device("meta"):
        assert _taps(6, 11, CPU, torch.float32).device.type == "cpu"
        conv_of_resized(torch.ones(1, 2, 6, 6), torch.ones(3, 2, 3, 3), 11, 11)
    assert _taps(6, 11, CPU, torch.float32).device.type == "cpu"


def test_constants_made_in_inference_mode_serve_training() -> None:
    _taps.cache_clear()
    with torch.inference_mode():
        conv_of_resized(torch.ones(1, 2, 3, 3), torch.ones(3, 2, 3, 3), 8, 8)
    weight = torch.ones(3, 2, 3, 3, requires_grad=True)
    conv_of_resized(torch.ones(1, 2, 3, 3), weight, 8, 8).sum().backward()
    assert weight.grad is not None


class CopiesBetweenDevices(TorchDispatchMode):
    """Counts tensors that are copied from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = args[0] if func is torch.ops.aten._to_copy.default else args[1]
            self.count += source.device != out.device
        return out


class NoWords(nn.Module):
    """In place of a BERT that reads a value of its mask, which the meta device has not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, input_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        return torch.zeros(*mask_BL.shape, self.width, device=input_ids_BL.device)


@pytest.mark.parametrize("name", ["csinet", "lavt", "lscf", "mrsnet", "rrn"])
def test_a_pass_copies_nothing_from_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: CSINet copied 16 constants to the device in each pass; Swin's sines, coordinate maps, windows were more."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # unknown to the meta device
    with torch.device("meta"):
        model = build_tiny(name).to("meta").eval()
    if hasattr(model, "text_encoder"):
        model.text_encoder = NoWords(model.text_encoder.width)
    inputs = [
        {key: value.to("meta") for key, value in part.items()}
        for part in make_inputs(2, views=model.views, tokens=model.max_tokens)
    ]
    model(*inputs)
    with CopiesBetweenDevices() as copies:
        model(*inputs)
    assert copies.count == 0
