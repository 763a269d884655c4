"""The top-down decoder of LAVT, used by its descendants as well; RMSIN puts rotated convolutions into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rotated import AdaptiveRotatedConv

Second = Callable[[int], nn.Module]


class ConvStep(nn.Module):
    """Upsample, concatenate with the finer map, then twice convolution 3 x 3, BatchNorm and ReLU."""

    def __init__(
        self, in_dim: int, hidden: int, *, rotated: bool = False, second: Second | None = None, bias: bool = False
    ) -> None:
        """Build for `in_dim` concatenated channels and `hidden` channels out.

        `rotated` makes the second convolution an adaptive rotated one (RMSIN). `second` replaces it, its BatchNorm and
        its ReLU by the module that it builds (MAFN). `bias`: the plain convolutions have biases (CGFormer).
        """
        super().__init__()
        self.conv1 = nn.Conv2d(in_dim, hidden, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.second = None if second is None else second(hidden)
        if self.second is not None:
            return
        self.conv2 = (
            AdaptiveRotatedConv(hidden, hidden) if rotated else nn.Conv2d(hidden, hidden, 3, padding=1, bias=bias)
        )
        self.bn2 = nn.BatchNorm2d(hidden)

    def forward(self, coarse_BCHW: Tensor, fine_BCHW: Tensor) -> Tensor:
        """Return (B, hidden, H, W) at the finer map's size."""
        if coarse_BCHW.shape[-2:] != fine_BCHW.shape[-2:]:
            coarse_BCHW = F.interpolate(coarse_BCHW, size=fine_BCHW.shape[-2:], mode="bilinear", align_corners=True)
        x_BCHW = torch.cat([coarse_BCHW, fine_BCHW], dim=1)
        x_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)))
        if self.second is not None:
            x_BCHW = self.second(x_BCHW)
            return x_BCHW
        return F.relu(self.bn2(self.conv2(x_BCHW)))


class TopDownDecoder(nn.Module):
    """Merges the stages from coarse to fine and classifies every position into background and foreground."""

    def __init__(
        self,
        widths: Sequence[int],
        hidden: int | None = None,
        *,
        rotated: bool = False,
        second: Second | None = None,
    ) -> None:
        """Build the steps and the two-class head.

        Args:
            widths: channels of the stage outputs, fine to coarse.
            hidden: channels inside; None is half the last stage's width.
            rotated: the second convolution of every step is an adaptive rotated one (RMSIN).
            second: channels -> the module that replaces the second convolution of a step (MAFN).
        """
        super().__init__()
        hidden = hidden or widths[-1] // 2
        in_dims = [widths[-1]] + [hidden] * (len(widths) - 2)
        finer = reversed(widths[:-1])
        self.steps = nn.ModuleList(
            ConvStep(in_dim + fine, hidden, rotated=rotated, second=second)
            for in_dim, fine in zip(in_dims, finer, strict=True)
        )
        self.head = nn.Conv2d(hidden, 2, 1)

    def features(self, stages: Sequence[Tensor]) -> Tensor:
        """Return (B, hidden, h, w) at the finest stage's size: everything before the head.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
        """
        x_BCHW = stages[-1]
        for step, fine_BCHW in zip(self.steps, reversed(stages[:-1]), strict=True):
            x_BCHW = step(x_BCHW, fine_BCHW)
        return x_BCHW

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return (B, h, w) foreground minus background logits at the finest stage's size.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
        """
        return self.classify(self.features(stages))

    def classify(self, features_BChw: Tensor) -> Tensor:
        """Return (B, h, w) foreground minus background logits of the last step's map."""
        background_Bhw, foreground_Bhw = self.head(features_BChw).unbind(1)
        logits_Bhw: Tensor = foreground_Bhw - background_Bhw
        return logits_Bhw
