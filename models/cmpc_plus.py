"""CMPC+: Cross-Modal Progressive Comprehension for Referring Segmentation, the image model.

Si Liu, Tianrui Hui, Shaofei Huang, Yunchao Wei, Bo Li, Guanbin Li. TPAMI 2021, arXiv 2105.07175. Official code:
https://github.com/spyflying/CMPC-Refseg (TensorFlow 1, MIT; none of it is copied here).

`cmpc` with another join: per level, the multimodal map in place of the visual one. This is the code that the authors
published. Tests hold logits, side maps, gradients and three training steps to their graph. The deviations from it are
those of `cmpc`.

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
