"""MAFN: Multimodal-Aware Fusion Network for Referring Remote Sensing Image Segmentation.

L. Shi, J. Zhang. IEEE GRSL 2025, volume 22, article 8001805, arXiv 2503.11183.
Official code: https://github.com/Roaxy/MAFN (no licence file; none of it is copied here).
Released weights: RRSIS-D, linked in that README, selected on val by oIoU.

RMSIN with three changes: learned noise behind the window attention of every Swin block (`noise`), a fusion of the gated
language and the gated visual residual by their correlation (`correlation`), and blocks of depthwise and rotated
convolutions in the decoder (`decoder`).

What the authors' code does and a reader does not expect:
    - "Noise" is a learned constant. Nothing is random at run time. The second rows of its tables are never read.
    - The fusion, the gates and the visual residual of the last stage have no effect: 54,122,140 parameters, which are
      left out here and named on import.
    - The rotated convolution of a decoder block is one for all kernels. Its result behind the last kernel is not read.
    - Padded positions of a window take part in the mixing.
    - The authors' test script loads files without checking that all blocks are there. The importer is strict.

Uncertain: start values of the noise attention and the fusion, which are PyTorch's and Swin's here.

Deviations from the code: those of `models.rmsin`. The Dice loss smooths with 1.

Printed numbers on RRSIS-D (SGSRF's Table 3; val also in the README of the code):

    ====  =======  =======  =======  =======  =======  =====  =====
    part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ====  =======  =======  =======  =======  =======  =====  =====
    val   76.32    69.31    58.33    44.54    24.71    78.33  66.03
    test  75.27    68.14    56.79    43.49    23.76    77.41  64.76
    ====  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 295.935 M (295 934 759; 350 056 899 in the authors' file).
"""

from .network import MAFN

__all__ = ["MAFN"]
