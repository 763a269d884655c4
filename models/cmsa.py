"""CMSA: Cross-Modal Self-Attention Network for Referring Image Segmentation.

Linwei Ye, Mrigank Rochan, Zhi Liu, Yang Wang. CVPR 2019, arXiv 1904.04745. Official code:
https://github.com/lwye/CMSA-Net (TensorFlow 1, no licence; none of it is copied here).

Every pair of word and position is one element of a self-attention. Words are embedded, without an LSTM. Gates fuse the
three levels.

Tests hold logits, gradients and three training steps to the authors' graph. Its peculiarities are kept:
    - Keys and values are pooled over pairs of neighbouring words too, so the order of words matters, but not within a
      pair. Pairs count from the first word.
    - The attention has no scale, and its projections end in a ReLU.

Differences that change nothing: a projection of [vision, word, place] is the sum of three projections, so the deepest
level's volume is never built. Slots behind a sentence are masked; the authors cut them off.

Deviations from the authors' code:
    - ResNet-101 of ImageNet classification in place of DeepLab-v2's on Caffe, as in `rrn`.
    - The vocabulary consists of the training expressions; the authors' has 12,112 words, which is the cap here.
    - Loss: the mean over pixels instead of the sum, with Adam's eps smaller by the same factor. Batches of 8 instead of
      1, no weight decay.
    - DenseCRF is left out. The protocol resizes and thresholds the logits.

Printed numbers on remote sensing images, test (FIANet Tables I and III):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  28.07    20.25    12.71    5.61     0.83     64.53  41.47
    RRSIS-D   55.32    46.45    37.43    25.39    8.15     69.39  48.54
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 83.114 M (42.500 M backbone, 12.112 M word table, 28.501 M the rest).
"""

# G = cells per side of the grid, N = G * G, K = keys, P = channels of the coordinate map

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.interfaces import SegmenterOutput

from .blocks.classic import COORDINATES, LEVELS, ClassicSegmenter, l2

OTHERS = {"c5": ("c4", "c3"), "c4": ("c5", "c3"), "c3": ("c5", "c4")}


