"""RMSIN's intra-scale interaction: LAVT's gated language pathway beside a gated visual one (RMSIN, CVPR 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import PWAM, LanguageGate


class RepUnit(nn.Module):
    """BN(Conv1x1(m)) + BN(Conv3x3(BN(Conv1x1(m)))) + BN(m) of a one-channel map; convolutions without bias."""

    def __init__(self) -> None:
        """Build the three branches: point, spatial (behind a point convolution of its own) and identity."""
        super().__init__()
        self.point = nn.Conv2d(1, 1, 1, bias=False)
        self.point_bn = nn.BatchNorm2d(1)
        self.inner = nn.Conv2d(1, 1, 1, bias=False)
        self.inner_bn = nn.BatchNorm2d(1)
        self.spatial = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.spatial_bn = nn.BatchNorm2d(1)
        self.identity_bn = nn.BatchNorm2d(1)

    def forward(self, map_B1HW: Tensor) -> Tensor:
        """Return (B, 1, H, W)."""
        spatial_B1HW = self.spatial_bn(self.spatial(self.inner_bn(self.inner(map_B1HW))))
        return self.point_bn(self.point(map_B1HW)) + spatial_B1HW + self.identity_bn(map_B1HW)


class RepBlock(nn.Module):
    """Two units with a ReLU between them."""

    def __init__(self) -> None:
        """Build both units."""
        super().__init__()
        self.first = RepUnit()
        self.second = RepUnit()

    def forward(self, map_B1HW: Tensor) -> Tensor:
        """Return (B, 1, H, W), before the sigmoid."""
        return self.second(F.relu(self.first(map_B1HW)))


class IntraScaleInteraction(nn.Module):
    """Fuses language and a visual residual: x + gate(r) * r + visual_gate(v) * v.

    r = PWAM(x, words); v = x * sigmoid(RepBlock(mean of x over its channels)).
    """

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features."""
        super().__init__()
        self.pwam = PWAM(dim, text_dim)
        self.gate = LanguageGate(dim)
        self.repblock = RepBlock()
        self.visual_gate = LanguageGate(dim)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused tokens and the PWAM output before its gate, both (B, H, W, C)."""
        language_BHWC, visual_BHWC, r_BHWC = self.paths(x_BHWC, words_BLD, mask_BL)
        return x_BHWC + language_BHWC + visual_BHWC, r_BHWC

    def paths(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gated language, the gated visual residual and the PWAM output, all (B, H, W, C)."""
        r_BHWC = self.pwam(x_BHWC.flatten(1, 2), words_BLD, mask_BL).view_as(x_BHWC)
        weight_B1HW = torch.sigmoid(self.repblock(x_BHWC.mean(-1)[:, None]))
        visual_BHWC = x_BHWC * weight_B1HW.permute(0, 2, 3, 1)
        return self.gate(r_BHWC), self.visual_gate(visual_BHWC), r_BHWC
