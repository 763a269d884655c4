"""The scale-aware gate that merges a stage with its multi-scale counterpart (RMSIN, CVPR 2024; also in FIANet)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ScaleAwareGate(nn.Module):
    """BN(W_l local) * up(hsigmoid(BN(W_a global))) + up(BN(W_g global)), with 1 x 1 convolutions."""

    def __init__(self, dim: int) -> None:
        """Build for maps of `dim` channels."""
        super().__init__()
        self.local = nn.Conv2d(dim, dim, 1)
        self.local_bn = nn.BatchNorm2d(dim)
        self.wide = nn.Conv2d(dim, dim, 1)
        self.wide_bn = nn.BatchNorm2d(dim)
        self.gate = nn.Conv2d(dim, dim, 1)
        self.gate_bn = nn.BatchNorm2d(dim)

    def forward(self, local_BCHW: Tensor, global_BChw: Tensor) -> Tensor:
        """Return (B, C, H, W) at the local map's size; the global map is resized bilinearly."""
        size = local_BCHW.shape[-2:]
        wide_BCHW = F.interpolate(self.wide_bn(self.wide(global_BChw)), size=size, mode="bilinear")
        gate_BCHW = F.interpolate(F.hardsigmoid(self.gate_bn(self.gate(global_BChw))), size=size, mode="bilinear")
        return self.local_bn(self.local(local_BCHW)) * gate_BCHW + wide_BCHW
