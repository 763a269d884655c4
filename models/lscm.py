"""LSCM: Linguistic Structure Guided Context Modeling for Referring Image Segmentation.

Tianrui Hui, Si Liu, Shaofei Huang, Guanbin Li, Sansi Yu, Faxi Zhang, Jizhong Han. ECCV 2020, arXiv 2010.00515. Official
code: https://github.com/spyflying/LSCM-Refseg (TensorFlow 1, MIT; none of it is copied here).

Per level, every word gathers the positions that it asks for. The words exchange features along the sentence's
dependency tree and return them to the positions. A ConvLSTM joins the four levels from deep to shallow and back.

Only a run whose heads come from a parser (``parser: spacy:<pipeline>``) is LSCM. ``chain`` ties every word to the one
before it, ``none`` leaves the tree out; a table row names both in its label.

Tests hold logits, side maps, gradients and three training steps to the authors' graph. Its peculiarities are kept:
    - A word's tie to itself weighs 0.1, as that to any word that is not its head or dependent; the root's too. The
      weighted softmax over words is not scaled to 1 again.
    - The joint norm of the words' features counts the words of the sentence alone.
    - The shallowest level is padded below and at the right only.

Deviations from the authors' code:
    - ResNet-101 of ImageNet classification in place of DeepLab-v2's on Caffe, as in `rrn`.
    - Words are those of the `words` tokenizer, and the parser is given them. The authors use spaCy's own, at most 30,
      and drop longer sentences; here 30 fit and the end is cut. A tie to a word that was cut off is left out.
    - The vocabulary consists of the training expressions, with random vectors of GloVe's scale;
      ``text.weights=glove:FILE`` reads GloVe's. The authors start from GloVe 840B and train it too, with 21,692 words
      (130.785 M parameters).
    - Loss: the mean over pixels instead of the sum, with Adam's eps smaller by the same factor: with 1e-8 the exchange
      between words would not move. Batches of 8 instead of 1, no weight decay.
    - DenseCRF is left out. The protocol resizes and thresholds the logits.

Printed numbers on remote sensing images, test (FIANet Table III; SGSRF Tables 2 and 5):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  31.54    20.41    9.51     5.29     0.84     61.27  35.54
    RRSIS-D   56.02    46.25    37.70    25.28    8.27     69.05  49.92
    RISBench  55.26    47.14    40.10    33.29    13.91    50.08  43.69
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 127.911 M (42.500 M backbone, 3.634 M word table, 81.778 M the rest).
"""

# G = cells per side of the grid, N = G * G

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_bench.backbones.resnet import pad_same
from rrsis_bench.data.text.heads import HEAD_KEY, NO_PARSER
from rrsis_bench.interfaces import Contract, SegmenterOutput

from .blocks.classic import COORDINATES, LEVELS, NORM_EPS, BilinearFusion, ClassicSegmenter, ConvLSTM, l2, spread

HEADS = 5
FOUR_LEVELS = (*LEVELS, "c2")
STEPS = (*LEVELS, "c2", *reversed(LEVELS))  # of the ConvLSTM
MAIN_WEIGHT, SIDE_WEIGHT = 0.6, 0.1
LOOSE_TIE = 0.1  # between two words that the tree does not connect


