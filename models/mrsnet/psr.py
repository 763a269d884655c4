"""Pyramidal spatial-spectral refinement (Section III-B.a, Figure 5): convolution and Fourier weights at 3 scales."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .spectrum import half_spectrum, mirrored

STEPS = (1, 2, 4)  # the scales 1, 1/2 and 1/4
SOFTMAXES = ("channels", "positions")


class SpatialSpectralRefinement(nn.Module):
    """Linear([Conv3x3(X), Softmax(Linear([M, P])) * X]) with M and P the magnitude and phase of X.

    The weights of a frequency multiply the position of the same index, as the paper prints it.
    """

    def __init__(self, dim: int, softmax: str = "channels") -> None:
        """Build for `dim` channels; `softmax` over the ``"channels"`` of a frequency, or over all ``"positions"``."""
        super().__init__()
        self.over_channels = softmax == "channels"
        self.spatial = nn.Conv2d(dim, dim, 3, padding=1)
        # A bias per channel would not outlast a softmax over positions.
        self.spectral = nn.Linear(2 * dim, dim, bias=self.over_channels)
        self.fuse = nn.Linear(2 * dim, dim)

    def spectral_weights(self, x_BHWC: Tensor) -> Tensor:
        """Return Softmax(Linear([M, P])) on the grid of all frequencies, (B, H, W, C)."""
        magnitude_BHwC, phase_BHwC = half_spectrum(x_BHWC)
        of_magnitude, of_phase = self.spectral.weight.chunk(2, dim=1)
        # Mirrored frequencies have the same magnitude and the negative phase, so that half of the products is enough.
        even_BHwC = F.linear(magnitude_BHwC, of_magnitude, self.spectral.bias)
        odd_BHwC = F.linear(phase_BHwC, of_phase)
        rest_BHWC = mirrored(even_BHwC - odd_BHwC, x_BHWC.shape[2])
        scores_BHWC = torch.cat([even_BHwC + odd_BHwC, rest_BHWC], dim=2)
        if self.over_channels:
            return scores_BHWC.softmax(3)
        return scores_BHWC.flatten(1, 2).softmax(1).view_as(scores_BHWC)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return the refined map (B, H, W, C)."""
        spatial_BHWC = self.spatial(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.fuse(torch.cat([spatial_BHWC, self.spectral_weights(x_BHWC) * x_BHWC], dim=3))


class PSR(nn.Module):
    """Refine the map at three scales, each with its own weights, and mix them at the map's own resolution."""

    def __init__(self, dim: int, softmax: str = "channels") -> None:
        """Build for `dim` channels; `softmax` as in `SpatialSpectralRefinement`."""
        super().__init__()
        self.scales = nn.ModuleList(SpatialSpectralRefinement(dim, softmax) for _ in STEPS)
        self.mix = nn.Linear(len(STEPS) * dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return F_py (B, H, W, C).

        A scale's cells are means of 2 x 2 or 4 x 4 positions, fewer at the right and bottom borders if 2 or 4
        does not divide the map. They are resized bilinearly, without aligned corners.
        """
        x_BCHW, dim = x_BHWC.permute(0, 3, 1, 2), x_BHWC.shape[3]
        # Linear(concatenated scales), split by scale: a product with a resized map is cheaper before the resize.
        weights = self.mix.weight.split(dim, dim=1)
        out_BHWC = F.linear(self.scales[0](x_BHWC), weights[0], self.mix.bias)
        for step, scale, weight in zip(STEPS[1:], self.scales[1:], weights[1:], strict=True):
            small_BhwC = F.avg_pool2d(x_BCHW, step, ceil_mode=True).permute(0, 2, 3, 1)
            small_BChw = F.linear(scale(small_BhwC), weight).permute(0, 3, 1, 2)
            resized_BCHW = F.interpolate(small_BChw, size=x_BCHW.shape[-2:], mode="bilinear", align_corners=False)
            out_BHWC = out_BHWC + resized_BCHW.permute(0, 2, 3, 1)
        return out_BHWC
