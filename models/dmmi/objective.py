"""The two losses that RIS-DMMI adds in training: rebuild the expression from the image, and find it in the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .decoder import language_layer

TEMPERATURE = 0.05


class ExpressionObjective(nn.Module):
    """Two losses over the maps of the decoder and the words after the last stage."""

    def __init__(self, dim: int) -> None:
        """Build for maps and words of `dim` channels."""
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        self.layer = language_layer(dim)
        self.joins = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(2))
        self.align = nn.Linear(dim, dim)

    def reconstruction(self, maps: Sequence[Tensor], masked_BLD: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return 1 minus the mean cosine between the words and what the masked expression finds in the image.

        Args:
            maps: the decoder's maps, coarse to fine; the second is read.
            masked_BLD: word features of the expression without a run of nouns.
            words_BLD: the words after the last stage. They get no gradient.
            mask_BL: 1 for words.
        """
        pixels_BND = F.relu(self.bn(self.conv(maps[1]))).flatten(2).transpose(1, 2)
        found_BLD = self.layer(masked_BLD, pixels_BND)
        cosine_BL = F.cosine_similarity(words_BLD.detach(), found_BLD, dim=-1, eps=1e-6)
        mask_BL = mask_BL.to(cosine_BL.dtype)
        return 1 - ((cosine_BL * mask_BL).sum(1) / mask_BL.sum(1).clamp(min=1)).mean()

    def contrast(
        self,
        maps: Sequence[Tensor],
        words_BLD: Tensor,
        slots_BL: Tensor,
        whole_batch: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> Tensor:
        """Return the symmetric InfoNCE loss between the images and the expressions of the batch.

        Args:
            maps: the decoder's maps, coarse to fine.
            words_BLD: the words after the last stage.
            slots_BL: 1 for the slots that enter the mean of an expression.
            whole_batch: `Segmenter.whole_batch` of the model.
        """
        image_BD = maps[0].mean((2, 3))
        for join, map_BDhw in zip(self.joins, maps[1:], strict=True):
            image_BD = join(torch.cat([image_BD, map_BDhw.mean((2, 3))], dim=1))
        slots_BL = slots_BL.to(words_BLD.dtype)
        sentence_BD = (self.align(words_BLD) * slots_BL[..., None]).sum(1) / slots_BL.sum(1, keepdim=True).clamp(min=1)
        image_BD, sentence_BD = whole_batch(image_BD), whole_batch(sentence_BD)
        scores_BB = F.normalize(image_BD, dim=1) @ F.normalize(sentence_BD, dim=1).T / TEMPERATURE
        own_B = torch.arange(len(scores_BB), device=scores_BB.device)
        return (F.cross_entropy(scores_BB, own_B) + F.cross_entropy(scores_BB.T, own_B)) / 2
