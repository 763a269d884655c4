"""RIS-DMMI: dual multi-modal interaction for referring image segmentation.

Yutao Hu, Qixiong Wang, Wenqi Shao, Enze Xie, Zhenguo Li, Jungong Han, Ping Luo. "Beyond One-to-One: Rethinking the
Referring Image Segmentation", ICCV 2023, arXiv 2308.13853. Code: https://github.com/toggle1995/RIS-DMMI (no licence
file at the root; none of it is copied here). Released weights: RefCOCOg and Ref-ZOM, linked in that README; none for
remote sensing. This is the Swin-B variant.

LAVT with two changes. In every stage, the words also attend to the pixels and go on rewritten (`fusion`). The decoder
is as wide as the words, and its two coarser maps attend to themselves and to the words (`decoder`). Training adds two
losses (`objective`). One rebuilds the expression from the image while a run of its nouns is masked. The other pairs the
images and the expressions of a batch.

What a reader does not expect:
    - The decoder attends to all 20 slots, pads included. ``model.args.pads=masked`` takes the words alone.
    - The scores of the words are scaled by the width of the pixels.
    - The run of nouns that is masked is drawn once per run of the authors' program, by TextBlob's tags. Here the
      sentence itself decides (`noun_mask`), so that every run masks the same. Their word positions shift where a word
      has several tokens; here the tokens of the nouns are masked.
    - Weights of the authors' files that are never run: 25,730,816 parameters, of which 23,633,664 are prototypes of
      decoder layers, and 2,097,152 the gate of the last stage.

Uncertain: the start values of the mixed weights (equal here), whether the contrastive vectors have length 1 (they have
here), and which side of the language layers the losses read the maps of (behind them here). The contrast is over the
samples of one process.

Deviations from the code: those of `models.lavt`.

Printed numbers (test; CSINet's Tables I to III):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  63.89    44.30    19.81    6.49     1.00     68.58  52.15
    RRSIS-D   68.74    60.96    50.33    38.38    21.63    76.20  60.12
    RISBench  72.05    66.48    59.07    47.16    26.57    74.82  63.93
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 314.847 M (314 847 344; 340 578 160 in the authors' files). 16 139 264 of them serve the
losses of training alone.
"""

from .network import DMMI

__all__ = ["DMMI"]
