"""CARIS: context-aware referring image segmentation.

Sun-Ao Liu, Yiheng Zhang, Zhaofan Qiu, Hongtao Xie, Yongdong Zhang, Ting Yao. "CARIS: Context-Aware Referring Image
Segmentation", ACM MM 2023, DOI 10.1145/3581783.3612117. Code: https://github.com/lsa1997/CARIS (MIT; none of it is
copied here). Released weights: RefCOCO, RefCOCO+ and RefCOCOg, on the hub as ``saliu/CARIS``, selected on val by oIoU
at 448 pixels; none for remote sensing.

Swin runs without language. Its coarsest map gives five prompts (`prompts`), which BERT reads behind the words. In the
decoder (`decoder`) words, five visual prompts and the pixels of three stages read each other six times; pixels read
pixels by deformable attention (`deformable`). A pixel is compared with two vectors: [CLS] for the foreground, the mean
of the visual prompts for the background. The image's part does not depend on the sentence, so it is computed once for
all expressions of an image.

What a reader does not expect:
    - The prompts are embedded without a position, and BERT's outputs for them are dropped.
    - Attention is four times as wide inside (1024) as the decoder.
    - Positions are added to pixels that ask or are asked, never to what is read.
    - Biases without effect are left out: those of keys, which the softmax cancels, and the last one of the two
      classes, which adds the same to both. 18,688 parameters, named on import.
    - All of BERT is trained, its embeddings too.

Uncertain: the notes that this follows say nothing about the first values of the decoder's new weights and about
dropout in the deformable attention. Here linear layers start by Xavier's rule, the factors of the two cross
attentions at 1, deformable attention as in Deformable DETR, embeddings and convolutions as PyTorch starts them, and
nothing is dropped outside of BERT and Swin. No released file was at hand; the layout follows from the training code.

Deviations from the code: those of `models.lavt` (foreground minus background at a quarter of the size, stages no larger
than the window: the authors shift the windows there too, which no view of 448 pixels shows). Scores are not clamped;
the authors' clamp serves float16.

Printed numbers (CSINet's Tables I and II, trained again by their authors):

    ========  ====  =======  =======  =======  =======  =======  =====  =====
    dataset   part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  ====  =======  =======  =======  =======  =======  =====  =====
    RRSIS-D   val   71.61    64.66    54.14    42.76    23.79    77.48  62.88
    RRSIS-D   test  71.50    63.52    52.92    40.94    23.90    77.17  62.17
    RefSegRS  val   68.45    47.10    25.52    14.62    3.71     75.79  54.30
    RefSegRS  test  45.40    27.19    15.08    8.87     1.98     69.74  42.66
    ========  ====  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 226.554 M (226 553 976; 226 572 664 in the authors' files).
"""

from .network import CARIS

__all__ = ["CARIS"]
