"""SGSRF: Structurally Consistent and Grounding-Aware Stagewise Reasoning for RRSIS.

Beijing Institute of Technology and others. Remote Sensing 2026, 18(7), 1015, DOI 10.3390/rs18071015. No code is public.
If the paper gives no detail, RSRefSeg2's public code is followed, which has the same set-up (nothing is copied).

SigLIP2's tokens of image and text are refined together, so that words that belong together look at the same places
(CCR, section 3.2); learnable tokens ask both and become SAM 2's sparse and dense prompts (GPG, 3.3); SAM 2's features
are enhanced by the context tokens, and its decoder draws the mask (GMS, 3.4).

Choices where the paper is silent or contradicts itself:
    - 6 context tokens: section 4.2 says 3, but the full model of Table 7 is Table 8's row of 6. N_c is N_g.
    - Equation 21 sums cosines, which a minimiser would turn opposite: the loss is the sum of 1 - cosine over the valid
      rows of a sample, averaged over the batch. `consistency_reduction=mean` averages the rows of a sample, which is 10
      to 14 times weaker at equal lambda. Rows of special tokens and padding, and rows with fewer than two words before
      them (whose cosine is 1 whatever happens), do not count. "[CLS]" does not exist in SigLIP2's texts. A_uu is
      cropped to the words, and not normalised again. C_uu's diagonal is never read.
    - Special tokens and padding are masked as keys everywhere behind the encoders, and left out of the pooling. SigLIP2
      itself reads its padding, as in its training.
    - The equations have one head, no output projection, no residual and no norm. Here 8 heads, as in RSRefSeg2, whose
      weights are averaged for the loss; residual, norm behind it, and a feed-forward layer (512) after each attention.
      `heads=1` is the literal count. Projections are d wide in the refinement and 512 in the prompt generation.
    - "Initialised from pooled representations": adaptive averages over the words in their order. Learnable positions
      are added to the queries and keys of context and prompt tokens, not to their values.
    - Two prompt blocks (Figure 5): among the tokens, to the image, to the text, in the order of the text.
    - The product of image tokens and dense token is summed over the channels, as its stated shape requires, and divided
      by sqrt(d), so that the maps of an untrained model are of the order of 1; the map goes through
      SAM's own mask downscaling. Figure 5's caption makes it from the text: `dense=text_pool`, the mean word, as in
      RSRefSeg2.
    - GMFE prints V = F, whose rows do not fit the N_g keys: V = G, with a residual F + alpha Attn, since every position
      would otherwise be a mixture of N_g vectors; alpha starts at 0.1 (`gmfe_alpha`; at 1 in the tiny size, whose SAM
      starts from random weights). Each level has its own projections.
    - The first mask token is read in training and evaluation; SAM's choice by stability is off.
    - BCE and Dice with weight 1 (`experiment=sgsrf_loss5`: 5, as in RSRefSeg2's code). Dice is the suite's, the mean of
      both classes. Loss, rate, warm-up: conf/recipe/sgsrf/.
    - New linear layers start by Xavier's rule with biases of 0, prompt tokens from a normal of 0.02. The residual
      branches of refinement and prompt generation start at 0, except the prompts' attention to the text: CLIP's
      tokens pass unchanged at first, and the first prompts consist of the words. (SigLIP 2 aligns its pooled outputs;
      nothing says that its patch and word tokens are aligned.)
    - Adapters of rank 16, alpha 16, without dropout, on the query and key rows of CLIP's towers (section 3.2.1) and of
      SAM's encoder (3.4.1 names no rows); `lora_targets: all` of both are RSRefSeg2's.
    - The main view, at whose size the loss is taken, is SAM's.
    - Rows of Table 7 without legible ticks follow section 4.5.1. Without BCMI the image attends to the words, which
      is the "one-way language guidance" there. Without CLSM there are no context tokens; the text's self-attention
      stays, because BCMI + SCR needs A_uu. The first row pools CLIP's words to the sparse prompts.
    - Table 7's sixth row (69.62 mIoU) is BCMI + CLSM + GMFE, since it equals Table 8's row for lambda 0 digit for
      digit; the seventh (69.53) is BCMI + SCR. Neither table's full model (70.31 mIoU, 80.54 oIoU) agrees with Table 3.

Printed numbers (Tables 2, 3 and 5):

    ========  ====  =======  =======  =======  =======  =======  =====  =====
    dataset   part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  ====  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  val   97.22    95.13    93.04    90.26    77.49    91.42  91.06
    RefSegRS  test  88.06    82.94    73.80    59.60    37.15    83.55  77.85
    RRSIS-D   val   80.23    75.57    66.95    53.10    32.47    79.18  69.93
    RRSIS-D   test  80.93    76.07    66.27    51.02    31.14    79.37  69.67
    RISBench  val   78.11    74.85    70.43    63.87    50.94    70.61  72.03
    RISBench  test  79.48    76.03    71.36    63.95    50.68    75.74  73.30
    ========  ====  =======  =======  =======  =======  =======  =====  =====

Table 6: 1407.38 M parameters, 58.12 M of them trainable, 2570.23 GFLOPs, 263.2 ms, 3.8 FPS.

Parameters here, in millions; 0.5% fewer than printed, and 13.2% fewer trainable. No width was tuned to close that gap.

    ==============================================  ========  =========
    part                                            all       trainable
    ==============================================  ========  =========
    SigLIP2, with adapters                          1140.537  3.981
    SAM 2's image encoder, with adapters            214.447   1.743
    SAM 2's prompt encoder and mask decoder         4.197     3.511
    refinement (CCR)                                19.500    19.500
    prompt generation (GPG)                         20.843    20.843
    enhancement (GMFE)                              0.882     0.882
    ==============================================  ========  =========
    sum                                             1400.406  50.462
    ==============================================  ========  =========
"""

from .network import SGSRF

__all__ = ["SGSRF"]
