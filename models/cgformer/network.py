"""The CGFormer model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.attention import GatedPWAM
from ..blocks.staged import StagedSegmenter
from .decoder import GroupingDecoder
from .official_keys import OFFICIAL_FORMAT

HEADS = 8


class CGFormer(StagedSegmenter):
    """LAVT's encoder with 8 heads, and a decoder in which tokens group the pixels."""

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
        dropout: float,
        group_weights: Sequence[float],
        inference_noise: bool,
    ) -> None:
        """Build the model; the values are in ``conf/model/cgformer.yaml``.

        Args:
            views: one view, ``{"image": side}``; the model works at this size only.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
            dropout: rate behind the grouping and in its MLP.
            group_weights: weight in training of the pixels that picked the target's token, per level, coarse to fine.
            inference_noise: whether pixels draw their tokens in evaluation too, as in the authors' code. Its masks are
                random then.

        Raises:
            UserError: another number of weights than levels, or a negative one.
        """
        super().__init__(views, max_tokens, vision, text)
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        last = len(widths) - 1
        if len(group_weights) != last or min(group_weights) < 0:
            raise UserError(
                f"model.args.group_weights={list(group_weights)}: {last} weights of at least 0 are needed, one per "
                "level of the decoder."
            )
        self.group_weights = [float(weight) for weight in group_weights]
        self.inference_noise = inference_noise
        self.stages = nn.ModuleList(
            GatedPWAM(width, text_dim, heads=HEADS, gated=index < last) for index, width in enumerate(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.decoder = GroupingDecoder(widths, self.backbone.sides, text_dim, decoder_width or widths[-1] // 2, dropout)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S, S), and in training the pixels that picked the target's token per level.

        Raises:
            UserError: views of another size than the model was built for.
        """
        image_B3SS, mask_BL = views["image"], text["attention_mask"]
        self.require_size(image_B3SS, "tables of positions")
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        outputs = self.fused_stages(image_B3SS, words_BLD, mask_BL)
        size = cast(tuple[int, int], tuple(image_B3SS.shape[-2:]))
        logits, picked = self.decoder(outputs, words_BLD, mask_BL, size, noise=self.training or self.inference_noise)
        if not self.training:
            return SegmenterOutput(logits)
        sides = {
            f"level{level}": (weight, picked_Bhw)
            for level, (weight, picked_Bhw) in enumerate(zip(self.group_weights, picked, strict=True), 1)
            if weight
        }
        return SegmenterOutput(logits, side_logits=sides)
