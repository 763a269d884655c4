"""The RefSegformer model."""

# M = memory tokens

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.padding import check_pads
from ..blocks.staged import StagedSegmenter
from .decoder import MemoryDecoder
from .fusion import MemoryFusion
from .official_keys import OFFICIAL_FORMAT


class RefSegformer(StagedSegmenter):
    """Swin and BERT, joined through a memory in all stages but the first, and a mask at every level."""

    version = 1
    official_format = OFFICIAL_FORMAT
    contract = Contract(dead_parameters=r"decoder\.heads\.[123]\.")  # the side maps of training alone

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        pads: str,
        zero_start: bool,
        side_weight: float,
    ) -> None:
        """Build the model; the values are in ``conf/model/refsegformer.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            pads: ``"official"`` (pads take their share of the memory's attention, as in the authors' code) or
                ``"masked"``.
            zero_start: whether all that the pixels read starts as 0, as in the authors' code.
            side_weight: weight of each coarser mask in training, beside 1 of the finest; 0 leaves them out.

        Raises:
            UserError: an unknown value of `pads`.
        """
        super().__init__(views, max_tokens, vision, text)
        self.pads = check_pads(pads)
        self.side_weight = side_weight
        widths = self.backbone.widths
        self.stages = nn.ModuleList(
            MemoryFusion(width, self.text_encoder.width, zero_start=zero_start) for width in widths[1:]
        )
        self.decoder = MemoryDecoder(widths, zero_start=zero_start)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4), and in training those of the coarser levels."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        x_BHWC = self.backbone.stage(0, self.backbone.embed(views["image"]))
        outputs, memories = [x_BHWC], []
        for index, fusion in enumerate(self.stages, 1):
            x_BHWC = self.backbone.stage(index, x_BHWC)
            read_BHWC, memory_BMC = fusion(x_BHWC, words_BLD, mask_BL, read_pads=self.pads == "official")
            x_BHWC = x_BHWC + read_BHWC
            outputs.append(read_BHWC)
            memories.append(memory_BMC)
        logits, *coarser = self.decoder([output.permute(0, 3, 1, 2) for output in outputs], memories)
        sides = {f"stage{stage}": (self.side_weight, side) for stage, side in enumerate(coarser, 2)}
        return SegmenterOutput(logits, side_logits=sides if self.training and self.side_weight else {})

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but no batch norm."""
        return name.startswith("backbone.") and self.backbone.no_weight_decay(name)
