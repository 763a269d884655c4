"""Relations between words from visual attention, and the loss that aligns them with those of language (3.2.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST = 2  # entries of a row; the cosine of rows with one positive entry is always 1


def relations(attention_BNL: Tensor) -> Tensor:
    """Return C_uu: the cosine similarity between the visual responses of every two words, (B, L, L).

    Args:
        attention_BNL: A_fu, how N image positions attend to L words. A word without attention has similarity 0 to all.
    """
    columns_BNL = F.normalize(attention_BNL, dim=1)
    with torch.autocast(columns_BNL.device.type, enabled=False):
        return columns_BNL.transpose(1, 2) @ columns_BNL


def consistency_loss(language_BLL: Tensor, vision_BLL: Tensor, mask_BL: Tensor) -> Tensor:
    """Return 1 - the mean cosine between the rows of both matrices, below the diagonal and over the words only.

    The paper prints the sum of the cosines, which a minimiser would make opposite. Here its sign is flipped, plus 1.
    A row counts if it is a word's and has at least two words before it. The mean runs over all such rows of the batch;
    without any, the loss is 0.

    Args:
        language_BLL: A_uu without the context tokens.
        vision_BLL: C_uu.
        mask_BL: 1 for words; special tokens and padding are 0.
    """
    mask_BL = mask_BL.bool()
    entries_BLL = (mask_BL[:, :, None] & mask_BL[:, None]).tril(-1)
    cosine_BL = F.cosine_similarity(language_BLL * entries_BLL, vision_BLL * entries_BLL, dim=-1)
    rows_BL = entries_BLL.sum(-1) >= FEWEST
    return ((1 - cosine_BL) * rows_BL).sum() / rows_BL.sum().clamp_min(1)
