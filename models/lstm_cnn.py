"""LSTM-CNN: Segmentation from Natural Language Expressions.

Ronghang Hu, Marcus Rohrbach, Trevor Darrell. ECCV 2016, arXiv 1603.06180. Official code:
https://github.com/ronghanghu/text_objseg (TensorFlow 1, for education, research and not-for-profit use; none of it is
copied here).

The sentence vector of an LSTM joins the visual vector and the coordinates of every cell, and a small classifier scores
the cell. It is `rrn` without the refinement, and the plainest system of the family.

The remote sensing tables do not say which backbone their row had. This is the form in which the next paper of the line
compares it (Liu et al., "Recurrent Multimodal Interaction", ICCV 2017: "DeepLab + LSTM"), so that the CNN and LSTM
systems share one backbone. Tests hold it to plain loops; no outputs of the authors' code are at hand.

Deviations from the paper:
    - ResNet-101 at stride 8, as in `rrn`, in place of a convolutional VGG-16 at stride 32 with a learnt upsampling of
      64 x 64. The published system has 156.174 M parameters with 8,803 words.
    - One training on the masks, in place of three stages (boxes of crops, coarse masks, fine masks) by SGD with
      momentum.
    - The vocabulary consists of the training expressions, with at most 12,112 words as in `rrn`.
    - Loss: the mean over pixels at the view's size in place of the sum over the 40 x 40 cells of the ICCV paper's code,
      with a smaller eps of Adam. Batches of 8 instead of 1, no weight decay.

Printed numbers on remote sensing images, test (FIANet Table I):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  15.69    10.57    5.17     1.10     0.28     53.83  24.76
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 65.670 M (42.500 M backbone, 12.112 M word table, 11.058 M the rest).
"""

# G = cells per side of the grid

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_bench.interfaces import SegmenterOutput

from .blocks.classic import COORDINATES, ClassicSegmenter, l2


class LSTMCNN(ClassicSegmenter):
    """A classifier of every cell on vision, sentence and coordinates; see the header of this file."""

    version = 1
    taps = ("c5",)

    def __init__(
        self,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        visual_width: int,
        width: int,
    ) -> None:
        """Build the model; the values are in ``conf/model/lstm_cnn.yaml``.

        Args:
            views: see `ClassicSegmenter`.
            max_tokens: see `ClassicSegmenter`.
            vision: see `ClassicSegmenter`.
            text: see `ClassicSegmenter`.
            visual_width: channels of the map that the sentence joins.
            width: channels inside the classifier.
        """
        super().__init__(views, max_tokens, vision, text)
        self.visual = nn.Conv2d(self.backbone.widths["c5"], visual_width, 1)
        self.fusion = nn.Conv2d(visual_width + self.words.width + COORDINATES, width, 1)
        self.score = nn.Conv2d(width, 1, 1)
        self.start_head()

    def project(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the map ``visual`` (B, C, G, G)."""
        return {"visual": l2(self.visual(maps["c5"]))}

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/8, S/8)."""
        joined = self.with_sentence(encoded["visual"], text)
        return SegmenterOutput(self.score(torch.relu(self.fusion(joined)))[:, 0])
