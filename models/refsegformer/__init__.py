"""RefSegformer: towards robust referring image segmentation.

Jianzong Wu, Xiangtai Li, Xia Li, Henghui Ding, Yunhai Tong, Dacheng Tao. "Towards Robust Referring Image
Segmentation", IEEE TIP 2024, arXiv 2209.09554. Code: https://github.com/jianzongwu/robust-ref-seg (no licence file;
none of it is copied here). Released weights: R-RefCOCO, R-RefCOCO+ and R-RefCOCOg, linked in that README; none for
remote sensing. CSINet's tables call it RefSeg.

Swin and BERT meet in a memory. From the second stage on, learned tokens read the words, and the pixels read these
tokens (`fusion`). The decoder reads the memory of each stage once more and makes a mask at every level (`decoder`).

What a reader does not expect:
    - Keys and values of pads are 0, but pads keep their share of the attention: each counts as a word of score and
      value 0. The text therefore always has 20 slots. ``model.args.pads=masked`` takes the words alone.
    - A stage hands the decoder what its pixels read, without the map itself. The first stage hands on its map.
    - All that the pixels read starts as 0 (`zero_start`), so that the words have no effect before the first step.
      The tiny size, where nothing is pretrained, starts without it.
    - Biases without effect, as in the authors' files: those of keys, values and output where pixels read the memory in
      a stage, and of the keys in the decoder.
    - Weights of the authors' files that are never used: 5,514,368 parameters (an attention in each fusion, a token of
      the first stage, a norm behind the encoder). They are left out here and named on import.

Uncertain: which switches CSINet's rows were run with. This is the system without the pixel decoder of the README's
example and without the existence head, which blanks the masks of absent objects and needs expressions of absent objects
to learn. Files that have either are refused by name. The start of the decoder's biases (0) is assumed.

Deviations from the code: those of `models.lavt`.

Printed numbers (CSINet's Tables I to III):

    ========  ====  =======  =======  =======  =======  =======  =====  =====
    dataset   part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  ====  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  val   81.67    52.44    30.86    17.17    5.80     77.74  60.44
    RefSegRS  test  50.25    28.01    17.83    9.19     2.48     71.13  47.12
    RRSIS-D   val   64.22    58.72    50.00    35.78    24.31    76.39  58.92
    RRSIS-D   test  66.59    59.58    49.93    33.78    23.30    77.40  58.99
    RISBench  val   67.42    61.72    53.64    40.71    19.43    69.50  59.37
    RISBench  test  69.15    63.24    55.33    43.27    24.20    74.23  61.25
    ========  ====  =======  =======  =======  =======  =======  =====  =====

The authors' own validation counts Pr@X with IoU summed over the sentences of an image so far, so that their printed
precisions on R-RefCOCO are too high wherever an image has several sentences.

Parameters at paper size: 228.897 M (228 897 152; 234 411 520 in the authors' files).
"""

from .network import RefSegformer

__all__ = ["RefSegformer"]
