"""CSINet: Referring Remote Sensing Image Segmentation with Cross-view Semantics Interaction Network.

Jiaxing Yang, Lihe Zhang, Huchuan Lu (Dalian University of Technology). arXiv 2508.01331, 2025. No code is public.

Choices where the paper is silent or contradicts itself:
    - Dice 0.9 and BCE 0.1, as printed, both as means; the BCE of a two-class softmax is the cross-entropy of the logit
      difference. `experiment=csinet_reversed_loss` swaps the weights, as in RMSIN's and FIANet's code.
    - Dice is the mean of both classes, as in that code. The background's Dice loss is near 0 if the target is small, so
      that the foreground has about half of the printed weight there. The loss `foreground_dice` is the other reading.
    - The polynomial decay has the family's power, 0.9; the paper gives none.
    - 8 samples per batch in all. 20 tokens, which cut long expressions; `model.args.max_tokens`.
    - The columns of Table IX are slice sizes 3 to 6, although its head calls them J; J stays 3, the slice size 5.
    - Keys and values of the padded rows are 0 and take attention, as printed (`mask_padding=true` keeps it off them).
      Distances that are 0 or equal on short maps count once. A padded 1 x 1 convolution gives its bias there; key and
      value have none, because the softmax and the FFN behind make it redundant.
    - The position tensor is a fixed 2-D sine, mixed into query and key by their projections.
    - The column pass is the row pass on the transposed maps, with its own weights. So have the two views; the strided
      sub-grids of the close view share theirs. The joint map is computed once and serves all passes.
    - In Table VII's one-way rows, both branches are decoded, and the prediction reads both; the table does not say so.
    - D_i is paired with stage 5 - i, and Up(D_1) enters every step. D_4[1] and D_4[2] of Equation 13 are the remote and
      the close part of the batch.
    - The window attention projects queries, keys and values by 1 x 1 convolutions, as Equation 1 does; one head.
    - Maps that the window does not divide are resized for the window attention, and its output is resized back. A
      map smaller than the window is one window, as in the Swin encoder here; it is not enlarged.
    - Table VIII prints a higher mIoU without D_4 (67.63) than with it (67.59); taken as noise.
    - The close view is the image resized to N times the remote side, even if that enlarges it.
    - Padding tokens are masked in Equation 2, which does not say so. Without any token, the attended words are 0.
    - Key projections have no bias, which a softmax over keys takes away again.
    - "Integrating via FFN" is one 1 x 1 convolution of the concatenation, without a residual. It starts as the identity
      on the view's own tokens, with a truncated normal of 0.02 on the attended ones and biases of 0: a random start
      hands unrelated tokens to the next pretrained stage (cosine to its input 0.03 to 0.07, instead of 0.9998), and the
      other fusions of Tables V and VII keep their tokens. `integration_start=random` is the other start.
    - Both views share the projections of the words ("replacing V^remote" in Equations 1 and 2), as the printed sizes
      say. `share_language=all` shares the whole fusion, `none` nothing.
    - "-Skip" of Table V keeps the second CBR of each step, without D_1.
    - The dilated attention enlarges the top maps to a multiple of the slice size; D_1 keeps that size.
    - Maps are resized bilinearly without aligned corners (but inside RMSIN's decoder), the logits in the loss as well.
    - "Conv2D" of the prediction is 1 x 1. Logits come at a quarter of the close view's side. The paper does not say at
      which size they are compared; here it is the close view's, the main one, where small targets keep their pixels.
    - `fusion=sum` keeps the language fusion and adds the resized views. `fusion=pwam` and `iim` hand the fused tokens
      of each view on to decoder and next stage. `decoder=arc` decodes both views' maps as one batch, before the same
      prediction. A model with one view has no module of the other; its joint map is a projection of its own.

Exact rearrangements for speed: linear maps of attended words run on the words, a convolution of a resized map runs
before the resize, and the prediction resizes one channel.

Printed numbers (Tables I to III):

    ========  ======  ====  =======  =======  =======  =======  =======  =====  =====
    dataset   Swin    part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  ======  ====  =======  =======  =======  =======  =======  =====  =====
    RRSIS-D   S       val   78.51    71.32    58.45    45.40    26.21    78.72  67.59
    RRSIS-D   S       test  77.00    70.30    59.10    44.31    26.02    78.15  66.64
    RRSIS-D   B       val   79.20    71.78    59.94    45.80    27.01    79.04  67.70
    RRSIS-D   B       test  78.81    72.60    60.65    45.72    26.97    78.34  67.47
    RefSegRS  S       val   96.51    95.60    92.13    76.62    16.67    87.25  81.92
    RefSegRS  S       test  86.46    80.79    69.90    41.17    8.86     81.32  71.14
    RefSegRS  B       val   96.53    95.83    94.91    89.35    25.00    89.14  84.32
    RefSegRS  B       test  87.45    83.21    74.96    54.60    13.70    83.43  73.88
    RISBench  S       val   76.37    71.76    65.15    54.77    31.98    70.36  67.92
    RISBench  S       test  76.45    71.58    64.94    54.41    34.09    74.74  68.43
    RISBench  B       val   77.17    72.50    66.44    56.17    33.01    71.16  68.86
    RISBench  B       test  77.12    72.40    66.04    55.86    35.34    75.36  69.25
    ========  ======  ====  =======  =======  =======  =======  =======  =====  =====

Table VII (Swin-S, RRSIS-D val, mIoU): both directions 67.59, close to remote 65.14, remote to close 64.95, remote view
alone 63.54, close view alone 54.63. Table X: 278.4 M parameters and 15.6 FPS with Swin-B, 194.4 M and 17.1 FPS with
Swin-S (RTX 3090, mixed precision).

Parameters here, in millions. Table X counts neither embeddings nor bare parameters and position tables: that rule
gives 208.925 M for RMSIN, printed as 208.9 in the same table. By that rule, without Swin and BERT, the printed sizes
of CSINet leave 106.67 M (Swin-B) and 60.56 M (Swin-S). With a squares of the stage widths C and b projections of the
768 word features per stage, all in millions:

    Swin-B: 1.3926 a + 1.4746 b = 106.67
    Swin-S: 0.7834 a + 1.1059 b = 60.56

so that a = 74.5 and b = 2.0 +- 0.3, the range being that of the rounded sizes. Two projections are one key and one
value per stage, for both views. The equations give a = 60.6; without sharing, b = 4. By the rule, this model has
259.049 M and 183.522 M, 7.0% and 5.6% less than printed. The difference is 14 squares of all widths, or 18 C4^2 if it
is in the last stage alone, for both Swins, and remains unexplained. No width was tuned to close it.

Without BERT's word embeddings alone:

    ==========================================  =======  =======
    part                                        Swin-B   Swin-S
    ==========================================  =======  =======
    Swin                                        86.877   48.836
    BERT without its word embeddings            85.451   85.451
    language fusion of both views (Eq. 1-4)     19.678   11.625
    cross-view window attention (Eq. 5-9)       13.938   7.842
    dilated attention, joint map (Eq. 10-12)    18.892   10.630
    integration and prediction (Eq. 13)         34.808   19.581
    ==========================================  =======  =======
    sum                                         259.643  183.965
    with word embeddings                        283.084  207.406
    ==========================================  =======  =======
"""

from .network import CSINet

__all__ = ["CSINet"]
