"""RRN: Referring Image Segmentation via Recurrent Refinement Networks.

Ruiyu Li, Kaican Li, Yi-Chun Kuo, Michelle Shu, Xiaojuan Qi, Xiaoyong Shen, Jiaya Jia. CVPR 2018. Official code:
https://github.com/liruiyu/referseg_rrn (TensorFlow 1, no licence; none of it is copied here). The tables of the remote
sensing papers print it as RRN, RNN and ConvLSTM.

The sentence joins the deepest map once. A ConvLSTM refines the result with the maps C5, C4 and C3 in turn.

Tests hold logits, gradients and three training steps to the authors' graph. Deviations from the authors' code:
    - ResNet-101 of ImageNet classification in place of DeepLab-v2's on Caffe, RGB and the suite's normalisation;
      `vision.layout=deeplab` is the authors' layout for weights that are converted from it.
    - The vocabulary consists of the training expressions; the authors' has 12,112 words, which is the cap here.
    - Loss: the mean over pixels instead of the sum, with Adam's eps smaller by the same factor; batches of 8 instead of
      1. The authors' weight decay is 5e-9 of the mean loss and is left out.
    - DenseCRF is left out. The protocol resizes and thresholds the logits.
    - A row without words has a zero sentence vector; the authors' graph cannot take it.

Printed numbers on remote sensing images, test (FIANet Tables I and III; SGSRF Table 5):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  31.21    23.39    15.30    7.59     1.10     66.12  43.34
    RRSIS-D   51.07    42.11    32.77    21.57    6.37     66.43  45.64
    RISBench  55.04    47.13    39.86    32.58    13.24    49.67  43.18
    ========  =======  =======  =======  =======  =======  =====  =====

CSINet and SGSRF print 30.26 Pr@0.5, 65.06 oIoU and 41.88 mIoU for RefSegRS. No paper says how these rows were trained.

Parameters at paper size: 71.873 M (42.500 M backbone, 12.112 M word table, 17.261 M the rest).
"""

# G = cells per side of the grid

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_bench.interfaces import SegmenterOutput

from .blocks.classic import COORDINATES, ClassicSegmenter, ConvLSTM, l2


class RRN(ClassicSegmenter):
    """Fusion of sentence and deepest map, refined by a ConvLSTM; see the header of this file."""

    version = 1

    def __init__(
        self,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        visual_width: int,
        width: int,
    ) -> None:
        """Build the model; the values are in ``conf/model/rrn.yaml``.

        Args:
            views: see `ClassicSegmenter`.
            max_tokens: see `ClassicSegmenter`.
            vision: see `ClassicSegmenter`.
            text: see `ClassicSegmenter`.
            visual_width: channels of the map that the sentence joins.
            width: channels of the ConvLSTM.
        """
        super().__init__(views, max_tokens, vision, text)
        self.visual = nn.Conv2d(self.backbone.widths["c5"], visual_width, 1)
        self.fusion = nn.Conv2d(visual_width + self.words.width + COORDINATES, width, 1)
        self.laterals = self.convs_of_levels(width)
        self.refinement = ConvLSTM(width, self.grid)
        self.score = nn.Conv2d(width, 1, 3, padding=1)
        self.start_head()

    def project(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the map ``visual`` for the fusion, and the maps ``c5``, ``c4`` and ``c3`` for the refinement."""
        laterals = {tap: torch.relu(lateral(maps[tap])) for tap, lateral in self.laterals.items()}
        return {"visual": l2(self.visual(maps["c5"])), **laterals}

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/8, S/8)."""
        joined = self.with_sentence(encoded["visual"], text)
        steps = [torch.relu(self.fusion(joined)), *(encoded[tap] for tap in self.laterals)]
        return SegmenterOutput(self.score(self.refinement(steps))[:, 0])
