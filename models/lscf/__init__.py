"""LSCF: Long-term Semantic-guidance ConvFormer for Referring Remote Sensing Image Segmentation.

Q. Ma, L. Li, X. Lu, L. Jiao, F. Liu, W. Ma, X. Liu, L. Sun. IEEE TGRS 2025, volume 63, article 5628313.
Official code: https://github.com/chunbai1/LSCF (MIT; none of it is copied here). Its decoder calls FreqFusion (Chen et
al., TPAMI 2024), whose repository has no licence at its root.
Released weights: RefSegRS, RRSIS-D and RISBench, linked in that README, selected on val by oIoU at 512 pixels.

Swin-B and BERT. In every stage the words are fused into the map (`fusion`): convolutions at three scales with
coordinates, pixel-word attention with 8 heads, attention to 49 agents. The decoder (`decoder`) fuses the sentence into
every level and merges the levels by frequency (`freq_fusion`).

What the authors' code does and a reader does not expect:
    - Pads enter the sum of the sentence vector, but not the count that it is divided by. The text therefore always has
      20 slots. ``model.args.pads=masked`` sums the words alone.
    - One FreqFusion serves all three steps. The two others and the gate of the last stage are never used:
      2,234,948 parameters, which are left out here and named on import.
    - FreqFusion's resampler is off. A file that has one (`dysampler`) is refused.
    - The agent biases tie a model to one image size.

Uncertain: the authors' copy of FreqFusion is not public. Its layers follow the version of the FreqFusion repository
that fits the count of parameters. No released file was at hand; the layout follows from the training code.

Deviations from the code: those of `models.lavt` (linear layers, foreground minus background at a quarter of the size,
stages smaller than the window).

Printed numbers (SGSRF's Tables 2, 3 and 5; the same figures are in the README of the code):

    ========  ====  =======  =======  =======  =======  =======  =====  =====
    dataset   part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  ====  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  val   97.22    96.30    93.75    89.58    72.92    90.80  89.45
    RefSegRS  test  87.51    82.89    75.85    62.65    33.77    83.27  77.44
    RRSIS-D   val   75.17    67.93    57.99    44.94    25.98    78.14  65.15
    RRSIS-D   test  74.30    67.69    56.32    43.08    25.67    77.42  64.25
    RISBench  val   75.67    70.99    64.58    54.92    36.38    69.93  67.88
    RISBench  test  76.08    71.29    64.96    55.13    36.73    74.88  68.53
    ========  ====  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 245.977 M (245 977 276; 248 212 224 in the authors' files).
"""

from .network import LSCF

__all__ = ["LSCF"]
