"""LAVT: Language-Aware Vision Transformer for Referring Image Segmentation.

Zhao Yang, Jiaqi Wang, Yansong Tang, Kai Chen, Hengshuang Zhao, Philip H. S. Torr. CVPR 2022, arXiv 2112.02244.
Official code: https://github.com/yz93/LAVT-RIS (GPL-3.0; none of it is copied here).

Deviations from the official code, none of which changes a number beyond rounding:
    - 1 x 1 convolutions on tokens are linear layers, and the output projection of the attention acts on the words.
    - The two-class head returns foreground minus background, at a quarter of the input's size; the protocol resizes it
      (the authors resize both classes to the input, bilinear with aligned corners).
    - A Swin stage that is smaller than the window attends over its whole map; the authors pad it to a window.
    - A row without any text token attends to all tokens in BERT, and adds nothing to the map.

Printed numbers. In the paper (oIoU): RefCOCO val 72.73, testA 75.82, testB 68.79; RefCOCO+ 62.14, 68.38, 55.10; G-Ref
(UMD) val 61.24, test 62.09. On remote sensing images, as reproduced by FIANet's authors (Tables I and III; test, with
the checkpoint selected on test):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  70.23    55.53    30.05    14.42    4.07     76.21  57.30
    RRSIS-D   66.93    60.99    51.71    39.79    23.99    76.58  59.05
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 227.740 M. Other papers print other numbers for the same baseline.
"""

from .network import LAVT

__all__ = ["LAVT"]
