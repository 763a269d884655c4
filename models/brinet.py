"""BRINet: Bi-directional Relationship Inferring Network for Referring Image Segmentation.

Zhiwei Hu, Guang Feng, Jiayu Sun, Lihe Zhang, Huchuan Lu. CVPR 2020. Official code:
https://github.com/fengguang94/CVPR2020-BRINet (TensorFlow 1, no licence; none of it is copied here).

Per level, each position collects the words that it asks for, and these words decide how positions spread their
features. Gates then fuse three levels from deep to shallow and back.

Tests hold logits, side maps, gradients and three training steps to the authors' graph. Its peculiarities are kept:
    - The slots behind a sentence take part in the attention to words as zero vectors: they drain weight.
    - The relation between positions has rows that sum to 1, but its columns weight the sum: it spreads features. The
      paper reads as the transpose.
    - The sentence vector is not normalised, the visual maps are.

Deviations from the authors' code:
    - ResNet-101 of ImageNet classification in place of DeepLab-v2's on Caffe, as in `rrn`.
    - The vocabulary consists of the training expressions; the authors' has 12,112 words, which is the cap here.
    - Loss: the mean over pixels at the view's size in place of the sum over the 40 x 40 cells, with a smaller eps of
      Adam: with 1e-8 the relation's weights would hardly move. Batches of 8 instead of 1, no weight decay.
    - DenseCRF is left out. The protocol resizes and thresholds the logits.

Printed numbers on remote sensing images, test (FIANet Tables I and III; SGSRF Table 5):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  22.56    15.74    9.85     3.52     0.50     60.16  32.87
    RRSIS-D   56.90    48.77    39.12    27.03    8.73     69.88  49.65
    RISBench  52.87    45.39    38.64    30.79    11.86    48.73  42.91
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 241.180 M (42.500 M backbone, 12.112 M word table, 186.568 M the rest).
"""

# G = cells per side of the grid, N = G * G, T = word slots

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from .blocks.classic import COORDINATES, LEVELS, ClassicSegmenter, glorot, spread

DILATIONS = (1, 3, 5, 7)
DILATED_STD = 0.01
RELATION_WIDTH = 500


