"""Feed-forward layers with a residual and a norm behind it, for refinement and prompt generation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeedForward(nn.Module):
    """norm(x + W2 gelu(W1 x))."""

    def __init__(self, dim: int, inner: int) -> None:
        """Build for `dim` features with `inner` in between."""
        super().__init__()
        self.mlp = mlp(dim, inner, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return (B, N, C)."""
        return self.norm(x_BNC + self.mlp(x_BNC))

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Start with an addition of 0; call it after `initialise`, which sets the bias to 0."""
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        last.weight.zero_()


def mlp(dim: int, inner: int, out: int) -> nn.Sequential:
    """Build two linear layers with a GELU in between."""
    return nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, out))
