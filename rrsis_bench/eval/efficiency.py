"""Measure a model's cost: parameters, FLOPs, latency and memory of one expression on one image."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.interfaces import Segmenter


def peak_resident_gb() -> float:
    """Return the process's peak resident set in units of 2^30 bytes (kilobytes on Linux, bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16. Elsewhere autocast is only slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, and not in every version of torch
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in known)


@contextmanager
def _without_gradients(model: Segmenter) -> Iterator[None]:
    """Switch `requires_grad` off for all parameters within the block."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@contextmanager
def _counted_attention() -> Iterator[None]:
    """Compute attention by plain products within the block: the counter does not see inside fused kernels.

    These are the fused path of `nn.MultiheadAttention`, and the fused attention of CPUs.
    """
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def measure(model: Segmenter, device: torch.device, *, warmup: int = 2, passes: int = 10) -> Efficiency:
    """Measure one forward pass of `model` in eval mode at batch size 1, text encoder included.

    FLOPs are counted by torch.utils.flop_counter (1 multiply-accumulate = 2), latency is the median of `passes` after
    `warmup`; memory is the largest allocation on a GPU and the process's peak resident set on a CPU. Inputs are random
    pixels and a text of full length. Everything runs in float32, whatever the training used; where the device computes
    in bfloat16, a second latency is that of the same pass under its autocast.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    views = {
        name: torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=generator).to(device)
        for name, side in model.views.items()
    }
    ones_BL = torch.ones((1, model.max_tokens), dtype=torch.int64, device=device)
    text = dict.fromkeys(("input_ids", "attention_mask", *model.phrase_masks), ones_BL)
    on_gpu = device.type == "cuda"

    def latency(warmup: int, passes: int) -> float:
        """Milliseconds of the median pass."""
        times: list[float] = []
        for index in range(warmup + passes):
            if on_gpu:
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            model(views, text)
            if on_gpu:
                torch.cuda.synchronize(device)
            if index >= warmup:
                times.append(time.perf_counter() - started)
        return statistics.median(times) * 1000

    with torch.no_grad():
        # The counter registers hooks on tensors with gradients; that fails for a parameter that is a module's input.
        with _without_gradients(model), _counted_attention(), FlopCounterMode(display=False) as counter:
            model(views, text)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        full_ms = latency(warmup, passes)
        peak = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else peak_resident_gb()
        amp_ms = None
        if computes_in_bfloat16(device):
            with torch.autocast(device.type, torch.bfloat16):
                amp_ms = latency(min(warmup, 1), min(passes, 3))  # few: a large model takes a minute a pass on a CPU
    parameters = list(model.parameters())
    return Efficiency(
        params_total=sum(parameter.numel() for parameter in parameters),
        params_trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        gflops=counter.get_total_flops() / 1e9,
        gflops_batch=1,
        input_size=dict(model.views),
        latency_ms=full_ms,
        fps=1000 / full_ms,
        batch=1,
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        precision="32-true",
        peak_mem_gb=peak,
        latency_amp_ms=amp_ms,
    )
