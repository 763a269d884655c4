"""The network: Swin and BERT, a gated visual residual in every stage, a cross-scale neck and a rotated decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.cim import CIM
from ..blocks.decoder import TopDownDecoder
from ..blocks.intra_scale import IntraScaleInteraction
from ..blocks.staged import StagedSegmenter, freeze_unread
from .official_keys import OFFICIAL_FORMAT


class RMSIN(StagedSegmenter):
    """Swin and BERT with intra-scale fusion in every stage, a cross-scale neck and a rotated decoder."""

    version = 1
    official_format = OFFICIAL_FORMAT
    # The last stage hands on its PWAM output alone. A normalisation cancels the bias of the attention's output.
    contract = Contract(dead_parameters=r"stages\.3\.(gate|visual_gate|repblock)\.|.*attention\.out\.bias$")

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        decoder_width: int | None,
    ) -> None:
        """Build the model; the values are in ``conf/model/rmsin.yaml``.

        Args:
            views: one view, ``{"image": side}``; the model works at this size only.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
        """
        super().__init__(views, max_tokens, vision, text)
        widths = self.backbone.widths
        self.stages = nn.ModuleList(IntraScaleInteraction(width, self.text_encoder.width) for width in widths)
        last = cast(IntraScaleInteraction, self.stages[-1])
        freeze_unread(last.gate, last.visual_gate, last.repblock)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.cim = CIM(widths, self.backbone.sides[-1])
        self.decoder = TopDownDecoder(widths, decoder_width, rotated=True)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4).

        Raises:
            UserError: views of another size than the model was built for.
        """
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        outputs = self.fused_stages(views["image"], words_BLD, mask_BL)
        return SegmenterOutput(self.decoder(self.cim(outputs)))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but no ``bn`` and no decoder norm."""
        return not name.startswith("decoder.") and self.backbone.no_weight_decay(name)
