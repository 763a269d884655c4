"""The network: Swin and BERT, fused in every stage, and a decoder that merges the stages by frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.padding import check_pads, padded_ids, used_slots
from ..blocks.staged import StagedSegmenter
from .decoder import FrequencyDecoder
from .fusion import StageFusion
from .official_keys import OFFICIAL_FORMAT

AUTHORS_WIDTH = 384


class LSCF(StagedSegmenter):
    """Swin and BERT with a fusion in every stage and a frequency-aware decoder."""

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
        freq_channels: int,
        pads: str,
    ) -> None:
        """Build the model; the values are in ``conf/model/lscf.yaml``.

        Args:
            views: one view, ``{"image": side}``; the model works at this size only.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            decoder_width: channels inside the decoder; None is the authors' 384.
            freq_channels: channels that the decoder predicts its kernels from.
            pads: ``"official"`` (pads enter the sentence vector, as in the authors' code) or ``"masked"``.

        Raises:
            UserError: an unknown value of `pads`.
        """
        super().__init__(views, max_tokens, vision, text)
        self.pads = check_pads(pads)
        widths, sides, text_dim = self.backbone.widths, self.backbone.sides, self.text_encoder.width
        last = len(widths) - 1
        self.stages = nn.ModuleList(
            StageFusion(width, text_dim, side, gated=index < last)
            for index, (width, side) in enumerate(zip(widths, sides, strict=True))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.decoder = FrequencyDecoder(widths, text_dim, decoder_width or AUTHORS_WIDTH, freq_channels)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4).

        Raises:
            UserError: views of another size than the model was built for.
        """
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(padded_ids(text), mask_BL)
        self.require_size(views["image"], "agent biases")
        outputs = self.fused_stages(views["image"], words_BLD, mask_BL)
        slots_BL = used_slots(mask_BL, self.pads).to(words_BLD.dtype)
        count_B = mask_BL.sum(1).clamp(min=1).to(words_BLD.dtype)
        return SegmenterOutput(self.decoder(outputs, words_BLD, slots_BL, count_B))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of encoder and fusions, but no ``bn``."""
        return not name.startswith(("decoder.", "text_encoder.")) and self.backbone.no_weight_decay(name)
