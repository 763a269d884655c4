"""The RIS-DMMI model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.padding import check_pads, padded_ids, used_slots
from ..blocks.staged import StagedSegmenter
from .decoder import LanguageDecoder
from .fusion import TwoWayStage
from .objective import ExpressionObjective
from .official_keys import OFFICIAL_FORMAT


class DMMI(StagedSegmenter):
    """LAVT with attention in both directions in every stage, and a decoder that reads the rewritten words."""

    version = 1
    phrase_masks = ("noun_mask",)
    official_format = OFFICIAL_FORMAT
    contract = Contract(dead_parameters=r"objective\.")  # the losses of training alone read it

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        pads: str,
        reconstruction_weight: float,
        contrast_weight: float,
    ) -> None:
        """Build the model; the values are in ``conf/model/dmmi.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`. The decoder is as wide as its words, a multiple of 24.
            pads: ``"official"`` (the decoder attends to pads, and they enter the mean of the contrastive loss, as in
                the authors' code) or ``"masked"``.
            reconstruction_weight: of the loss that rebuilds the expression.
            contrast_weight: of the loss between the images and the expressions of a batch.

        Raises:
            UserError: an unknown value of `pads`.
        """
        super().__init__(views, max_tokens, vision, text)
        self.pads = check_pads(pads)
        self.loss_weights = {"reconstruction": reconstruction_weight, "contrast": contrast_weight}
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        last = len(widths) - 1
        self.stages = nn.ModuleList(
            TwoWayStage(width, text_dim, gated=index < last) for index, width in enumerate(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.decoder = LanguageDecoder(widths, text_dim)
        self.objective = ExpressionObjective(text_dim)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4), and in training the two further losses."""
        mask_BL, ids_BL = text["attention_mask"], padded_ids(text)
        words_BLD = self.text_encoder(ids_BL, mask_BL)
        x_BHWC, outputs = self.backbone.embed(views["image"]), []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x_BHWC, r_BHWC, words_BLD = stage(self.backbone.stage(index, x_BHWC), words_BLD, mask_BL)
            outputs.append(norm(r_BHWC).permute(0, 3, 1, 2))
        slots_BL = used_slots(mask_BL, self.pads)
        maps = self.decoder.maps(outputs, words_BLD, slots_BL)
        logits = self.decoder.classify(maps[-1])
        if not self.training:
            return SegmenterOutput(logits)
        masked_BLD = self.text_encoder(ids_BL * (1 - text["noun_mask"]), mask_BL)
        losses = {
            "reconstruction": self.objective.reconstruction(maps, masked_BLD, words_BLD, mask_BL),
            "contrast": self.objective.contrast(maps, words_BLD, slots_BL, self.whole_batch),
        }
        return SegmenterOutput(logits, {name: self.loss_weights[name] * loss for name, loss in losses.items()})

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but nothing of the classifier."""
        return not name.startswith(("decoder.", "objective.")) and self.backbone.no_weight_decay(name)
