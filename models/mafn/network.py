"""The network: RMSIN with learned noise in the Swin blocks, correlation-aware fusion and multi-scale decoder blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.backbones.swin import SwinEncoder
from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.attention import GatedPWAM
from ..blocks.cim import CIM
from ..blocks.decoder import TopDownDecoder
from ..blocks.staged import StagedSegmenter
from .correlation import CorrelationStage
from .decoder import MultiScaleConvBlock
from .noise import AdaptiveNoise
from .official_keys import OFFICIAL_FORMAT


class MAFN(StagedSegmenter):
    """RMSIN with adaptive noise, correlation-aware fusion and multi-scale decoder blocks."""

    version = 1
    official_format = OFFICIAL_FORMAT
    contract = Contract(dead_parameters=r"stages\.\d\.pwam\.attention\.out\.bias$")  # a normalisation cancels it

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        decoder_width: int | None,
    ) -> None:
        """Build the model; the values are in ``conf/model/mafn.yaml``.

        Args:
            views: one view, ``{"image": side}``; the model works at this size only.
            max_tokens: L.
            vision: node of a `SwinEncoder`: the noise is part of its blocks.
            text: node of a `TextEncoder`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
        """
        super().__init__(views, max_tokens, vision, text, needs=SwinEncoder)
        assert isinstance(self.backbone, SwinEncoder)
        self.backbone.extend_attention(AdaptiveNoise)
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        # The tokens of the last stage are never read: it has neither gates nor a fusion.
        self.stages = nn.ModuleList(
            [
                *(CorrelationStage(width, text_dim) for width in widths[:-1]),
                GatedPWAM(widths[-1], text_dim, gated=False),
            ]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.cim = CIM(widths, self.backbone.sides[-1])
        self.decoder = TopDownDecoder(widths, decoder_width, second=MultiScaleConvBlock)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4).

        Raises:
            UserError: views of another size than the model was built for.
        """
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        return SegmenterOutput(self.decoder(self.cim(self.fused_stages(views["image"], words_BLD, mask_BL))))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but no norm of fusions and decoder."""
        return not name.startswith(("decoder.", "stages.")) and self.backbone.no_weight_decay(name)
