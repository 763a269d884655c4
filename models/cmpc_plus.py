"""CMPC+: Cross-Modal Progressive Comprehension for Referring Segmentation, the image model.

Si Liu, Tianrui Hui, Shaofei Huang, Yunchao Wei, Bo Li, Guanbin Li. TPAMI 2021, arXiv 2105.07175. Official code:
https://github.com/spyflying/CMPC-Refseg (TensorFlow 1, MIT; none of it is copied here).

`cmpc` with another join: per level, the multimodal map in place of the visual one. This is the code that the authors
published. Tests hold logits, side maps, gradients and three training steps to their graph.

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
    RefSegRS  49.19    28.31    15.31    8.12     2.55     66.53  43.65
    RRSIS-D   57.65    47.51    36.97    24.33    7.78     68.64  50.24
    RISBench  58.02    49.00    42.53    35.26    17.88    53.98  46.73
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 118.556 M (42.500 M backbone, 3.634 M word table, 72.422 M the rest).
"""

from __future__ import annotations

from .blocks.cmpc import CMPCSegmenter


class CMPCPlus(CMPCSegmenter):
    """The join reads the multimodal map; see the header of this file."""

    version = 1
    joined = "multimodal"
