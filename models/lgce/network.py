"""The network: LAVT, with the two coarsest stages guided by the sentence before the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.attention import GatedPWAM
from ..blocks.decoder import TopDownDecoder
from ..blocks.padding import check_pads, padded_ids, used_slots
from ..blocks.staged import StagedSegmenter
from .guidance import GuidedBlocks
from .official_keys import OFFICIAL_FORMAT

DEPTHS = (1, 3)
"""Blocks over the second coarsest and over the coarsest stage."""


class LGCE(StagedSegmenter):
    """LAVT with a language-guided block in front of the decoder."""

    version = 1
    official_format = OFFICIAL_FORMAT
    contract = Contract(dead_parameters=r".*attention\.out\.bias$")  # a normalisation cancels it

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        decoder_width: int | None,
        pads: str,
    ) -> None:
        """Build the model; the values are in ``conf/model/lgce.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
            pads: ``"official"`` (pads enter the mean of the words, as in the authors' code) or ``"masked"``.

        Raises:
            UserError: an unknown value of `pads`.
        """
        super().__init__(views, max_tokens, vision, text)
        self.pads = check_pads(pads)
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        last = len(widths) - 1
        self.stages = nn.ModuleList(
            GatedPWAM(width, text_dim, gated=index < last) for index, width in enumerate(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.guided = nn.ModuleList(
            GuidedBlocks(width, text_dim, depth) for width, depth in zip(widths[-2:], DEPTHS, strict=True)
        )
        self.decoder = TopDownDecoder(widths, decoder_width)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4)."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(padded_ids(text), mask_BL)
        outputs = self.fused_stages(views["image"], words_BLD, mask_BL)
        slots_BL = used_slots(mask_BL, self.pads).to(words_BLD.dtype)
        sentence_BD = (words_BLD * slots_BL[..., None]).sum(1) / slots_BL.sum(1, keepdim=True).clamp(min=1)
        guided = [block(stage, sentence_BD) for block, stage in zip(self.guided, outputs[-2:], strict=True)]
        return SegmenterOutput(self.decoder([*outputs[:-2], *guided]))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but nothing of the classifier."""
        return not name.startswith(("decoder.", "guided.")) and self.backbone.no_weight_decay(name)
