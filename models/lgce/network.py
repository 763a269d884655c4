"""The network: LAVT, with the two coarsest stages guided by the sentence before the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.attention import GatedPWAM
from ..blocks.decoder import TopDownDecoder
from ..blocks.guidance import GuidedStages
from ..blocks.padding import check_pads, padded_ids, used_slots
from ..blocks.staged import StagedSegmenter
from .official_keys import OFFICIAL_FORMAT


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
        self.guided = GuidedStages(widths, text_dim)
        self.decoder = TopDownDecoder(widths, decoder_width)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4)."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(padded_ids(text), mask_BL)
        outputs = self.fused_stages(views["image"], words_BLD, mask_BL)
        return SegmenterOutput(self.decoder(self.guided(outputs, words_BLD, used_slots(mask_BL, self.pads))))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but nothing of the classifier."""
        return not name.startswith(("decoder.", "guided.")) and self.backbone.no_weight_decay(name)
