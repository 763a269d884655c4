"""FreqFusion: sharpen a fine map and smooth a coarse one with predicted kernels, one per position.

Chen et al., "Frequency-aware Feature Fusion for Dense Image Prediction", TPAMI 2024, as LSCF's decoder calls it:
without the resampler of that paper.
"""

# K = taps of a kernel, k = its side

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.backbones.constants import on_device

LOW, HIGH = 5, 3
"""Sides of the smoothing and the sharpening kernel."""


def hamming(side: int) -> Tensor:
    """Return the symmetric two-dimensional Hamming window (side, side), float64."""
    window = torch.hamming_window(side, periodic=False, dtype=torch.float64)
    return torch.outer(window, window)


_hamming_on = on_device(hamming)


def normalise(scores_BKHW: Tensor) -> Tensor:
    """Turn scores of taps into kernels that sum to 1: softmax, times a Hamming window, divided by the sum."""
    side = math.isqrt(scores_BKHW.shape[1])
    kernel_BKHW = scores_BKHW.softmax(1) * _hamming_on(side, scores_BKHW.device, scores_BKHW.dtype).view(1, -1, 1, 1)
    return kernel_BKHW / kernel_BKHW.sum(1, keepdim=True)


def reassemble(map_BCHW: Tensor, kernel_BKhw: Tensor) -> Tensor:
    """Filter a map with a kernel per output position; zeros outside the map.

    Args:
        map_BCHW: the source.
        kernel_BKhw: taps in row-major order, at the source's size or up to twice that size. Position (y, x) of a larger
            output reads the window around the source's (y // 2, x // 2).

    Returns:
        (B, C, h, w).
    """
    height, width = map_BCHW.shape[-2:]
    out_height, out_width = kernel_BKhw.shape[-2:]
    scale = 1 if (out_height, out_width) == (height, width) else 2
    side = math.isqrt(kernel_BKhw.shape[1])
    padded_BCHW = F.pad(map_BCHW, [side // 2] * 4)
    # Axes of the cell come behind the axes of its source, so that no slice of the source is copied.
    taps = F.pad(kernel_BKhw, (0, scale * width - out_width, 0, scale * height - out_height))
    taps = taps.unflatten(3, (width, scale)).unflatten(2, (height, scale))  # (B, K, H, scale, W, scale)
    out = torch.zeros((), dtype=map_BCHW.dtype, device=map_BCHW.device)
    for tap in range(side * side):
        row, col = divmod(tap, side)
        source = padded_BCHW[:, :, row : row + height, None, col : col + width, None]
        out = out + source * taps[:, tap, None]
    return out.flatten(4, 5).flatten(2, 3)[..., :out_height, :out_width]


class FreqFusion(nn.Module):
    """Sharpen the fine map and bring the coarse one, smoothed, to its size."""

    def __init__(self, dim: int, compressed: int) -> None:
        """Build for maps of `dim` channels; the kernels are predicted from `compressed` channels."""
        super().__init__()
        self.fine = nn.Conv2d(dim, compressed, 1)
        self.coarse = nn.Conv2d(dim, compressed, 1)
        self.low = nn.Conv2d(compressed, LOW**2, 3, padding=1)
        self.high = nn.Conv2d(compressed, HIGH**2, 3, padding=1)
        for layer in (self.fine, self.coarse):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.low, self.high):
            nn.init.normal_(layer.weight, std=0.001)
        for layer in (self.fine, self.coarse, self.low, self.high):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def kernels(self, fine_BCHW: Tensor, coarse_BChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of the smoothing (B, 25, H, W) and of the sharpening (B, 9, H, W) kernels."""
        fine, coarse = self.fine(fine_BCHW), self.coarse(coarse_BChw)
        first = self.high(fine)
        sharp = self.low(2 * fine - reassemble(fine, normalise(first)))
        low = sharp + reassemble(self.low(coarse), normalise(sharp))
        return low, first + reassemble(self.high(coarse), normalise(low))

    def forward(self, fine_BCHW: Tensor, coarse_BChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sharpened fine map and the smoothed coarse map, both (B, C, H, W).

        Args:
            fine_BCHW: the finer map.
            coarse_BChw: a map of half its sides, rounded up.
        """
        low, high = self.kernels(fine_BCHW, coarse_BChw)
        return (
            2 * fine_BCHW - reassemble(fine_BCHW, normalise(high)),
            reassemble(coarse_BChw, normalise(low)),
        )
