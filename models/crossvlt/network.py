"""The CrossVLT model."""

# E = ALIGN_DIM

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.backbones.swin import SwinEncoder, SwinStage
from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.decoder import TopDownDecoder
from ..blocks.staged import StagedSegmenter
from .fusion import GatedFusion
from .language import LanguageStage
from .official_keys import OFFICIAL_FORMAT

ALIGN_DIM = 256
"""Width of the space in which pixels and sentences are compared in training."""
MAIN_WEIGHT = 2.0


class CrossVLT(StagedSegmenter):
    """Swin and BERT, both in four stages, each of which reads the other."""

    version = 1
    official_format = OFFICIAL_FORMAT
    contract = Contract(dead_parameters=r"(pixel|sentence)_projections\.")  # the side maps of training alone

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        decoder_width: int | None,
        bert_layers: int,
        stage_alignment: float,
    ) -> None:
        """Build the model; the values are in ``conf/model/crossvlt.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            vision: node of a `SwinEncoder`.
            text: node of a `BertEncoder`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
            bert_layers: layers of BERT in the first language stage. The further ones are not used.
            stage_alignment: weight of each side map, beside 2 of the prediction; 0 leaves them out.

        Raises:
            UserError: more layers than the encoder has.
        """
        super().__init__(views, max_tokens, vision, text, needs=SwinEncoder, needs_text=BertEncoder)
        bert = self.text_encoder
        assert isinstance(bert, BertEncoder)
        bert.keep_layers(bert_layers)
        self.stage_alignment = stage_alignment
        widths, text_dim = self.backbone.widths, bert.width
        last = len(widths) - 1
        self.language = nn.ModuleList(LanguageStage(bert.config, width) for width in widths[1:])
        # The attention of the first stage is as wide as that of the second.
        self.stages = nn.ModuleList(
            GatedFusion(width, text_dim, max(width, widths[1]), gated=index < last)
            for index, width in enumerate(widths)
        )
        self.merged = nn.ModuleList(GatedFusion(width, text_dim, width) for width in widths[1:])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.decoder = TopDownDecoder(widths, decoder_width)
        self.pixel_projections = nn.ModuleList(nn.Linear(width, ALIGN_DIM) for width in widths)
        self.sentence_projections = nn.ModuleList(nn.Linear(text_dim, ALIGN_DIM) for _ in widths)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4), and in training the similarity map of each stage."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        x_BHWC = self.backbone.embed(views["image"])
        outputs, side_logits = [], {}
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if index:
                x_BHWC, _ = self.merged[index - 1](self._layer(index).downsample(x_BHWC), words_BLD, mask_BL)
                words_BLD = self.language[index - 1](words_BLD, x_BHWC, mask_BL)
            x_BHWC = self._layer(index).blocks(x_BHWC)
            if self.training and self.stage_alignment:
                similarity_BHW = self._similarity(index, x_BHWC, words_BLD[:, 0])
                side_logits[f"stage{index + 1}"] = (self.stage_alignment, similarity_BHW)
            x_BHWC, r_BHWC = stage(x_BHWC, words_BLD, mask_BL)
            outputs.append(norm(r_BHWC).permute(0, 3, 1, 2))
        weight = MAIN_WEIGHT if side_logits else 1.0
        return SegmenterOutput(self.decoder(outputs), side_logits=side_logits, main_weight=weight)

    def _layer(self, index: int) -> SwinStage:
        return cast(SwinStage, cast(SwinEncoder, self.backbone).layers[index])

    def _similarity(self, index: int, x_BHWC: Tensor, first_BD: Tensor) -> Tensor:
        """Return the cosine (B, H, W) between every pixel and the first token, [CLS]."""
        pixels_BHWE = F.normalize(self.pixel_projections[index](x_BHWC), dim=-1)
        sentence_BE = F.normalize(self.sentence_projections[index](first_BD), dim=-1)
        return (pixels_BHWE * sentence_BE[:, None, None]).sum(-1)

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder of images."""
        return name.startswith(("backbone.", "norms.")) and self.backbone.no_weight_decay(name)
