"""MAFN's correlation-aware fusion of the gated visual residual and the gated language of a stage."""

# K = positions of a window, s = side of a window

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from ..blocks.intra_scale import IntraScaleInteraction

WINDOWS = (3, 5, 7)
REDUCTION = 4


def correlation(a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
    """Return (B, 9, H, W): mean over the channels of a times b, which is shifted by -1, 0 and 1 rows and columns."""
    height, width = a_BCHW.shape[-2:]
    padded = F.pad(b_BCHW, (1, 1, 1, 1))
    shifts = [
        (a_BCHW * padded[..., row : row + height, col : col + width]).mean(1) for row in range(3) for col in range(3)
    ]
    return torch.stack(shifts, dim=1)


class WindowMLP(nn.Module):
    """A gated MLP over the positions of windows, with a residual. The map is padded with zeros at right and bottom.

    Padded positions are not neutral: their norm gives its bias, and they take part in the mixing of their window.
    """

    def __init__(self, dim: int, side: int) -> None:
        """Build for `dim` channels and windows of `side` x `side` positions."""
        super().__init__()
        self.side = side
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.gate_norm = nn.LayerNorm(dim)
        self.mix = nn.Linear(side**2, side**2)
        self.shrink = nn.Linear(dim, dim)

    def forward(self, y_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        _, height, width, _ = y_BHWC.shape
        side = self.side
        padded = F.pad(y_BHWC, (0, 0, 0, -width % side, 0, -height % side))
        split = padded.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)  # (B, rows, cols, s, s, C)
        windows = split.flatten(3, 4)
        value, gate = F.gelu(self.expand(self.norm(windows))).chunk(2, dim=-1)
        gate = self.mix(self.gate_norm(gate).transpose(-1, -2)).transpose(-1, -2)
        windows = windows + self.shrink(value * (gate + 1))
        merged = windows.view_as(split).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return merged[:, :height, :width]


class MultiWindowMLP(nn.Module):
    """Three window MLPs, weighted per channel by the whole map, with a residual."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.branches = nn.ModuleList(WindowMLP(dim, side) for side in WINDOWS)
        self.weigh = Mlp(dim, dim // REDUCTION, len(WINDOWS) * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, u_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        y_BHWC = self.norm(u_BHWC)
        branches = torch.stack([branch(y_BHWC) for branch in self.branches], dim=-1)  # (B, H, W, C, 3)
        weights = self.weigh(branches.sum(-1).mean((1, 2))).unflatten(1, (-1, len(WINDOWS))).softmax(-1)
        out_BHWC: Tensor = u_BHWC + self.out((branches * weights[:, None, None]).sum(-1))
        return out_BHWC


class ChannelAttentionBlock(nn.Module):
    """Norm, two convolutions, weights per channel from their mean, with a residual."""

    def __init__(self, dim: int) -> None:
        """Build for `dim` channels."""
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.shrink = nn.Linear(dim, dim // REDUCTION)
        self.expand = nn.Linear(dim // REDUCTION, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        features_BCHW = self.conv1(self.norm(x_BHWC).permute(0, 3, 1, 2))
        features_BHWC = self.conv2(F.leaky_relu(features_BCHW, 0.2)).permute(0, 2, 3, 1)
        weights_BC = torch.sigmoid(self.expand(F.relu(self.shrink(features_BHWC.mean((1, 2))))))
        return x_BHWC + features_BHWC * weights_BC[:, None, None]


class CorrelationFusion(nn.Module):
    """Fuse two maps and their correlation within 3 x 3 positions."""

    def __init__(self, dim: int) -> None:
        """Build for maps of `dim` channels."""
        super().__init__()
        self.conv = nn.Conv2d(2 * dim + 9, dim, 3, padding=1)
        self.windows = MultiWindowMLP(dim)
        self.channels = ChannelAttentionBlock(dim)

    def forward(self, a_BHWC: Tensor, b_BHWC: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        a_BCHW, b_BCHW = a_BHWC.permute(0, 3, 1, 2), b_BHWC.permute(0, 3, 1, 2)
        u_BHWC = self.conv(torch.cat([a_BCHW, correlation(a_BCHW, b_BCHW), b_BCHW], dim=1)).permute(0, 2, 3, 1)
        out_BHWC: Tensor = self.channels(self.windows(u_BHWC)) + u_BHWC
        return out_BHWC


class CorrelationStage(IntraScaleInteraction):
    """RMSIN's two gated paths, fused by their correlation instead of added: x + F(visual, language)."""

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features."""
        super().__init__(dim, text_dim)
        self.fuse = CorrelationFusion(dim)

    def forward(self, x_BHWC: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused tokens and the PWAM output before its gate, both (B, H, W, C)."""
        language_BHWC, visual_BHWC, r_BHWC = self.paths(x_BHWC, words_BLD, mask_BL)
        return x_BHWC + self.fuse(visual_BHWC, language_BHWC), r_BHWC
