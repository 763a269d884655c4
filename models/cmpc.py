"""CMPC: Referring Image Segmentation via Cross-Modal Progressive Comprehension.

Shaofei Huang, Tianrui Hui, Si Liu, Guanbin Li, Yunchao Wei, Jizhong Han, Luoqi Liu, Bo Li. CVPR 2020, arXiv
2010.00514. Official code:
https://github.com/spyflying/CMPC-Refseg (TensorFlow 1, MIT; none of it is copied here).

Entities and attributes of the sentence select regions, relation words connect them in a graph over all positions, and
three levels exchange features under the sentence before a ConvLSTM joins them.

The published code is CMPC+ (`cmpc_plus`): its authors changed the join per level and call the result updated. That
CMPC joined the visual map in place of the multimodal one is inferred from their video model. Tests hold this switch to
the authors' graph with that one word changed.

Deviations from the authors' code:
    - ResNet-101 of ImageNet classification in place of DeepLab-v2's on Caffe, as in `rrn`.
    - The vocabulary consists of the training expressions, with random vectors of GloVe's scale;
      ``text.weights=glove:FILE`` reads GloVe's. The authors start from GloVe 840B and train it too.
    - Loss: the mean over pixels instead of the sum, with Adam's eps smaller by the same factor: with 1e-8 the
      attention of the exchange would get a small part of the authors' step. Batches of 8 instead of 1, no weight decay.
    - The norm of the exchange's context is taken per sample; the authors' batch has one.
    - DenseCRF is left out. The protocol resizes and thresholds the logits.

Printed numbers on remote sensing images, test (CSINet Tables I to III):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  32.36    14.14    6.55     1.76     0.22     55.39  40.63
    RRSIS-D   55.83    47.40    36.94    25.45    9.19     69.22  49.24
    RISBench  55.17    47.84    40.28    32.87    14.55    50.24  43.82
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 118.556 M (42.500 M backbone, 3.634 M word table, 72.422 M the rest).
"""

from __future__ import annotations

from .blocks.cmpc import CMPCSegmenter


class CMPC(CMPCSegmenter):
    """The join reads the visual map; see the header of this file."""

    version = 1
    joined = "visual"
