"""Attention to a few learned places of each map, and the positions of the maps' cells.

Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021 (arXiv 2010.04159).
"""

# K = frequencies, A = heads, V = levels, M = places per head and level, T = B * A, c = channels of a head

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.backbones.constants import on_device

Sizes = Sequence[tuple[int, int]]
"""Height and width of each level."""


def cell_centres(height: int, width: int) -> Tensor:
    """Return the centres (x, y) of the cells, row by row, as shares of the map: float64 (N, 2)."""
    y_H, x_W = ((torch.arange(size, dtype=torch.float64) + 0.5) / size for size in (height, width))
    return torch.stack(torch.meshgrid(x_W, y_H, indexing="xy"), dim=-1).flatten(0, 1)


def cell_positions(height: int, width: int, dim: int) -> Tensor:
    """Return DETR's sines of the cells, row by row: float64 (N, C), of the row in the first half, then of the column.

    Cells are counted from 1 and a side spans one period of the first frequency. Sines and cosines alternate.
    """
    half = dim // 2
    frequency_K = 10000 ** -(torch.arange(0, half, 2, dtype=torch.float64) / half)

    def axis(size: int) -> Tensor:
        count_N = torch.arange(1, size + 1, dtype=torch.float64)
        angle_NK = (count_N / (size + 1e-6) * 2 * math.pi)[:, None] * frequency_K
        return torch.stack([angle_NK.sin(), angle_NK.cos()], dim=2).flatten(1)

    rows_HWC = axis(height)[:, None].expand(height, width, half)
    columns_HWC = axis(width)[None].expand(height, width, half)
    return torch.cat([rows_HWC, columns_HWC], dim=2).flatten(0, 1)


centres_on = on_device(cell_centres)
positions_on = on_device(cell_positions)


class DeformableAttention(nn.Module):
    """Each cell of each level reads `points` places per head in every level.

    A place is the cell's own centre plus an offset that the cell predicts, in cells of the level that is read.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        """Build for `dim` channels, a multiple of `heads`, and maps of `levels` sizes."""
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(dim, heads * levels * points * 2)
        self.weights = nn.Linear(dim, heads * levels * points)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Start as Deformable DETR does: equal weights, and the places of a head on a ray of its own."""
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weights.bias)
        angle_A = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ray_A2 = torch.stack([angle_A.cos(), angle_A.sin()], dim=1)
        ray_A2 = ray_A2 / ray_A2.abs().amax(1, keepdim=True)
        steps_M = torch.arange(1, self.points + 1)
        start_AVM2 = (ray_A2[:, None, None] * steps_M[:, None]).expand(-1, self.levels, -1, -1)
        self.offsets.bias.copy_(start_AVM2.flatten())
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query_BNC: Tensor, source_BNC: Tensor, sizes: Sizes) -> Tensor:
        """Return (B, N, C).

        Args:
            query_BNC: what predicts offsets and weights.
            source_BNC: what is read.
            sizes: of the levels, whose cells follow each other in N.
        """
        spread = (self.heads, self.levels, self.points)
        offsets_BNAVM2 = self.offsets(query_BNC).unflatten(2, (*spread, 2))
        weights_BNAVM = self.weights(query_BNC).unflatten(2, (self.heads, -1)).softmax(-1).unflatten(3, spread[1:])
        value_BNC = self.value(source_BNC)
        kind = torch.promote_types(value_BNC.dtype, torch.float32)
        # Places need more digits than bfloat16 has.
        with torch.autocast(value_BNC.device.type, enabled=False):
            read_BNC = self._read(value_BNC.to(kind), offsets_BNAVM2.to(kind), weights_BNAVM.to(kind), sizes)
        out_BNC: Tensor = self.out(read_BNC.to(value_BNC.dtype))
        return out_BNC

    def _read(self, value_BNC: Tensor, offsets_BNAVM2: Tensor, weights_BNAVM: Tensor, sizes: Sizes) -> Tensor:
        """Return the weighted sum (B, N, C) over levels and places; a place outside of a map reads 0."""
        device, kind = value_BNC.device, value_BNC.dtype
        centres_N2 = torch.cat([centres_on(*size, device, kind) for size in sizes])
        values = value_BNC.unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)  # (T, c, N)
        areas = [height * width for height, width in sizes]
        read_TcN = values.new_zeros(values.shape)
        for level, (size, value_TcN) in enumerate(zip(sizes, values.split(areas, dim=2), strict=True)):
            height, width = size
            offsets_BANM2 = offsets_BNAVM2[:, :, :, level].transpose(1, 2)
            scale_2 = torch.stack([offsets_BANM2.new_tensor(2.0 / side) for side in (width, height)])
            places_BANM2 = (2 * centres_N2 - 1)[:, None] + offsets_BANM2 * scale_2
            found_TcNM = F.grid_sample(
                value_TcN.unflatten(2, size), places_BANM2.flatten(0, 1), mode="bilinear", align_corners=False
            )
            weights_T1NM = weights_BNAVM[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]
            read_TcN = read_TcN + (found_TcNM * weights_T1NM).sum(3)
        return read_TcN.unflatten(0, (-1, self.heads)).permute(0, 3, 1, 2).flatten(2)
