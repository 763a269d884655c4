"""FIANet's fine-grained image-text alignment module (Section III-B, Figures 2 and 3 of the paper)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.attention import PWAM, LanguageGate, PixelWordAttention


class Phrase(NamedTuple):
    """One decoupled text: word features (B, L, D) and the mask (B, L) of the words that belong to it."""

    words_BLD: Tensor
    mask_BL: Tensor


class ObjectBranch(nn.Module):
    """Pixel-word attention to the ground object's words, gated (Equations 1 and 2)."""

    def __init__(self, dim: int, text_dim: int, *, go_embedding: bool) -> None:
        """Build for `dim` channels; `go_embedding` adds the linear layer that the authors' files hold but never use."""
        super().__init__()
        self.attention = PixelWordAttention(dim, text_dim)
        self.gate = LanguageGate(dim)
        if go_embedding:
            self.go_embedding = nn.Linear(dim, dim, bias=False)

    def forward(self, x_BNC: Tensor, phrase: Phrase) -> Tensor:
        """Return the object features (B, N, C)."""
        return self.gate(self.attention(x_BNC, phrase.words_BLD, phrase.mask_BL))


class PositionBranch(nn.Module):
    """A spatial prior from the position's words: attention, mean and maximum over channels, 3 x 3 convolution, sigmoid.

    Equations 3 and 4.
    """

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.attention = PixelWordAttention(dim, text_dim)
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x_BNC: Tensor, phrase: Phrase, size: tuple[int, int]) -> Tensor:
        """Return the prior (B, N, 1), between 0 and 1, of a map of `size` (H, W)."""
        attended_BNC = self.attention(x_BNC, phrase.words_BLD, phrase.mask_BL)
        pooled_B2N = torch.stack([attended_BNC.mean(-1), attended_BNC.amax(-1)], dim=1)
        return torch.sigmoid(self.conv(pooled_B2N.unflatten(2, size))).flatten(2).transpose(1, 2)


class ChannelModulation(nn.Module):
    """Squeeze and excitation weights of the channels (Equation 9)."""

    def __init__(self, dim: int, reduction: int = 8) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.shrink = nn.Linear(dim, dim // reduction)
        self.expand = nn.Linear(dim // reduction, dim)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return the weights (B, 1, C), between 0 and 1."""
        return torch.sigmoid(self.expand(F.relu(self.shrink(x_BNC.mean(1, keepdim=True)))))


class FIAM(nn.Module):
    """Context, object and position alignment of one stage, with channel modulation.

    With all three switches off, this is LAVT's gated PWAM (the first row of Table VI).
    """

    def __init__(
        self,
        dim: int,
        text_dim: int,
        *,
        channel_modulation: bool = True,
        modulate_fused: bool = False,
        object_branch: bool = True,
        position_branch: bool = True,
        go_embedding: bool = False,
    ) -> None:
        """Build for maps of `dim` channels; the switches are the rows of Table VI.

        `modulate_fused` computes the channel weights from the fused features (Equation 9), not from the map.
        """
        super().__init__()
        self.modulate_fused = modulate_fused
        self.context = PWAM(dim, text_dim)
        self.context_gate = LanguageGate(dim)
        self.object = ObjectBranch(dim, text_dim, go_embedding=go_embedding) if object_branch else None
        self.position = PositionBranch(dim, text_dim) if position_branch else None
        self.modulation = ChannelModulation(dim) if channel_modulation else None

    def forward(
        self, x_BHWC: Tensor, context: Phrase, target: Phrase | None, position: Phrase | None
    ) -> tuple[Tensor, Tensor]:
        """Fuse the texts into the map.

        Args:
            x_BHWC: the stage's tokens.
            context: the whole expression.
            target: the ground object's text; needed with the object branch.
            position: the spatial position's text; needed with the position branch. Without the object branch, which
                the paper never prints, its prior weighs the context features instead.

        Returns:
            The fused tokens (Equation 10) and the context's PWAM output before its gate, both (B, H, W, C).
        """
        height, width = x_BHWC.shape[1:3]
        x_BNC = x_BHWC.flatten(1, 2)
        context_BNC = self.context(x_BNC, context.words_BLD, context.mask_BL)
        fused_BNC = self.context_gate(context_BNC)
        prior_BN1: Tensor | float = 1.0
        if self.position is not None and position is not None:
            prior_BN1 = self.position(x_BNC, position, (height, width))
        if self.object is not None and target is not None:
            fused_BNC = fused_BNC + self.object(x_BNC, target) * prior_BN1
        else:
            fused_BNC = fused_BNC * prior_BN1
        if self.modulation is not None:
            fused_BNC = fused_BNC * self.modulation(fused_BNC if self.modulate_fused else x_BNC)
        return (x_BNC + fused_BNC).view_as(x_BHWC), context_BNC.view_as(x_BHWC)