class BRINet(ClassicSegmenter):
    """Bi-directional attention per level, then gated fusion in both directions; see the header of this file."""

    version = 1
    contract = Contract(dead_parameters=r"scores\.")  # of the side maps

    def __init__(
        self,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        slots: int,
        visual_width: int,
        dilated_width: int,
    ) -> None:
        """Build the model; the values are in ``conf/model/brinet.yaml``.

        Args:
            views: see `ClassicSegmenter`.
            max_tokens: see `ClassicSegmenter`.
            vision: see `ClassicSegmenter`.
            text: see `ClassicSegmenter`; its width is that of all maps behind the attention.
            slots: word slots of the attention to words. A sentence with fewer words leaves the others zero.
            visual_width: channels of a level's visual map.
            dilated_width: channels of each dilated convolution.
        """
        super().__init__(views, max_tokens, vision, text)
        width = self.words.width
        self.slots = slots
        self.laterals = self.convs_of_levels(visual_width)
        self.attentions = nn.ModuleDict(
            {level: CrossAttention(visual_width, width, dilated_width, self.grid) for level in LEVELS}
        )
        self.scores = nn.ModuleDict({level: nn.Conv2d(width, 1, 1) for level in LEVELS})
        self.gates = nn.ModuleDict({name: Gate(width) for name in ("l_45", "l_34", "left", "r_34", "r_45", "right")})
        self.out = nn.Conv2d(width, width, 3, padding=1)
        self.score = nn.Conv2d(width, 1, 1)
        self.start_head(besides=("attentions",))

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/8, S/8); in training with the side maps ``c5``, ``c4`` and ``c3``."""
        words = self.words.read(text["input_ids"], text["word_mask"])
        slots_BTC = F.pad(words.hidden_BLD, (0, 0, 0, self.slots - words.hidden_BLD.shape[1]))
        maps, sides = {}, {}
        for level in LEVELS:
            visual = encoded[level]
            joined = torch.cat([spread(words.last_BD, visual), visual, self.places(visual)], dim=1)
            maps[level] = self.attentions[level](joined, slots_BTC)
            if self.training:
                sides[level] = (1.0, self.scores[level](maps[level])[:, 0])
        c5, c4, c3 = (maps[level] for level in LEVELS)
        gates = self.gates
        left = gates["left"](gates["l_45"](c5, c4), gates["l_34"](c4, c3))
        right = gates["right"](gates["r_34"](c3, c4), gates["r_45"](c4, c5))
        return SegmenterOutput(self.score(torch.relu(self.out(left + right)))[:, 0], side_logits=sides)


class CrossAttention(nn.Module):
    """Attention from positions to words, and from these words to positions, with dilated convolutions behind."""

    def __init__(self, visual_width: int, width: int, dilated_width: int, grid: int) -> None:
        """Build the module for maps of sentence (`width`), vision (`visual_width`) and coordinates."""
        super().__init__()
        given = width + visual_width + COORDINATES
        self.asking, self.relating, self.spreading, self.kept = (nn.Conv2d(given, width, 1) for _ in range(4))
        self.from_words = nn.Linear(width, RELATION_WIDTH, bias=False)
        self.from_vision = nn.Linear(width, RELATION_WIDTH, bias=False)
        self.positions_NC = nn.Parameter(torch.empty(grid * grid, RELATION_WIDTH))
        nn.init.xavier_uniform_(self.positions_NC)
        self.merged = nn.Conv2d(2 * width, width, 1)
        self.dilated = nn.ModuleList(
            nn.Conv2d(width, dilated_width, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS
        )
        self.out = nn.Conv2d(len(DILATIONS) * dilated_width + width, width, 1)
        self.apply(glorot)
        for conv in self.dilated:
            assert isinstance(conv, nn.Conv2d)
            nn.init.normal_(conv.weight, std=DILATED_STD)

    def forward(self, joined_BCGG: Tensor, slots_BTC: Tensor) -> Tensor:
        """Return a map (B, width, G, G).

        Args:
            joined_BCGG: sentence, visual map and coordinates, in this order.
            slots_BTC: hidden states of the words, zero in the slots behind the sentence. The zero slots stay in the
                softmax: they take weight and add nothing.
        """
        asking, relating, spreading, kept = (
            torch.relu(conv(joined_BCGG)) for conv in (self.asking, self.relating, self.spreading, self.kept)
        )
        attended_BNT = (asking.flatten(2).mT @ slots_BTC.mT).softmax(2)
        words_BNC = attended_BNT @ slots_BTC
        hidden_BNC = torch.tanh(self.from_words(words_BNC) + self.from_vision(relating.flatten(2).mT))
        relation_BNn = (self.positions_NC @ hidden_BNC.mT).softmax(2)
        spread_BCn = spreading.flatten(2) @ relation_BNn  # summed over the rows, each of which sums to 1
        both = torch.cat([spread_BCn, words_BNC.mT], dim=1).unflatten(2, kept.shape[2:])
        summed = torch.relu(self.merged(both)) + kept
        return torch.relu(self.out(torch.cat([*(conv(summed) for conv in self.dilated), summed], dim=1)))


class Gate(nn.Module):
    """A map passes a gate that both maps make, and joins the other one."""

    def __init__(self, width: int) -> None:
        """Build the gate for two maps (B, `width`, G, G)."""
        super().__init__()
        self.feature = nn.Conv2d(2 * width, width, 1)
        self.gate = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, gated_BCGG: Tensor, added_BCGG: Tensor) -> Tensor:
        """Return gate * gated + added."""
        feature = torch.relu(self.feature(torch.cat([gated_BCGG, added_BCGG], dim=1)))
        return torch.sigmoid(self.gate(feature)) * gated_BCGG + added_BCGG
