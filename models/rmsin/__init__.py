"""RMSIN: Rotated Multi-Scale Interaction Network for Referring Remote Sensing Image Segmentation.

Sihan Liu, Yiwei Ma, Xiaoqing Zhang, Haowei Wang, Jiayi Ji, Xiaoshuai Sun, Rongrong Ji. CVPR 2024, arXiv 2312.12470.
Official code: https://github.com/Lsan2401/RMSIN (none of it is copied here).

LAVT with a gated visual residual in every stage (intra-scale interaction), a neck in which the pooled stages interact
(cross-scale interaction), and convolutions in the decoder whose kernels turn with the image.

Where paper and code differ, the code is followed, because it produced the printed numbers:
    - A stage hands its PWAM output on to neck and decoder, not the fused tokens, which only reach the next stage. The
      gates and the visual residual of the last stage therefore have no effect and never learn.
    - Two reshapes of the cross-scale attention are no transposes: they mix tokens and channels.
    - An adaptive rotated convolution has a single kernel.

Deviations from the code:
    - Those of `models.lavt`: linear layers, one logit at a quarter of the size, stages smaller than the window.
    - The cross-scale attention of the authors works at 480 pixels only (a last stage of 15 x 15 positions, 314 tokens
      in all). Here the counts follow from the size that the model is built for, and are the authors' own at 480; views
      of another size than that are refused. Keys are a quarter of the first stage's width (32 for Swin-B).

Printed numbers on RRSIS-D. The first rows are the numbers that CSINet's authors print (Table I), the last are runs of
others: SGSRF's (Table 3) and FIANet's (Table III, with the checkpoint selected on test).

    ==============  ====  =======  =======  =======  =======  =======  =====  =====
    printed in      part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ==============  ====  =======  =======  =======  =======  =======  =====  =====
    CSINet          val   74.66    68.22    57.41    45.29    24.43    78.27  65.10
    CSINet          test  74.26    67.25    55.93    42.55    24.53    77.79  64.20
    SGSRF           val   75.40    67.70    56.67    43.68    24.94    77.91  65.11
    SGSRF           test  74.20    68.00    56.59    42.40    23.70    77.51  64.21
    FIANet          test  71.96    65.76    55.16    42.03    25.02    76.50  62.27
    ==============  ====  =======  =======  =======  =======  =======  =====  =====

Papers disagree further on other data (RefSegRS test, mIoU: CSINet's Table II 62.58, SGSRF's Table 2 60.27, FIANet's
Table I 57.78; RISBench test: CSINet's Table III 63.07, SGSRF's Table 5 66.79).

Parameters at paper size: 240.037 M (240 037 163 parameters, as in the authors' file; its buffers do not count).
"""

from .network import RMSIN

__all__ = ["RMSIN"]
