"""FIANet: Exploring Fine-Grained Image-Text Alignment for Referring Remote Sensing Image Segmentation.

Sen Lei, Xinyu Xiao, Tianlin Zhang, Heng-Chao Li, Zhenwei Shi, Qing Zhu. IEEE TGRS, arXiv 2409.13637.
Official code: https://github.com/Shaosifan/FIANet (no licence; none of it is copied here).

Where paper and code differ, the code is followed, because it produced the printed numbers:
    - A stage hands the context's PWAM output on to neck and decoder, not the fused tokens of Equation 10, which only
      reach the next stage. The gate, the object and position branches and the modulation of the last stage therefore
      have no effect and never learn. `stage_output="fused"` is the paper's reading.
    - The text-aware multi-scale attention has one head, with the map as query and the words as keys and values.
    - Channel weights are computed from the map before fusion, not from the fused features of Equation 9
      (`experiment=fianet_paper_eq9`). The weight decay is the code's 0.01, not the printed 0.1
      (`experiment=fianet_paper_decay`).
    - Object and position texts are BERT run on the same ids with the phrase's mask as attention mask.
    - Weight decay is 0.01 (the code's default), not 0.1; see the recipe.

Deviations from the code:
    - Those of `models.lavt`: linear layers, one logit at a quarter of the size, stages smaller than the window.
    - The three BERT passes run as one batch.
    - An object phrase that is not found falls back to the whole expression, as the authors do for the position phrase
      only; with an all-zero mask the object branch adds nothing, as in their code.
    - Their unused layer `go_embedding` (1.393 M parameters) is left out unless `go_embedding=True`.
    - Table VI never removes the object branch alone; then the position prior weighs the context features.

Printed numbers (Tables I and III; test, with the checkpoint selected on test):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  84.09    77.05    61.86    33.41    7.10     78.32  68.67
    RRSIS-D   74.46    66.96    56.31    42.83    24.13    76.91  64.01
    ========  =======  =======  =======  =======  =======  =====  =====

Ablations on RefSegRS test, oIoU / mIoU. Table V: neither FIAM nor TMEM 74.90 / 62.24, FIAM alone 77.83 / 66.68, TMEM
alone 75.62 / 65.39, both 78.32 / 68.67. Table VI, with TMEM: no part of FIAM 75.62 / 65.39; channel modulation
76.07 / 65.76; the object branch added 77.40 / 67.01; the position branch added 78.32 / 68.67. The row labels of the
per-category Table IV are shifted by one.

Parameters at paper size: 254.776 M with 3 TMEM blocks, 250.526 M with 1; 256.169 M and 251.919 M with `go_embedding`.
"""

from .network import FIANet

__all__ = ["FIANet"]
