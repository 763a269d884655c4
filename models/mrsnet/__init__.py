"""MRSNet: A Large-Scale Referring Remote Sensing Image Segmentation Dataset and Benchmark.

Zhigang Yang, Huiguang Yao, Linmao Tian, Xuezhi Zhao, Qiang Li, Qi Wang. arXiv 2506.03583 (2025). The repository that
the paper names, https://github.com/CVer-Yang/NWPU-Refer, holds the dataset; the model's code is not public.

LAVT's skeleton (Swin, BERT, language in every stage) with an intra-scale module (IFIM: pyramidal spatial-spectral
refinement PSR, context-aware spatial relations CSR, cross-modal alignment CMA, a gated sum of the three), a neck (HFIM:
local, global and frequency branches over all stages) and RMSIN's decoder. Sections and tables are the paper's.

Choices where the paper is silent or contradicts itself:
    - The learning rate of 6e-4 (Section IV-B) is ten times what Swin and BERT are commonly fine-tuned with. The default
      is 6e-5; `experiment=mrsnet_paper_lr` is the printed one. Cosine annealing, as printed. Epochs, batch, image size,
      loss, tokens, weight decay and the Swin are not given; they are RMSIN's: 40 epochs, 8, 480 px, cross-entropy 0.9
      and Dice 0.1, 20, 0.01, Swin-B.
    - Section III-B.a multiplies the map by weights that live on the frequency grid, and never transforms back. This
      is implemented as printed: weight (u, v) multiplies position (u, v). The convolution is 1 x 1, the softmax runs
      over the channels of a frequency; `psr_softmax=positions` lets it run over the positions of a channel. Its
      weights are about 1 / C, and the layers after them have no scale of their own.
    - The transforms are orthonormal, so that magnitudes do not grow with the map. Magnitudes up to 1e-6 count as zero,
      with a phase of 0 and no gradient; frequencies that are real have phase 0 or pi, never -pi.
    - Every scale of PSR has its own weights. Smaller scales are means of 2 x 2 and 4 x 4 positions; results are resized
      bilinearly without aligned corners, concatenated and projected to C channels. The spatial convolution is 3 x 3; no
      activation is printed, and none is there.
    - The adjacency matrix of CSR would have 207 million entries at 120 x 120 positions. A row-normalised row is a mean
      over neighbours, so that it is one fixed depthwise convolution, divided by the neighbours there are: 8, 5 at
      borders, 3 in corners; a pixel is no neighbour of itself. The graph convolution is one layer, Linear and ReLU; the
      convolution behind it is 3 x 3.
    - CMA's importance is one number per word and weights the word before keys and values are made from it; padding is
      masked. V_proj is Linear and GELU, and queries come from it. The attention is LAVT's, whose figure the paper's
      resembles: one head, queries and output normalised over the positions. (Without these norms, the tiny size on
      synthetic scenes reaches 25 mIoU on val after one of three epochs, and 36 with them.) The weight W_proj of the
      mix is one number per pixel ("pixel-wise", and written with a dot, unlike element-wise products), a
      sigmoid of a 1 x 1 convolution.
    - The gated sum (Section III-B.d) is "the refined feature map for this stage": the neck gets it, after a LayerNorm
      as in RMSIN. The next stage gets it added to the stage's tokens, as in LAVT; without them, pretrained
      stages would lose their input.
    - Section III-C says PixelShuffle first and PixelUnshuffle later. The stages are unshuffled to the last stage's grid
      (15 x 15), which is 15 360 channels for Swin-B, and reduced by 1 x 1 convolutions to their own numbers of
      channels, 1920 in all; the way back is expanded and shuffled. `hfim_reduce=false` is the literal reading, which
      keeps all channels: 2.9 billion parameters at paper size. Maps that the grid does not divide are padded with 0.
    - "F_local, F_local, F_freq" is read as F_local, F_global, F_freq. Both attentions have 8 heads and no positions.
    - The softmax of a complex Q K^T takes its real part, without a conjugate, as printed; the scores weight the complex
      values. The inverse transform is then exactly real.
    - Each stage is added to the neck's output for it, which the paper does not print: otherwise fine detail would have
      to pass the reduction.
    - RMSIN's decoder, with adaptive rotated convolutions.
    - Table III has no row without PSR and CSR, and its rows are test results.

Exact rearrangements for speed: the transform of a real map is computed for half of the frequencies, and so are the
products with magnitudes and phases. Linear maps of attended words run on the words. A product with a resized map runs
before the resize.

Printed numbers on NWPU-Refer (Table II), English expressions; Pr@0.5 and Pr@0.6 are not printed, nor how expressions
without a target count:

    ======  ====  =======  =======  =======  =====  =====
    model   part  Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ======  ====  =======  =======  =======  =====  =====
    LAVT    val   25.22    17.16    7.31     62.23  34.66
    LAVT    test  23.29    15.50    6.92     55.61  33.90
    RMSIN   val   31.51    20.37    9.50     62.66  41.75
    RMSIN   test  32.03    19.92    7.70     55.64  43.52
    MRSNet  val   33.01    22.08    9.23     63.59  44.86
    MRSNet  test  30.90    20.47    8.54     57.04  43.60
    ======  ====  =======  =======  =======  =====  =====

MRSNet is not ahead in every column, as the text has it: RMSIN's Pr@0.7 (test) and Pr@0.9 (val) are higher. Table III
(test, mIoU): PSR alone 36.82, CSR alone 40.08, both 43.60.

Parameters at paper size, in millions; the paper prints none:

    =========================================  =======
    part                                       Swin-B
    =========================================  =======
    Swin                                        86.877
    BERT                                       108.892
    PSR of all stages                           58.510
    CSR                                         13.930
    CMA                                          8.538
    gated sums and the norms behind them        13.938
    HFIM                                        46.882
    decoder                                     20.671
    =========================================  =======
    sum                                        358.238
    without PSR (Table III)                    292.762
    without CSR (Table III)                    337.342
    =========================================  =======
"""

from .network import MRSNet

__all__ = ["MRSNet"]
