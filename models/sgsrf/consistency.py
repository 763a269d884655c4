"""Relations between words from visual attention, and the loss that aligns them with those of language (3.2.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REDUCTIONS = ("sum", "mean")
FEWEST = 2  # entries of a row; the cosine of rows with one positive entry is always 1


def relations(attention_BNL: Tensor) -> Tensor:
    """Return C_uu: the cosine similarity between the visual responses of every two words, (B, L, L).

    Args:
        attention_BNL: A_fu, how N image positions attend to L words. A word without attention has similarity 0 to all.
    """
    columns_BNL = F.normalize(attention_BNL, dim=1)
    with torch.autocast(columns_BNL.device.type, enabled=False):
        return columns_BNL.transpose(1, 2) @ columns_BNL


def consistency_loss(language_BLL: Tensor, vision_BLL: Tensor, mask_BL: Tensor, *, reduction: str = "sum") -> Tensor:
    """Return 1 - cosine of the rows of both matrices, below the diagonal and over the words only.

    The paper prints the sum of the cosines, which a minimiser would make opposite. Here the sign is flipped, plus 1 per
    row. A row counts if it is a word's and has at least two words before it. The rows of each sample are reduced, then
    the samples are averaged. A sample without such rows has a loss of 0.

    Args:
        language_BLL: A_uu without the context tokens.
        vision_BLL: C_uu.
        mask_BL: 1 for words; special tokens and padding are 0.
        reduction: over the rows of a sample: ``"sum"`` (Equation 21), so that long sentences weigh more, or ``"mean"``.
    """
    mask_BL = mask_BL.bool()
    entries_BLL = (mask_BL[:, :, None] & mask_BL[:, None]).tril(-1)
    cosine_BL = F.cosine_similarity(language_BLL * entries_BLL, vision_BLL * entries_BLL, dim=-1)
    rows_BL = entries_BLL.sum(-1) >= FEWEST
    loss_B = ((1 - cosine_BL) * rows_BL).sum(1)
    if reduction == "mean":
        loss_B = loss_B / rows_BL.sum(1).clamp_min(1)
    return loss_B.mean()
