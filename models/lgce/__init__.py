"""LGCE: the language-guided cross-scale enhancement of RRSIS, the first method for remote sensing images.

Zhenghang Yuan, Lichao Mou, Yuansheng Hua, Xiao Xiang Zhu. "RRSIS: Referring Remote Sensing Image Segmentation", IEEE
TGRS 2024, arXiv 2306.08625. Code: https://github.com/zhu-xlab/rrsis (Apache-2.0; it has no model code). No
weights are released.

LAVT with one block in front of the decoder: the mean of the words guides the maps of the two coarsest stages, each
through vision transformer blocks of its own.

What a reader does not expect:
    - The mean is over all 20 slots, pads included. ``model.args.pads=masked`` takes the words alone.
    - The guide tokens are dropped after the blocks. What the authors' code computes from them afterwards has no effect:
      20,045,440 parameters, and 2,097,152 of the last stage's gate, are left out here and named on import.

Uncertain: the published repository lacks the model. The block follows copies of the authors' files elsewhere, and fits
the printed count (276.26 M in SGSRF's Table 6).

Deviations from the code: those of `models.lavt`.

Printed numbers (test; FIANet's Tables I and III, CSINet's Table III):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  76.55    67.03    44.85    19.04    5.67     77.62  61.90
    RRSIS-D   69.41    63.06    53.46    41.22    24.27    76.24  61.02
    RISBench  69.64    64.07    56.26    44.92    25.74    73.87  62.13
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 254.115 M (254 115 194; 276 257 786 in the authors' files).
"""

from .network import LGCE

__all__ = ["LGCE"]
