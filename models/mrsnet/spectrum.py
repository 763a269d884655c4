"""Fourier transforms of feature maps: in float32 or better, with gradients that stay finite at zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FLOOR = 1e-6  # magnitudes up to here count as zero


def full_precision(x: Tensor) -> Tensor:
    """Return the tensor in float32 or its own higher precision, since transforms do not take half precision."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class _Polar(torch.autograd.Function):
    """Magnitude and phase of complex numbers, given as two real tensors; both 0 and without gradient below FLOOR."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = torch.hypot(real, imaginary)
        below = magnitude <= FLOOR
        phase = torch.atan2(imaginary, real).masked_fill_(below, 0.0)
        inverse = magnitude.reciprocal().masked_fill_(below, 0.0)
        ctx.save_for_backward(real * inverse, imaginary * inverse, inverse)
        return magnitude.masked_fill_(below, 0.0), phase

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine, inverse = ctx.saved_tensors
        outwards, around = gradients[0], gradients[1] * inverse
        return outwards * cosine - around * sine, outwards * sine + around * cosine


def half_spectrum(x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Return magnitude and phase of the orthonormal 2-D transform of a real map, of the columns 0 to W // 2.

    The other columns mirror these: the magnitude of (-u, -v) is that of (u, v), the phase is its negative. The up to
    four frequencies that are their own mirror image are real: their phase is 0 or pi, never minus pi by a rounding
    error. If the magnitude is at most 1e-6, it and the phase are 0 and pass no gradient: the phase has none
    at 0, and next to it its direction is rounding noise.

    Args:
        x_BHWC: real map of any float dtype; transformed in float32 or float64, with autocast off.

    Returns:
        Magnitude and phase (in radians, above -pi, up to pi), both (B, H, W // 2 + 1, C) in the map's dtype.
    """
    height, width = x_BHWC.shape[1:3]
    with torch.autocast(x_BHWC.device.type, enabled=False):
        half = torch.view_as_real(torch.fft.rfft2(full_precision(x_BHWC), dim=(1, 2), norm="ortho"))
        rows_H1 = _own_mirrors(height, half.shape[1], half.device)[:, None]
        own_HW1 = (rows_H1 & _own_mirrors(width, half.shape[2], half.device))[..., None]
        imaginary = half[..., 1].masked_fill(own_HW1, 0.0)
        magnitude, phase = _Polar.apply(half[..., 0].contiguous(), imaginary)  # type: ignore[no-untyped-call]
    return magnitude.to(x_BHWC.dtype), phase.to(x_BHWC.dtype)


def _own_mirrors(size: int, count: int, device: torch.device) -> Tensor:
    """Return which of the frequencies 0 to `count` - 1 of an axis of `size` are their own mirror image, bool."""
    frequency = torch.arange(count, device=device)
    return (2 * frequency) % size == 0


def mirrored(half_BHWC: Tensor, width: int) -> Tensor:
    """Return the columns W // 2 + 1 to W - 1 of a function f(-u, -v) whose columns 0 to W // 2 are given as f(u, v).

    Args:
        half_BHWC: (B, H, W // 2 + 1, C).
        width: W.

    Returns:
        (B, H, W - W // 2 - 1, C): place (u, v) holds ``half[-u mod H, W - v]``.
    """
    return half_BHWC[:, :, 1 : (width + 1) // 2].flip(1, 2).roll(1, 1)
