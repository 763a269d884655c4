"""LSCF's decoder: from coarse to fine, the words fused into every level and the levels merged by frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .freq_fusion import FreqFusion


class ConvNormReLU(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int = 1) -> None:
        """Build for `in_dim` channels in and `out_dim` out."""
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_dim)
        self.relu = nn.ReLU()


class GlobalLanguageFusion(nn.Module):
    """Weight the channels of a map by the sentence, add the map and scale every position to length 1."""

    def __init__(self, dim: int, text_dim: int) -> None:
        """Build for maps of `dim` channels and words of `text_dim` features."""
        super().__init__()
        self.visual = nn.Conv2d(dim, dim, 1)
        self.words = nn.Linear(text_dim, dim)
        self.mix = nn.Conv2d(dim, dim, 1)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x_BCHW: Tensor, words_BLD: Tensor, slots_BL: Tensor, count_B: Tensor) -> Tensor:
        """Return (B, C, H, W).

        Args:
            x_BCHW: the map.
            words_BLD: word features.
            slots_BL: 1 for the slots that enter the sum.
            count_B: what the sum is divided by.
        """
        words_BLC = torch.tanh(self.words(words_BLD)) * slots_BL[..., None]
        sentence_BC = words_BLC.sum(1) / count_B[:, None]
        gated_BCHW = F.relu(torch.tanh(self.visual(x_BCHW)) * sentence_BC[..., None, None])
        return F.normalize(x_BCHW + F.relu(self.bn(self.mix(gated_BCHW))), dim=1)


class FrequencyDecoder(nn.Module):
    """Merge the stages from coarse to fine and classify every position into background and foreground.

    One `FreqFusion` serves all steps, as in the authors' code.
    """

    def __init__(self, widths: Sequence[int], text_dim: int, hidden: int, compressed: int) -> None:
        """Build the levels.

        Args:
            widths: channels of the stage outputs, fine to coarse.
            text_dim: features of a word.
            hidden: channels inside.
            compressed: channels that `FreqFusion` predicts its kernels from.
        """
        super().__init__()
        self.inputs = nn.ModuleList(ConvNormReLU(width, hidden) for width in widths)
        self.language = nn.ModuleList(GlobalLanguageFusion(hidden, text_dim) for _ in widths)
        self.outputs = nn.ModuleList(ConvNormReLU(hidden, hidden) for _ in widths)
        self.merges = nn.ModuleList(ConvNormReLU(2 * hidden, hidden, 3) for _ in widths[:-1])
        self.freq = FreqFusion(hidden, compressed)
        self.head = nn.Conv2d(hidden, 2, 1)

    def forward(self, stages: Sequence[Tensor], words_BLD: Tensor, slots_BL: Tensor, count_B: Tensor) -> Tensor:
        """Return (B, h, w) foreground minus background logits at the finest stage's size.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
            words_BLD: word features.
            slots_BL: 1 for the slots that enter the sentence vector.
            count_B: what its sum is divided by.
        """
        x_BCHW: Tensor | None = None
        for level in reversed(range(len(stages))):
            fine_BCHW = self.inputs[level](stages[level])
            if x_BCHW is not None:
                fine_BCHW = self.merges[level](torch.cat(self.freq(fine_BCHW, x_BCHW), dim=1))
            x_BCHW = self.outputs[level](self.language[level](fine_BCHW, words_BLD, slots_BL, count_B))
        background_Bhw, foreground_Bhw = self.head(x_BCHW).unbind(1)
        return foreground_Bhw - background_Bhw