class LSCM(ClassicSegmenter):
    """Context along the sentence's dependency tree, per level; see the header of this file."""

    version = 1
    contract = Contract(dead_parameters=r"scores\.")  # of the side maps
    taps = FOUR_LEVELS

    def __init__(
        self,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        width: int,
        parser: str,
    ) -> None:
        """Build the model; the values are in ``conf/model/lscm.yaml``.

        Args:
            views: see `ClassicSegmenter`.
            max_tokens: see `ClassicSegmenter`.
            vision: see `ClassicSegmenter`.
            text: see `ClassicSegmenter`; its width is that of the visual and multimodal maps too.
            width: channels behind the join.
            parser: source of the tree: ``"spacy:<pipeline>"``, ``"chain"``, or ``"none"`` for equal ties.
        """
        super().__init__(views, max_tokens, vision, text)
        self.head_parser = None if parser == NO_PARSER else parser
        if self.head_parser is not None:
            self.phrase_masks = (*self.phrase_masks, HEAD_KEY)
        inner = self.words.width
        self.laterals = self.convs_of_levels(inner)
        self.laterals["c2"] = nn.Conv2d(self.backbone.widths["c2"], inner, 3, stride=2)  # `pad_same` pads
        self.fusions = nn.ModuleDict({level: BilinearFusion(inner, HEADS) for level in FOUR_LEVELS})
        self.trees = nn.ModuleDict({level: WordTree(inner) for level in FOUR_LEVELS})
        self.joins = nn.ModuleDict({level: nn.Conv2d(3 * inner + COORDINATES, width, 1) for level in FOUR_LEVELS})
        self.scores = nn.ModuleDict({level: nn.Conv2d(width, 1, 3, padding=1) for level in FOUR_LEVELS})
        self.refinement = ConvLSTM(width, self.grid)
        self.score = nn.Conv2d(width, 1, 3, padding=1)
        self.start_head()

    def project(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the visual map (B, C, G, G) of every level."""
        return {
            level: l2(lateral(pad_same(maps[level], 3) if level == "c2" else maps[level]))
            for level, lateral in self.laterals.items()
        }

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/8, S/8); in training with the side maps ``c5`` to ``c2``."""
        words = self.words.read(text["input_ids"], text["word_mask"])
        words_BLC = l2(words.hidden_BLD, dim=2)
        sentence_BC = l2(highest_word(words.hidden_BLD, words.mask_BL))
        ties_BLL = None
        if self.head_parser is not None:
            ties_BLL = tree_ties(words.moved(text[HEAD_KEY]), words_BLC.dtype)
        levels, sides = {}, {}
        for level in FOUR_LEVELS:
            visual = encoded[level]
            places = self.places(visual)
            fused = self.fusions[level](torch.cat([visual, places], dim=1), sentence_BC)
            context = self.trees[level](fused, words_BLC, ties_BLL, words.mask_BL)
            joined = torch.cat([fused, context, spread(sentence_BC, visual), places], dim=1)
            levels[level] = torch.relu(self.joins[level](joined))
            if self.training:
                sides[level] = (SIDE_WEIGHT, self.scores[level](levels[level])[:, 0])
        logits = self.score(self.refinement([levels[level] for level in STEPS]))[:, 0]
        return SegmenterOutput(logits, side_logits=sides, main_weight=MAIN_WEIGHT)


def highest_word(words_BLC: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the maximum (B, C) over the words of a sentence; 0 for a row without words."""
    lowest = torch.finfo(words_BLC.dtype).min
    highest_BC = words_BLC.masked_fill(~mask_BL[..., None], lowest).amax(1)
    return highest_BC * mask_BL.any(1, keepdim=True)


def tree_ties(heads_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weights (B, L, L) of the ties between words: 1 between a word and its head both ways, 0.1 elsewhere.

    Args:
        heads_BL: place of every word's head, from 0; the root's is its own.
        dtype: of the weights.
    """
    to_head_BLL = nn.functional.one_hot(heads_BL, heads_BL.shape[1]).bool()
    itself_LL = torch.eye(heads_BL.shape[1], dtype=torch.bool, device=heads_BL.device)
    tied_BLL = (to_head_BLL | to_head_BLL.mT) & ~itself_LL
    return torch.full(tied_BLL.shape, LOOSE_TIE, dtype=dtype, device=heads_BL.device).masked_fill(tied_BLL, 1.0)


class WordTree(nn.Module):
    """Words gather the features of positions, exchange them along their ties and return them to the positions."""

    def __init__(self, width: int) -> None:
        """Build the module for maps (B, `width`, G, G) and words of the same width."""
        super().__init__()
        self.key = nn.Conv2d(width, width, 1)
        self.query = nn.Linear(width, width)
        self.asking, self.answering = nn.Linear(width, width), nn.Linear(width, width)
        self.gathered_norm = WordNorm(width)
        self.update = nn.Linear(width, width)
        self.update_norm = WordNorm(width)

    def forward(self, map_BCGG: Tensor, words_BLC: Tensor, ties_BLL: Tensor | None, mask_BL: Tensor) -> Tensor:
        """Return the context (B, C, G, G) of every position.

        Args:
            map_BCGG: multimodal map.
            words_BLC: encoded words.
            ties_BLL: weights of the ties between words; None: all are 1.
            mask_BL: True for a word.
        """
        scale = math.sqrt(map_BCGG.shape[1])
        scores_BNL = self.key(map_BCGG).flatten(2).mT @ self.query(words_BLC).mT / scale
        shares_BNL = scores_BNL.softmax(1) * mask_BL[:, None]
        nodes_BLC = l2(shares_BNL.mT @ map_BCGG.flatten(2).mT, dim=2)
        relations_BLL = self.asking(nodes_BLC) @ self.answering(nodes_BLC).mT / scale
        lowest = torch.finfo(relations_BLL.dtype).min
        weights_BLL = relations_BLL.masked_fill(~mask_BL[:, None], lowest).softmax(2)
        if ties_BLL is not None:
            weights_BLL = weights_BLL * ties_BLL
        summed_BLC = torch.relu(nodes_BLC + self.gathered_norm(weights_BLL @ nodes_BLC, mask_BL))
        updated_BLC = torch.relu(self.update_norm(self.update(summed_BLC), mask_BL))
        return l2((shares_BNL @ updated_BLC).mT.reshape(map_BCGG.shape))


class WordNorm(nn.Module):
    """Layer norm over all words and channels of a sentence together, with a scale and a shift per channel."""

    def __init__(self, width: int) -> None:
        """Build the norm of words (B, L, `width`)."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, words_BLC: Tensor, mask_BL: Tensor) -> Tensor:
        """Normalise by the words that `mask_BL` marks; what stands in the other slots has no meaning."""
        real_BL1 = mask_BL[..., None]
        count_B11 = (mask_BL.sum(1) * words_BLC.shape[2]).clamp_min(1)[:, None, None]
        mean_B11 = (words_BLC * real_BL1).sum((1, 2), keepdim=True) / count_B11
        centred_BLC = (words_BLC - mean_B11) * real_BL1
        variance_B11 = centred_BLC.square().sum((1, 2), keepdim=True) / count_B11
        return centred_BLC * (variance_B11 + NORM_EPS).rsqrt() * self.weight + self.bias
