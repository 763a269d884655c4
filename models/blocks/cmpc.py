"""CMPC and CMPC+: progressive comprehension of entities and relations, and exchange between levels under the sentence.

The two models differ in one input of a join, `CMPCSegmenter.joined`.
"""

# G = cells per side of the grid, P = parts of speech, N = G * G

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rrsis_bench.backbones.words import Words
from rrsis_bench.interfaces import Contract, SegmenterOutput

from .classic import COORDINATES, LEVELS, BilinearFusion, ClassicSegmenter, ConvLSTM, JointNorm, l2, spread

HEADS = 5
PARSER_WIDTH = 500
MAIN_WEIGHT, SIDE_WEIGHT = 0.7, 0.1
PARTNERS = {"c3": ("c4", "c5"), "c4": ("c3", "c5"), "c5": ("c3", "c4")}
ROUNDS = 2


class CMPCSegmenter(ClassicSegmenter):
    """The network of both models.

    Class attributes:
        joined: the first part of the join per level: the ``"multimodal"`` map (CMPC+) or the ``"visual"`` one (CMPC).
    """

    contract = Contract(dead_parameters=r"scores\.")  # of the side maps
    joined: ClassVar[Literal["multimodal", "visual"]]

    def __init__(
        self,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        width: int,
    ) -> None:
        """Build the model; the values are in ``conf/model/cmpc.yaml`` and ``conf/model/cmpc_plus.yaml``.

        Args:
            views: see `ClassicSegmenter`.
            max_tokens: see `ClassicSegmenter`.
            vision: see `ClassicSegmenter`.
            text: see `ClassicSegmenter`; its width is that of the visual and multimodal maps too.
            width: channels behind the join.
        """
        super().__init__(views, max_tokens, vision, text)
        inner = self.words.width
        self.laterals = self.convs_of_levels(inner)
        self.parser = nn.Sequential(nn.Linear(inner, PARSER_WIDTH), nn.ReLU(), nn.Linear(PARSER_WIDTH, 4))
        self.perceptions = nn.ModuleDict({level: BilinearFusion(inner, HEADS) for level in LEVELS})
        self.relations = nn.ModuleDict({level: RelationGraph(inner) for level in LEVELS})
        self.joins = nn.ModuleDict({level: nn.Conv2d(3 * inner + COORDINATES, width, 1) for level in LEVELS})
        self.scores = nn.ModuleDict({level: nn.Conv2d(width, 1, 3, padding=1) for level in LEVELS})
        self.exchanges = nn.ModuleList(
            nn.ModuleDict({level: Exchange(width, inner) for level in LEVELS}) for _ in range(ROUNDS)
        )
        self.refinement = ConvLSTM(width, self.grid)
        self.score = nn.Conv2d(width, 1, 3, padding=1)
        self.start_head()

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/8, S/8); in training with the side maps ``c5``, ``c4`` and ``c3``."""
        words = self.words.read(text["input_ids"], text["word_mask"])
        words_BLC, parts_BLP = l2(words.hidden_BLD, dim=2), self.parse(words)
        entity, attribute, relation, unnecessary = parts_BLP.unbind(2)
        named_BC = l2(((entity + attribute)[..., None] * words_BLC).sum(1))
        sentence_BC = l2(((1 - unnecessary)[..., None] * words_BLC).sum(1))
        levels, sides = {}, {}
        for level in LEVELS:
            visual = encoded[level]
            places = self.places(visual)
            multimodal = self.perceptions[level](torch.cat([visual, places], dim=1), named_BC)
            reasoned = self.relations[level](multimodal, words_BLC, relation, words.mask_BL)
            first = multimodal if self.joined == "multimodal" else visual
            joined = torch.cat([first, reasoned, spread(named_BC, visual), places], dim=1)
            levels[level] = torch.relu(self.joins[level](joined))
            if self.training:
                sides[level] = (SIDE_WEIGHT, self.scores[level](levels[level])[:, 0])
        for exchanges in self.exchanges:
            assert isinstance(exchanges, nn.ModuleDict)
            levels = {
                level: exchanges[level](levels[level], [levels[partner] for partner in PARTNERS[level]], sentence_BC)
                for level in LEVELS
            }
        logits = self.score(self.refinement([levels[level] for level in ("c3", "c4", "c5")]))[:, 0]
        return SegmenterOutput(logits, side_logits=sides, main_weight=MAIN_WEIGHT)

    def parse(self, words: Words) -> Tensor:
        """Return how much a word is entity, attribute, relation and unnecessary (B, L, 4); 0 behind the words."""
        return self.parser(l2(words.hidden_BLD, dim=2)).softmax(2) * words.mask_BL[..., None]


class RelationGraph(nn.Module):
    """Positions exchange features along the words between them, weighted by how much a word is a relation."""

    def __init__(self, width: int) -> None:
        """Build the graph for maps (B, `width`, G, G) and words of the same width."""
        super().__init__()
        self.key = nn.Linear(width, width)
        self.query = nn.Conv2d(width, width, 1)
        self.gathered_norm = JointNorm(width)
        self.update = nn.Conv2d(width, width, 1)
        self.update_norm = JointNorm(width)

    def forward(self, map_BCGG: Tensor, words_BLC: Tensor, relation_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the map after one step of graph convolution.

        The graph's N x N adjacency is the product of two N x L matrices, so it is never built.

        Args:
            map_BCGG: multimodal map.
            words_BLC: encoded words.
            relation_BL: probability that a word is a relation; 0 behind the words.
            mask_BL: True for a word.
        """
        scores_BNL = self.query(map_BCGG).flatten(2).mT @ self.key(words_BLC).mT / math.sqrt(map_BCGG.shape[1])
        scores_BNL = scores_BNL * relation_BL[:, None]
        lowest = torch.finfo(scores_BNL.dtype).min
        over_words_BNL = scores_BNL.masked_fill(~mask_BL[:, None], lowest).softmax(2)
        over_pixels_BNL = scores_BNL.softmax(1) * mask_BL[:, None]
        nodes_BNC = map_BCGG.flatten(2).mT
        gathered_BCN = (over_words_BNL @ (over_pixels_BNL.mT @ nodes_BNC)).mT
        summed = torch.relu(map_BCGG + self.gathered_norm(gathered_BCN.reshape(map_BCGG.shape)))
        return l2(torch.relu(self.update_norm(self.update(summed))))


class Exchange(nn.Module):
    """A level takes from its two partners what the level and the sentence ask for."""

    def __init__(self, width: int, text_width: int) -> None:
        """Build the module for maps (B, `width`, G, G) and a sentence (B, `text_width`)."""
        super().__init__()
        self.key = nn.Conv2d(width, width, 1)
        self.query = nn.Linear(text_width, width)
        self.context = nn.Linear(width + text_width, width)
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.features = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))

    def forward(self, map_BCGG: Tensor, partners: list[Tensor], sentence_BD: Tensor) -> Tensor:
        """Return the level's next map; `partners` are two maps of its shape."""
        scores_BN1 = self.key(map_BCGG).flatten(2).mT @ self.query(sentence_BD)[..., None]
        attended_BN1 = (scores_BN1 / math.sqrt(map_BCGG.shape[1])).softmax(1)
        pooled_BC = (map_BCGG.flatten(2) @ attended_BN1)[..., 0]
        context_BC = l2(self.context(torch.cat([pooled_BC, sentence_BD], dim=1)))
        out = map_BCGG
        for partner, feature, gate in zip(partners, self.features, self.gates, strict=True):
            out = out + torch.relu(feature(partner)) * torch.sigmoid(gate(context_BC))[..., None, None]
        return l2(out)
