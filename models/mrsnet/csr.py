"""Context-aware spatial relation modelling (Section III-B.b, Figure 6): a graph convolution over neighbours."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def neighbour_mean(x_BCHW: Tensor) -> Tensor:
    """Return the mean of the up to eight neighbours of every position, without itself, (B, C, H, W).

    Equal to the product with the row-normalised adjacency matrix (H W x H W) of the paper, which is never built: at
    120 x 120 positions it has 207 million entries. A map of a single position has no neighbours and gives 0.
    """
    ring_33 = x_BCHW.new_ones(3, 3)
    ring_33[1, 1] = 0
    dim, (height, width) = x_BCHW.shape[1], x_BCHW.shape[-2:]
    count_11HW = F.conv2d(x_BCHW.new_ones(1, 1, height, width), ring_33[None, None], padding=1)
    sum_BCHW = F.conv2d(x_BCHW, ring_33.expand(dim, 1, 3, 3), padding=1, groups=dim)
    return sum_BCHW / count_11HW.clamp_min(1)


class CSR(nn.Module):
    """Conv3x3(ReLU(Linear(neighbour mean of X)))."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.graph = nn.Linear(dim, dim)
        self.refine = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return F_relationship (B, H, W, C)."""
        context_BHWC = neighbour_mean(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        updated_BCHW = F.relu(self.graph(context_BHWC)).permute(0, 3, 1, 2)
        return self.refine(updated_BCHW).permute(0, 2, 3, 1)
