"""Collaboratively dilated attention (Section III-C, Equations 10 to 12): long, slim boxes of rows, then of columns."""

# M = query maps per sample

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.backbones.positions import sine_positions_on

from .views import Views, resize

DENSITY = 3  # J


def row_offsets(side: int, density: int = DENSITY) -> tuple[int, ...]:
    """Rows that a query attends to, relative to its own: 0 and plus or minus d_j = floor(side / 2^(J - j)), j < J.

    On short maps, a distance of 0 and repeated distances count once.
    """
    distances = {side // 2 ** (density - j) for j in range(density)} - {0}
    return tuple(sorted({0, *distances, *(-distance for distance in distances)}))


class DilatedRows(nn.Module):
    """One pass: every token attends, inside its slice of S columns, to its own row and to rows at the offsets.

    Rows beyond the map have keys and values of 0, as with padded 1 x 1 convolutions. They take attention, unless
    `mask_padding`. The key has no bias, because the softmax cancels it. The value has none, because the FFN has one.
    """

    def __init__(self, dim: int, slice_size: int, *, mask_padding: bool) -> None:
        """Build for `dim` channels and slices of `slice_size` columns."""
        super().__init__()
        self.slice_size, self.mask_padding = slice_size, mask_padding
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BMHWC: Tensor, joint_BHWC: Tensor) -> Tensor:
        """Return (B, M, H, W, C).

        Args:
            x_BMHWC: M query maps per sample.
            joint_BHWC: the map that all of them query; the slice size divides W.
        """
        batch, maps, height, width, dim = x_BMHWC.shape
        slices = width // self.slice_size
        positions_HWC = sine_positions_on(height, width, dim, joint_BHWC.device, joint_BHWC.dtype)
        offsets = row_offsets(height)

        query = self.query(x_BMHWC + positions_HWC).view(batch, maps, height, slices, self.slice_size, dim)
        query = query.permute(0, 2, 3, 1, 4, 5).reshape(-1, 1, maps * self.slice_size, dim)
        key = self._rows(self.key(joint_BHWC + positions_HWC), offsets)
        value = self._rows(self.value(joint_BHWC), offsets)
        mask = self._inside(height, offsets, slices, batch, x_BMHWC.device) if self.mask_padding else None
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

        found = found.view(batch, height, slices, maps, self.slice_size, dim).permute(0, 3, 1, 2, 4, 5)
        return x_BMHWC + self.norm(self.out(found.reshape(x_BMHWC.shape)))

    def _rows(self, x_BHWC: Tensor, offsets: tuple[int, ...]) -> Tensor:
        """Equation 11: the rows at the offsets, side by side, (B H slices, 1, offsets S, C)."""
        batch, height, width, dim = x_BHWC.shape
        reach = offsets[-1]
        padded = F.pad(x_BHWC, (0, 0, 0, 0, reach, reach)).view(batch, height + 2 * reach, -1, self.slice_size, dim)
        shifted = [padded[:, reach + offset : reach + offset + height] for offset in offsets]
        return torch.cat(shifted, dim=3).view(-1, 1, len(offsets) * self.slice_size, dim)

    def _inside(self, height: int, offsets: tuple[int, ...], slices: int, batch: int, device: torch.device) -> Tensor:
        """Return which keys are on the map, bool (B H slices, 1, 1, offsets S)."""
        rows = torch.arange(height, device=device)[:, None] + torch.tensor(offsets, device=device)
        inside = ((rows >= 0) & (rows < height)).repeat_interleave(self.slice_size, dim=1)
        inside = inside.repeat_interleave(slices, dim=0).repeat(batch, 1)
        return inside[:, None, None]


class RowColumnAttention(nn.Module):
    """A row pass, then the same pass on the transposed maps, with its own weights."""

    def __init__(self, dim: int, slice_size: int, *, mask_padding: bool) -> None:
        """Build both passes."""
        super().__init__()
        self.rows = DilatedRows(dim, slice_size, mask_padding=mask_padding)
        self.columns = DilatedRows(dim, slice_size, mask_padding=mask_padding)

    def forward(self, x_BMHWC: Tensor, joint_BHWC: Tensor) -> Tensor:
        """Return the enhanced query maps (B, M, H, W, C)."""
        x_BMHWC = self.rows(x_BMHWC, joint_BHWC).transpose(2, 3)
        return self.columns(x_BMHWC, joint_BHWC.transpose(1, 2)).transpose(2, 3)


class CollaborativeDilatedAttention(nn.Module):
    """Both views query their joint map. Each view has its own weights; the sub-grids of the close view share theirs."""

    def __init__(
        self, dim: int, n_view: int, *, slice_size: int = 5, mask_padding: bool = False, remote: bool, close: bool
    ) -> None:
        """Build for `dim` channels.

        Args:
            dim: channels of the last stage.
            n_view: N; the close map is queried by its N x N strided sub-grids.
            slice_size: S, columns of a slice.
            mask_padding: keep attention off the rows beyond the map.
            remote: whether the model has the remote view.
            close: whether the model has the close view.
        """
        super().__init__()
        self.n_view, self.slice_size = n_view, slice_size
        self.joint = nn.Linear((remote + close) * dim, dim)
        self.remote = RowColumnAttention(dim, slice_size, mask_padding=mask_padding) if remote else None
        self.close = RowColumnAttention(dim, slice_size, mask_padding=mask_padding) if close else None

    def forward(self, views: Views) -> Views:
        """Return the enhanced maps, at sides of ceil(H / S) S (remote) and N ceil(H / S) S (close)."""
        height, width = self._sides(views)
        remote_BHWC = None if views.remote is None else resize(views.remote, height, width)
        parts = [] if remote_BHWC is None else [remote_BHWC]
        if views.close is not None:
            parts.append(resize(views.close, height, width))
        joint_BHWC = self.joint(torch.cat(parts, dim=-1))
        if self.remote is not None and remote_BHWC is not None:
            remote_BHWC = self.remote(remote_BHWC[:, None], joint_BHWC)[:, 0]
        close_BHWC = None
        if self.close is not None and views.close is not None:
            close_BHWC = resize(views.close, self.n_view * height, self.n_view * width)
            close_BHWC = self._from_grids(self.close(self._to_grids(close_BHWC), joint_BHWC))
        return Views(remote_BHWC, close_BHWC)

    def _sides(self, views: Views) -> tuple[int, int]:
        """The adjusted height and width: multiples of the slice size."""
        side_map, parts = (views.close, self.n_view) if views.remote is None else (views.remote, 1)
        assert side_map is not None
        height, width = (-(-(side // parts) // self.slice_size) * self.slice_size for side in side_map.shape[1:3])
        return height, width

    def _to_grids(self, x_BHWC: Tensor) -> Tensor:
        """Sub-grids x[:, n1::N, n2::N], stacked to (B, N N, H / N, W / N, C)."""
        batch, height, width, dim = x_BHWC.shape
        n = self.n_view
        x_BHWC = x_BHWC.reshape(batch, height // n, n, width // n, n, dim).permute(0, 2, 4, 1, 3, 5)
        return x_BHWC.reshape(batch, n * n, height // n, width // n, dim)

    def _from_grids(self, x_BMHWC: Tensor) -> Tensor:
        """Undo `_to_grids`."""
        batch, _, height, width, dim = x_BMHWC.shape
        n = self.n_view
        x_BMHWC = x_BMHWC.reshape(batch, n, n, height, width, dim).permute(0, 3, 1, 4, 2, 5)
        return x_BMHWC.reshape(batch, n * height, n * width, dim)
