"""Pixel-word attention and PWAM, the language fusion that LAVT introduced and its descendants share.

Yang et al., "LAVT: Language-Aware Vision Transformer for Referring Image Segmentation", CVPR 2022, Section 3.2.
Feature maps travel as tokens (B, N, C), so that the papers' 1 x 1 convolutions are linear layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def instance_norm(x_BNC: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise every channel of every sample over the N positions; no parameters, no running statistics."""
    centred_BNC = x_BNC - x_BNC.mean(1, keepdim=True)
    return centred_BNC * torch.rsqrt(centred_BNC.square().mean(1, keepdim=True) + eps)


class PixelWordAttention(nn.Module):
    """Every position of the map attends to the words (LAVT, Equations 1 to 5).

    `out` has a bias because the authors' files have one. The normalisation after it cancels the bias, which therefore
    has no effect and is frozen.
    """

    def __init__(self, dim: int, text_dim: int, heads: int = 1) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features; keys and values have `dim` channels.

        Args:
            dim: C, a multiple of `heads`.
            text_dim: D.
            heads: attention heads. Scores are scaled by the whole width in any case, as in the authors' code.
        """
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(text_dim, dim)
        self.value = nn.Linear(text_dim, dim)
        self.out = nn.Linear(dim, dim)
        self.out.bias.requires_grad_(False)

    def forward(self, x_BNC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, N, C).

        Args:
            x_BNC: the map's positions.
            words_BLD: word features.
            mask_BL: 1 for words that may be attended to. The output is 0 if there are none.
        """
        batch, heads = len(x_BNC), self.heads
        mask_BL = mask_BL.to(x_BNC.dtype)
        query_BNC = instance_norm(self.query(x_BNC)) * x_BNC.shape[-1] ** -0.5
        key_BLC = self.key(words_BLD) * mask_BL[..., None]
        # Padding gets -1e4 and not -inf, so that a row without words stays finite, as in the authors' code. Its keys
        # are 0, so its weights are equal everywhere, and nothing is left of them below.
        scores = torch.baddbmm(
            (1e4 * (mask_BL[:, None] - 1)).repeat_interleave(heads, dim=0),
            self._split(query_BNC),
            self._split(key_BLC).transpose(1, 2),
        )  # (B * heads, N, L)
        # The last normalisation removes the mean over the positions, and the bias of the output projection with it.
        # Without that mean in the weights, small differences between positions keep their digits in bf16 and float32.
        weights = scores.softmax(-1)
        weights = weights - weights.mean(1, keepdim=True)
        # The projection is linear in the values: projecting L words per head is cheaper than projecting N positions.
        value_BLC = self.value(words_BLD)
        parts = zip(value_BLC.chunk(heads, dim=2), self.out.weight.chunk(heads, dim=1), strict=True)
        projected = torch.cat([F.linear(value, weight) for value, weight in parts], dim=1)  # (B, heads * L, C)
        weights = weights.unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)  # (B, N, heads * L)
        return instance_norm(weights @ projected)

    def _split(self, x_BNC: Tensor) -> Tensor:
        """Return (B * heads, N, C / heads)."""
        return x_BNC.unflatten(2, (self.heads, -1)).transpose(1, 2).flatten(0, 1)


class PWAM(nn.Module):
    """Pixel-word attention module: projected map times attended words, projected again (LAVT, Equations 6 and 7)."""

    def __init__(self, dim: int, text_dim: int, heads: int = 1) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features; `heads` as in `PixelWordAttention`."""
        super().__init__()
        self.visual = nn.Linear(dim, dim)
        self.attention = PixelWordAttention(dim, text_dim, heads)
        self.mix = nn.Linear(dim, dim)

    def forward(self, x_BNC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the language-aware features (B, N, C)."""
        return F.gelu(self.mix(F.gelu(self.visual(x_BNC)) * self.attention(x_BNC, words_BLD, mask_BL)))


class LanguageGate(nn.Module):
    """Weights features element by element: tanh(W2 relu(W1 r)) * r, no biases (LAVT, Section 3.3)."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.inner = nn.Linear(dim, dim, bias=False)
        self.outer = nn.Linear(dim, dim, bias=False)

    def forward(self, r_BNC: Tensor) -> Tensor:
        """Return the gated features (B, N, C)."""
        return torch.tanh(self.outer(F.relu(self.inner(r_BNC)))) * r_BNC


class GatedPWAM(nn.Module):
    """Language pathway of one stage: x + gate(r) * r with r = PWAM(x, words) (LAVT, Section 3.3)."""

    def __init__(self, dim: int, text_dim: int, *, heads: int = 1, gated: bool = True) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features; `heads` as in `PixelWordAttention`.

        `gated` is False for a last stage whose fused tokens are never read: they are not computed.
        """
        super().__init__()
        self.pwam = PWAM(dim, text_dim, heads)
        self.gate = LanguageGate(dim) if gated else None

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused tokens and the PWAM output before its gate, both (B, H, W, C)."""
        r_BNC = self.pwam(x_BHWC.flatten(1, 2), words_BLD, mask_BL)
        fused_BHWC = x_BHWC if self.gate is None else x_BHWC + self.gate(r_BNC).view_as(x_BHWC)
        return fused_BHWC, r_BNC.view_as(x_BHWC)
