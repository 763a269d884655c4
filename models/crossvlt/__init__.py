"""CrossVLT: cross-aware early fusion of stage-divided vision and language encoders.

Yubin Cho, Hyunwoo Yu, Suk-Ju Kang. "Cross-Aware Early Fusion with Stage-Divided Vision and Language Transformer
Encoders for Referring Image Segmentation", IEEE TMM 2023, arXiv 2408.07539. Code:
https://github.com/yubin1219/CrossVLT (MIT). Released weights: RefCOCO, RefCOCO+ and RefCOCOg, linked in that README;
none for remote sensing.

Swin and BERT run in turns. The first language stage is BERT's first six layers. Each later one reads the map of the
vision stage before, then runs one layer of BERT's shape (`language`). Each vision stage fuses the words of its language
stage twice: behind its blocks and behind the merging to the next stage (`fusion`). The decoder is LAVT's. In training,
the cosine between every pixel and the sentence is compared with the target in each stage.

What a reader does not expect:
    - The fusion adds what a pixel reads to the pixel, where LAVT's multiplies. It has heads of 64 channels.
    - The temperature of the similarity maps is in no group of the authors' optimiser. It stays 1, and the logits of
      the maps stay within -1 and 1. Here it is left out.
    - The later language stages start at random (normal, 0.02), and BERT's layers 7 to 12 are not used.
    - The gate of the last vision stage is never read: 2,097,152 parameters.
    - The published training script fails at its first validation.

Deviations from the code: those of `models.lavt`. The similarity maps get the segmentation loss of the recipe, with its
class weights, where the authors' code has a plain binary cross-entropy.

Printed numbers (test; FIANet's Tables I and III, CSINet's Table III):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  71.16    58.28    34.51    16.35    5.06     77.44  58.84
    RRSIS-D   70.38    63.83    52.86    42.11    25.02    76.32  61.00
    RISBench  70.62    65.05    57.40    45.80    26.10    74.33  62.84
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 234.614 M (234 613 882; 236 711 038 in the authors' files), of which 1,280,000 serve the
similarity maps of training alone.
"""

from .network import CrossVLT

__all__ = ["CrossVLT"]
