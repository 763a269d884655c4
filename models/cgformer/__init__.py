"""CGFormer: contrastive grouping with transformer for referring image segmentation.

Jiajin Tang, Ge Zheng, Cheng Shi, Sibei Yang. "Contrastive Grouping with Transformer for Referring Image Segmentation",
CVPR 2023, arXiv 2309.01017. Code: https://github.com/Toneyaya/CGFormer (MIT; none of it is copied here). No weights are
released.

LAVT's encoder with 8 heads of attention in every stage. In the decoder (`decoder`), two learned tokens read the words
and collect pixels, level by level: every pixel picks one token (`grouping`). The last token stands for the target. At
the end it becomes the kernel that makes the mask, at the size of the image.

What a reader does not expect:
    - Gumbel noise is added to the choice of the pixels in evaluation too, so that the authors' masks are random. Here
      evaluation takes the likelier token; ``model.args.inference_noise=true`` draws.
    - The temperature of the choice starts where its gradient is 0, so it is 1 for ever. Here it is left out.
    - The kernel is applied with a padding of one pixel. The frame holds the bias alone, and is resized with the map.
    - The choice is supervised as 0 or 1 behind a sigmoid, so that its loss cannot reach 0.
    - The tables of positions tie a model to one image size.
    - Weights of the authors' code that are never used: 4,199,426 parameters (the gate of the last stage, a norm and an
      MLP of each level that loads words, two temperatures). They are left out here and named on import.

Uncertain: where exactly the dropout of 0.1 sits (here behind the grouping and in its MLP), the start values of tokens
(normal) and of the tables of positions (normal, 0.02), and Swin's drop path (LAVT's 0.3).

Deviations from the code: those of `models.lavt`. The choices of the levels get the segmentation loss of the recipe,
resized to the image, where the authors' code has its Dice part alone, on a target that is resized to the level.

Printed numbers (CSINet's Tables I to III):

    ========  ====  =======  =======  =======  =======  =======  =====  =====
    dataset   part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  ====  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  val   94.68    86.81    71.30    24.77    4.63     78.08  72.19
    RefSegRS  test  78.11    67.27    40.54    16.17    1.93     73.19  61.79
    RRSIS-D   val   73.85    66.84    54.77    42.83    22.18    76.94  64.07
    RRSIS-D   test  73.46    65.74    54.02    40.09    21.65    76.47  63.14
    RISBench  val   74.92    69.41    61.98    48.35    21.02    68.68  65.41
    RISBench  test  73.38    66.42    57.75    44.15    21.81    73.11  64.95
    ========  ====  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 249.506 M (249 506 169; 253 705 595 in the authors' code). CSINet's Table X prints 217.9 M.
"""

from .network import CGFormer

__all__ = ["CGFormer"]
