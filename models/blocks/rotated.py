"""Adaptive rotated convolution: one 3 x 3 kernel, turned for every image by an angle that the image predicts.

Pu et al., "Adaptive Rotated Convolution for Rotated Object Detection", ICCV 2023, as RMSIN (CVPR 2024) uses it in its
decoder: a single kernel, rotated by at most 40 degrees.
"""

# O = output channels, I = input channels, k = side of a kernel

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_ANGLE = math.radians(40)


def _rotation_matrix(angle_B: Tensor) -> Tensor:
    """Return (B, 9, 9): row p has the weights of the cells of a 3 x 3 kernel in the rotated cell p."""
    offset_3 = torch.arange(-1, 2, device=angle_B.device, dtype=angle_B.dtype)
    row_9, col_9 = offset_3.repeat_interleave(3), offset_3.repeat(3)
    cos_B1, sin_B1 = angle_B.cos()[:, None], angle_B.sin()[:, None]
    from_row_B9 = (row_9 * cos_B1 + col_9 * sin_B1).clamp(-1, 1)
    from_col_B9 = (col_9 * cos_B1 - row_9 * sin_B1).clamp(-1, 1)
    # Bilinear sampling: a cell's share falls linearly to 0 at a distance of one cell.
    down_B93 = F.relu(1 - (from_row_B9[..., None] - offset_3).abs())
    along_B93 = F.relu(1 - (from_col_B9[..., None] - offset_3).abs())
    return (down_B93[..., :, None] * along_B93[..., None, :]).flatten(2)


def rotate_kernels(weight_OIkk: Tensor, angle_B: Tensor) -> Tensor:
    """Rotate 3 x 3 kernels by every angle.

    Cell (r, c), counted from the middle, reads the kernel bilinearly at (r cos + c sin, c cos - r sin); places outside
    the kernel are moved to its border.

    Args:
        weight_OIkk: kernels (O, I, 3, 3).
        angle_B: radians.

    Returns:
        (B, O, I, 3, 3), in the kernels' dtype.
    """
    matrix_B99 = _rotation_matrix(angle_B.to(weight_OIkk.dtype))
    rotated_BOI9 = torch.einsum("oij,bkj->boik", weight_OIkk.flatten(2), matrix_B99)
    return rotated_BOI9.unflatten(3, (3, 3))


class RotationRouting(nn.Module):
    """Predicts a gate in (0, 1) and an angle within 40 degrees from an image's feature map."""

    def __init__(self, dim: int, dropout: float = 0.2) -> None:
        """Build for `dim` channels; `dropout` is applied before both predictions."""
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Linear(dim, 1)
        self.angle = nn.Linear(dim, 1, bias=False)
        for layer in (self.depthwise, self.gate, self.angle):
            nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gate (B,) and the angle (B,) in radians."""
        x_BHWC = F.relu(self.norm(self.depthwise(x_BCHW).permute(0, 2, 3, 1)))
        pooled_BC = x_BHWC.mean((1, 2))
        gate_B = torch.sigmoid(self.gate(self.dropout(pooled_BC)).squeeze(1))
        return gate_B, MAX_ANGLE * F.softsign(self.angle(self.dropout(pooled_BC)).squeeze(1))


class AdaptiveRotatedConv(nn.Module):
    """A 3 x 3 convolution, no bias, whose kernel is rotated and scaled for every image.

    The kernel keeps the leading axis of the authors' files, which counts kernels: one.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        """Build for `in_dim` channels in and `out_dim` out."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, out_dim, in_dim, 3, 3))
        self.routing = RotationRouting(in_dim)
        nn.init.kaiming_normal_(self.weight[0], nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, out_dim, H, W); zero padding."""
        gate_B, angle_B = self.routing(x_BCHW)
        kernels_BOIkk = rotate_kernels(self.weight[0], angle_B) * gate_B[:, None, None, None, None]
        # All images at once: the batch becomes groups of one convolution.
        out_1CHW = F.conv2d(x_BCHW.flatten(0, 1)[None], kernels_BOIkk.flatten(0, 1), padding=1, groups=len(x_BCHW))
        return out_1CHW[0].unflatten(0, (len(x_BCHW), -1))
