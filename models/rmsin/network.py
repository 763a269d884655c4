"""The network: Swin and BERT, a gated visual residual in every stage, a cross-scale neck and a rotated decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.backbones.swin import SwinEncoder
from rrsis_bench.interfaces import Contract, Segmenter, SegmenterOutput

from ..blocks.decoder import TopDownDecoder
from ..blocks.intra_scale import IntraScaleInteraction
from .cim import CIM
from .official_keys import OFFICIAL_FORMAT


class RMSIN(Segmenter):
    """Swin and BERT with intra-scale fusion in every stage, a cross-scale neck and a rotated decoder."""

    version = 1
    official_format = OFFICIAL_FORMAT
    # The last stage hands on its PWAM output alone. A normalisation cancels the bias of the attention's output.
    contract = Contract(dead_parameters=r"stages\.3\.(gate|visual_gate|repblock)\.|.*attention\.out\.bias$")

    def __init__(
        self,
        views: Mapping[str, int] | None = None,
        max_tokens: int = 20,
        swin: Mapping[str, Any] | None = None,
        bert: Mapping[str, Any] | None = None,
        *,
        decoder_width: int | None = None,
    ) -> None:
        """Build the model; None means the paper's size.

        Args:
            views: one view, ``{"image": side}``; the model works at this size only.
            max_tokens: L.
            swin: fields of `rrsis_bench.backbones.swin.SwinConfig`.
            bert: fields of `rrsis_bench.backbones.bert.BertConfig`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
        """
        super().__init__()
        self.views = dict(views or {"image": 480})
        self.max_tokens = max_tokens
        self.backbone = SwinEncoder(self.views["image"], swin)
        self.text_encoder = BertEncoder(bert)
        widths = self.backbone.widths
        self.stages = nn.ModuleList(IntraScaleInteraction(width, self.text_encoder.width) for width in widths)
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
        x_BHWC, outputs = self.backbone.embed(views["image"]), []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x_BHWC, r_BHWC = stage(self.backbone.stage(index, x_BHWC), words_BLD, mask_BL)
            outputs.append(norm(r_BHWC).permute(0, 3, 1, 2))
        return SegmenterOutput(self.decoder(self.cim(outputs)))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but no ``bn`` and no decoder norm."""
        return not name.startswith("decoder.") and self.backbone.no_weight_decay(name)