class CMSA(ClassicSegmenter):
    """Self-attention over pairs of word and position, gated fusion of levels; see the header of this file."""

    version = 1

    def __init__(
        self,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        visual_width: int,
        volume_widths: Mapping[str, int],
        attention_widths: Mapping[str, int],
        width: int,
    ) -> None:
        """Build the model; the values are in ``conf/model/cmsa.yaml``.

        Args:
            views: see `ClassicSegmenter`.
            max_tokens: see `ClassicSegmenter`.
            vision: see `ClassicSegmenter`.
            text: see `ClassicSegmenter`.
            visual_width: channels of the deepest level's visual map.
            volume_widths: channels of the volumes of ``c4`` and ``c3``; that of ``c5`` has all of its parts.
            attention_widths: channels inside the attention of every level.
            width: channels of the fused maps.
        """
        super().__init__(views, max_tokens, vision, text)
        maps = self.backbone.widths
        self.visual = nn.Conv2d(maps["c5"], visual_width, 1)
        beside = self.words.width + COORDINATES
        volumes = {"c5": visual_width + beside, **volume_widths}
        self.volumes = nn.ModuleDict(
            {level: nn.Linear(maps[level] + beside, volume_widths[level]) for level in ("c4", "c3")}
        )
        self.attentions = nn.ModuleDict(
            {level: VolumeAttention(volumes[level], attention_widths[level]) for level in LEVELS}
        )
        self.outs = nn.ModuleDict({level: nn.Conv2d(volumes[level], width, 1) for level in LEVELS})
        self.gates = nn.ModuleDict({level: LevelGate(width) for level in LEVELS})
        self.score = nn.Conv2d(width, 1, 3, padding=1)
        self.start_head()

    def project(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the visual map (B, C, G, G) of every level."""
        return {"c5": l2(self.visual(maps["c5"])), "c4": l2(maps["c4"]), "c3": l2(maps["c3"])}

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/8, S/8)."""
        words = self.words.read(text["input_ids"], text["word_mask"])
        words_BLD = l2(words.embedded_BLD, dim=2)
        places_BNP = self.places(encoded["c5"]).flatten(2).mT
        maps = {}
        for level in LEVELS:
            visual_BNC = encoded[level].flatten(2).mT
            parts = (visual_BNC, words_BLD, places_BNP)
            if level == "c5":
                mean_BND = mean_word(words_BLD[:, :, None], words.mask_BL).expand(-1, visual_BNC.shape[1], -1)
                kept_BNC = torch.cat([visual_BNC, mean_BND, places_BNP], dim=2)
                attended_BNC = self.attentions[level](lambda layer, of=parts: on_volume(layer, *of), words.mask_BL)
            else:
                reduce = self.volumes[level]
                assert isinstance(reduce, nn.Linear)
                volume_BLNC = torch.relu(on_volume(reduce, *parts))
                kept_BNC = mean_word(volume_BLNC, words.mask_BL)
                attended_BNC = self.attentions[level](lambda layer, of=volume_BLNC: layer(of), words.mask_BL)
            mixed_BCGG = (kept_BNC + attended_BNC).mT.unflatten(2, (self.grid, self.grid))
            maps[level] = torch.relu(self.outs[level](mixed_BCGG))
        fused = [self.gates[level](maps[level], *(maps[other] for other in OTHERS[level])) for level in LEVELS]
        return SegmenterOutput(self.score(fused[0] + fused[1] + fused[2])[:, 0])


def on_volume(layer: nn.Linear, visual_BNC: Tensor, words_BLD: Tensor, places_BNP: Tensor) -> Tensor:
    """Return a layer of [vision, word, place] at every word and position (B, L, N, C), without building its input."""
    widths = [part.shape[2] for part in (visual_BNC, words_BLD, places_BNP)]
    for_vision, for_words, for_places = layer.weight.split(widths, dim=1)
    pixels_BNC = F.linear(visual_BNC, for_vision, layer.bias) + F.linear(places_BNP, for_places)
    return pixels_BNC[:, None] + F.linear(words_BLD, for_words)[:, :, None]


def mean_word(volume_BLNC: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the mean (B, N, C) over the words of a sentence; 0 for a row without words."""
    count_B = mask_BL.sum(1).clamp_min(1)
    return (volume_BLNC * mask_BL[..., None, None]).sum(1) / count_B[:, None, None]


class VolumeAttention(nn.Module):
    """Self-attention over all pairs of word and position; keys and values are pooled by 2 over words, rows, columns."""

    def __init__(self, width: int, inner: int) -> None:
        """Build the attention of a volume with `width` channels, `inner` channels inside."""
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.back = nn.Linear(inner, width)

    def forward(self, of_volume: Callable[[nn.Linear], Tensor], mask_BL: Tensor) -> Tensor:
        """Return what positions collect (B, N, C), averaged over the words.

        Args:
            of_volume: applies a layer to the volume: (B, L, N, inner).
            mask_BL: True for a word; words come first.
        """
        query_BLNC, key_BLNC, value_BLNC = (torch.relu(of_volume(p)) for p in (self.query, self.key, self.value))
        pooled_mask_BL = F.max_pool1d(mask_BL.to(key_BLNC.dtype)[:, None], 2, ceil_mode=True)[:, 0].bool()
        allowed_BL = pooled_mask_BL | ~pooled_mask_BL.any(1, keepdim=True)  # a row without words is averaged to 0 below
        key_BKC, value_BKC = pool(key_BLNC, mask_BL), pool(value_BLNC, mask_BL)
        allowed_BK = allowed_BL.repeat_interleave(key_BKC.shape[1] // allowed_BL.shape[1], dim=1)
        words, positions = query_BLNC.shape[1:3]
        attended = F.scaled_dot_product_attention(
            query_BLNC.flatten(1, 2), key_BKC, value_BKC, attn_mask=allowed_BK[:, None], scale=1.0
        )
        attended_BLNC = attended.unflatten(1, (words, positions))
        # Word by word: at paper size the volume of all words has 257 MB per sample.
        real_BL = mask_BL.to(attended.dtype)
        collected = [
            torch.relu(self.back(attended_BLNC[:, word])) * real_BL[:, word, None, None] for word in range(words)
        ]
        return sum(collected[1:], collected[0]) / mask_BL.sum(1).clamp_min(1)[:, None, None]


def pool(volume_BLNC: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the maxima (B, K, C) over blocks of 2 words, 2 rows and 2 columns.

    The values are not negative, so a slot without a word, set to 0, never wins. A last, odd slot stays alone.
    """
    side = round(volume_BLNC.shape[2] ** 0.5)
    masked_BLNC = volume_BLNC * mask_BL[..., None, None]
    volume_BCLGG = masked_BLNC.unflatten(2, (side, side)).movedim(-1, 1)
    return F.max_pool3d(volume_BCLGG, 2, ceil_mode=True).flatten(2).mT


class LevelGate(nn.Module):
    """A level decides how much of itself and of two other levels goes on."""

    def __init__(self, width: int) -> None:
        """Build the gate for three maps (B, `width`, G, G)."""
        super().__init__()
        self.gates = nn.Conv2d(width, 3 * width, 3, padding=1)  # input, forget, output
        self.balance = nn.Parameter(torch.tensor(0.5))

    def forward(self, own_BCGG: Tensor, first_BCGG: Tensor, second_BCGG: Tensor) -> Tensor:
        """Return the gated map."""
        i, f, r = self.gates(own_BCGG).chunk(3, dim=1)
        f, r = torch.sigmoid(f + 1), torch.sigmoid(r + 1)
        others = self.balance * first_BCGG + (1 - self.balance) * second_BCGG
        return r * torch.tanh(f * others + (1 - f) * i) + (1 - r) * own_BCGG
