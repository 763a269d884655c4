"""The network: Swin and BERT, with language fused between the Swin stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.attention import GatedPWAM
from ..blocks.decoder import TopDownDecoder
from ..blocks.staged import StagedSegmenter, freeze_unread
from .official_keys import OFFICIAL_FORMAT


class LAVT(StagedSegmenter):
    """Swin and BERT, with language fused between the Swin stages."""

    version = 1
    official_format = OFFICIAL_FORMAT
    # The last stage hands on its PWAM output alone. A normalisation cancels the bias of the attention's output.
    contract = Contract(dead_parameters=r"stages\.3\.gate\.|.*attention\.out\.bias$")

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        decoder_width: int | None,
    ) -> None:
        """Build the model; the values are in ``conf/model/lavt.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
        """
        super().__init__(views, max_tokens, vision, text)
        widths = self.backbone.widths
        self.stages = nn.ModuleList(GatedPWAM(width, self.text_encoder.width) for width in widths)
        freeze_unread(cast(GatedPWAM, self.stages[-1]).gate)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.decoder = TopDownDecoder(widths, decoder_width)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4)."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        outputs = self.fused_stages(views["image"], words_BLD, mask_BL)
        return SegmenterOutput(self.decoder(outputs))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables, but not BERT's ``LayerNorm`` nor any ``bn``."""
        return self.backbone.no_weight_decay(name)
