"""The block that replaces the second convolution of a decoder step in MAFN."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.rotated import AdaptiveRotatedConv

KERNELS = (1, 3, 5)


class MultiScaleConvBlock(nn.Module):
    """Depthwise convolutions of growing kernels in sequence, one rotated convolution between them, with a residual."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.inner = nn.Conv2d(dim, dim, 1, bias=False)
        self.inner_bn = nn.BatchNorm2d(dim)
        self.scales = nn.ModuleList(
            nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False) for kernel in KERNELS
        )
        self.scale_bns = nn.ModuleList(nn.BatchNorm2d(dim) for _ in KERNELS)
        self.rotated = AdaptiveRotatedConv(dim, dim)
        self.outer = nn.Conv2d(dim, dim, 1, bias=False)
        self.outer_bn = nn.BatchNorm2d(dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        z_BCHW = F.relu(self.inner_bn(self.inner(x_BCHW)))
        outputs: list[Tensor] = []
        for conv, bn in zip(self.scales, self.scale_bns, strict=True):
            if outputs:  # the authors' code rotates once more behind the last kernel and does not read the result
                z_BCHW = self.rotated(z_BCHW) + outputs[-1]
            outputs.append(F.relu(bn(conv(z_BCHW))))
        out_BCHW: Tensor = x_BCHW + self.outer_bn(self.outer(sum(outputs)))
        return out_BCHW
