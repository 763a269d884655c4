"""The CARIS model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ImageFirstSegmenter, SegmenterOutput

from ..blocks.staged import StagedSegmenter
from .decoder import HEADS, ContextDecoder
from .official_keys import OFFICIAL_FORMAT
from .prompts import ImagePrompts

AUTHORS_WIDTH = 256


class CARIS(StagedSegmenter, ImageFirstSegmenter):
    """Swin, BERT that reads prompts of the image, and a decoder in which words and pixels read each other."""

    version = 1
    official_format = OFFICIAL_FORMAT

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        decoder_width: int | None,
        decoder_layers: int,
    ) -> None:
        """Build the model; the values are in ``conf/model/caris.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `BertEncoder`.
            decoder_width: channels inside the decoder, a multiple of 8; None is the authors' 256.
            decoder_layers: layers in which words and pixels read each other.

        Raises:
            UserError: a width that the heads do not divide, or no layer.
        """
        super().__init__(views, max_tokens, vision, text, needs_text=BertEncoder)
        width = decoder_width or AUTHORS_WIDTH
        if width % HEADS:
            raise UserError(f"model.args.decoder_width={width} must be a multiple of {HEADS}, the decoder's heads.")
        if decoder_layers < 1:
            raise UserError(f"model.args.decoder_layers={decoder_layers} must be 1 or more.")
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.prompts = ImagePrompts(widths[-1], text_dim)
        self.decoder = ContextDecoder(widths, text_dim, width, decoder_layers)

    def encode_image(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the prompts (B, P, D) and the projected stages (B, C, H, W)."""
        x_BHWC, stages = self.backbone.embed(views["image"]), []
        for index, norm in enumerate(self.norms):
            x_BHWC = self.backbone.stage(index, x_BHWC)
            stages.append(norm(x_BHWC).permute(0, 3, 1, 2))
        return {"prompts": self.prompts(stages[-1]), **self.decoder.project(stages)}

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4)."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL, encoded["prompts"])
        return SegmenterOutput(self.decoder(encoded, words_BLD, mask_BL))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: layer norms, position tables, prompts and BERT's embeddings."""
        if name.startswith("decoder."):
            return "norm" in name or "prompt" in name
        if name.startswith("text_encoder."):
            return "Norm" in name or "embeddings" in name
        if name.startswith("prompts."):
            return name.startswith(("prompts.learned.", "prompts.norm."))
        return self.backbone.no_weight_decay(name)
