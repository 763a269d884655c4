"""The two views of a scene as one batch, and back: patches of the close view beside the whole remote view."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def cut(x_BHWC: Tensor, n_view: int) -> Tensor:
    """Cut every map into `n_view` x `n_view` patches: (B, N h, N w, C) -> (B N N, h, w, C), row by row."""
    batch, height, width, dim = x_BHWC.shape
    high, wide = height // n_view, width // n_view
    x_BHWC = x_BHWC.view(batch, n_view, high, n_view, wide, dim).transpose(2, 3)
    return x_BHWC.reshape(batch * n_view * n_view, high, wide, dim)


def assemble(x_BHWC: Tensor, n_view: int) -> Tensor:
    """Put the patches back where `cut` took them from (Equation 4): (B N N, h, w, C) -> (B, N h, N w, C)."""
    patches, high, wide, dim = x_BHWC.shape
    x_BHWC = x_BHWC.reshape(-1, n_view, n_view, high, wide, dim).transpose(2, 3)
    return x_BHWC.reshape(patches // n_view**2, n_view * high, n_view * wide, dim)


def resize(x_BHWC: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of (B, H, W, C) without aligned corners; the map itself if it has that size."""
    if x_BHWC.shape[1:3] == (height, width):
        return x_BHWC
    x_BCHW = x_BHWC.permute(0, 3, 1, 2)
    return F.interpolate(x_BCHW, size=(height, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


class Views(NamedTuple):
    """Maps of the scene at one stage; a view that the model does not have is None.

    Attributes:
        remote: (B, h, w, C).
        close: (B, N h, N w, C), assembled.
    """

    remote: Tensor | None
    close: Tensor | None

    def to_batch(self, n_view: int) -> Tensor:
        """One batch (B (1 + N N), h, w, C): all remote maps first, then the patches of the close ones."""
        parts = [] if self.remote is None else [self.remote]
        if self.close is not None:
            parts.append(cut(self.close, n_view))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    @classmethod
    def from_batch(cls, x_BHWC: Tensor, batch: int, n_view: int, *, remote: bool, close: bool) -> Views:
        """Undo `to_batch` for `batch` scenes."""
        # `split` instead of slices: the gradient of each slice would fill a batch with zeros.
        head, patches = x_BHWC.split([batch * remote, len(x_BHWC) - batch * remote])
        return cls(head if remote else None, assemble(patches, n_view) if close else None)
