"""Constants of a forward pass stay on their device, and remember no default device of an earlier caller."""

from __future__ import annotations

import torch
from rrsis_bench.models.csinet.decoder import _taps, conv_of_resized

from rrsis_bench.backbones.positions import sine_positions_on

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
