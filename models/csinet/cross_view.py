"""Cross-view semantics interaction: attention between corresponding windows of the two views (Equations 5 to 9)."""

# M = positions of the other view's window

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .views import resize


def to_windows(x_BHWC: Tensor, height: int, width: int) -> Tensor:
    """Cut maps into windows: (B, rows h, cols w, C) -> (B rows cols, h w, C)."""
    batch, full_height, full_width, dim = x_BHWC.shape
    x_BHWC = x_BHWC.reshape(batch, full_height // height, height, full_width // width, width, dim).transpose(2, 3)
    return x_BHWC.reshape(-1, height * width, dim)


def from_windows(x_BNC: Tensor, rows: int, cols: int, height: int, width: int) -> Tensor:
    """Undo `to_windows`: (B rows cols, h w, C) -> (B, rows h, cols w, C)."""
    x_BHWC = x_BNC.view(-1, rows, cols, height, width, x_BNC.shape[-1]).transpose(2, 3)
    return x_BHWC.reshape(x_BHWC.shape[0], rows * height, cols * width, x_BNC.shape[-1])


class WindowCrossAttention(nn.Module):
    """One direction: the windows of one view query those of the other, and an FFN integrates the result.

    One head, scaled by sqrt(C). The keys' projection has no bias, because the softmax cancels it.
    """

    def __init__(self, dim: int, *, keep_own: bool = True) -> None:
        """Build for `dim` channels; `keep_own` starts the FFN as the identity on the view's own tokens."""
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.integrate = nn.Linear(2 * dim, dim)
        if keep_own:
            self._keep_own_tokens(dim)

    @torch.no_grad()
    def _keep_own_tokens(self, dim: int) -> None:
        """Start the FFN with the identity on the view's own tokens and small random weights on the attended ones.

        A random FFN without a residual would hand unrelated tokens to the next stage of a pretrained encoder.
        """
        nn.init.trunc_normal_(self.integrate.weight, std=0.02)
        self.integrate.weight[:, :dim] = torch.eye(dim)
        nn.init.zeros_(self.integrate.bias)

    def attend(self, queries_BNC: Tensor, others_BMC: Tensor) -> Tensor:
        """Let N positions attend to the M positions of the same window in the other view; return (windows, N, C)."""
        query, key, value = self.query(queries_BNC), self.key(others_BMC), self.value(others_BMC)
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]


class CrossViewWindows(nn.Module):
    """Second step of CVWin: windows of S x S positions in the remote map face N S x N S in the close map."""

    def __init__(
        self,
        dim: int,
        window: int,
        n_view: int,
        *,
        to_remote: bool = True,
        to_close: bool = True,
        keep_own: bool = True,
    ) -> None:
        """Build for `dim` channels.

        Args:
            dim: channels of both maps.
            window: S; a remote map that is smaller is one window, as in the Swin encoder.
            n_view: N.
            to_remote: close-view details go to the remote map.
            to_close: remote-view semantics go to the close map.
            keep_own: see `WindowCrossAttention`.
        """
        super().__init__()
        self.window, self.n_view = window, n_view
        self.to_remote = WindowCrossAttention(dim, keep_own=keep_own) if to_remote else None
        self.to_close = WindowCrossAttention(dim, keep_own=keep_own) if to_close else None

    def forward(self, remote_BHWC: Tensor, close_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Return both enhanced maps, (B, H, W, C) and (B, N H, N W, C).

        If the windows do not divide the maps, the maps are resized to ceil(H / S) S and ceil(H / S) N S for the
        attention, and its output is resized back.
        """
        height, width = remote_BHWC.shape[1:3]
        size = min(self.window, height), min(self.window, width)
        wide = size[0] * self.n_view, size[1] * self.n_view
        grid = -(-height // size[0]), -(-width // size[1])
        remote_BNC = to_windows(resize(remote_BHWC, grid[0] * size[0], grid[1] * size[1]), *size)
        close_BNC = to_windows(resize(close_BHWC, grid[0] * wide[0], grid[1] * wide[1]), *wide)
        return (
            self._enhance(self.to_remote, remote_BHWC, remote_BNC, close_BNC, grid, size),
            self._enhance(self.to_close, close_BHWC, close_BNC, remote_BNC, grid, wide),
        )

    @staticmethod
    def _enhance(
        direction: WindowCrossAttention | None,
        x_BHWC: Tensor,
        queries_BNC: Tensor,
        others_BNC: Tensor,
        grid: tuple[int, int],
        size: tuple[int, int],
    ) -> Tensor:
        """Return `x_BHWC`, integrated with the attended features of the other view."""
        if direction is None:
            return x_BHWC
        found_BHWC = from_windows(direction.attend(queries_BNC, others_BNC), *grid, *size)
        found_BHWC = resize(found_BHWC, x_BHWC.shape[1], x_BHWC.shape[2])
        return direction.integrate(torch.cat([x_BHWC, found_BHWC], dim=-1))


class SummedViews(nn.Module):
    """Table V, "Direct Sum": the other view's map, resized bilinearly, is added; no parameters."""

    def __init__(self, *, to_remote: bool = True, to_close: bool = True) -> None:
        """Choose the directions, as in `CrossViewWindows`."""
        super().__init__()
        self.to_remote, self.to_close = to_remote, to_close

    def forward(self, remote_BHWC: Tensor, close_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps, each with the other one added."""
        remote_size, close_size = remote_BHWC.shape[1:3], close_BHWC.shape[1:3]
        return (
            remote_BHWC + resize(close_BHWC, *remote_size) if self.to_remote else remote_BHWC,
            close_BHWC + resize(remote_BHWC, *close_size) if self.to_close else close_BHWC,
        )
