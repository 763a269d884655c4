"""FIANet: Exploring Fine-Grained Image-Text Alignment for Referring Remote Sensing Image Segmentation.

Sen Lei, Xinyu Xiao, Tianlin Zhang, Heng-Chao Li, Zhenwei Shi, Qing Zhu. IEEE TGRS, arXiv 2409.13637.
Official code: https://github.com/Shaosifan/FIANet (no licence; none of it is copied here).

Where paper and code differ, the code is followed, because it produced the printed numbers:
    - A stage hands the context's PWAM output on to neck and decoder, not the fused tokens of Equation 10, which only
      reach the next stage. The gate, the object and position branches and the modulation of the last stage therefore
      have no effect and never learn. `stage_output="fused"` is the paper's reading.
    - The text-aware multi-scale attention has one head, with the map as query and the words as keys and values.
    - Channel weights are computed from the map before fusion, not from the fused features of Equation 9.
    - Object and position texts are BERT run on the same ids with the phrase's mask as attention mask.
    - Weight decay is 0.01 (the code's default), not 0.1; see the recipe.

Deviations from the code:
    - Those of `models.lavt`: linear layers, one logit at a quarter of the size, stages smaller than the window.
    - The three BERT passes run as one batch.
    - An object phrase that is not found falls back to the whole expression, as the authors do for the position phrase
      only; with an all-zero mask the object branch adds nothing, as in their code.
    - Their unused layer `go_embedding` (1.393 M parameters) is left out unless `go_embedding=True`.
    - Table VI never removes the object branch alone; then the position prior weighs the context features.

Printed numbers (Tables I and III; test, with the checkpoint selected on test):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  84.09    77.05    61.86    33.41    7.10     78.32  68.67
    RRSIS-D   74.46    66.96    56.31    42.83    24.13    76.91  64.01
    ========  =======  =======  =======  =======  =======  =====  =====

Ablations on RefSegRS test, oIoU / mIoU. Table V: neither FIAM nor TMEM 74.90 / 62.24, FIAM alone 77.83 / 66.68, TMEM
alone 75.62 / 65.39, both 78.32 / 68.67. Table VI, with TMEM: no part of FIAM 75.62 / 65.39; channel modulation
76.07 / 65.76; the object branch added 77.40 / 67.01; the position branch added 78.32 / 68.67. The row labels of the
per-category Table IV are shifted by one.

Parameters at paper size: 254.776 M with 3 TMEM blocks, 250.526 M with 1; 256.169 M and 251.919 M with `go_embedding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.backbones.swin import SwinEncoder
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from rrsis_bench.official import OfficialLayout

from .blocks.decoder import TopDownDecoder
from .blocks.fiam import FIAM, Phrase
from .blocks.official_keys import (
    BLOCK_RENAMES,
    FAMILY_BUILD_ARGS,
    FAMILY_IGNORED,
    FAMILY_PARTS,
    FAMILY_RENAMES,
    SCALE_GATE_RENAMES,
)
from .blocks.tmem import TMEM

STAGE_OUTPUTS = ("pwam", "fused")


# Module names inside a stage: the authors' on the left.
_STAGE = r"^backbone\.layers\.(\d)\."
_ALIGN = _STAGE + r"object_position_align_blk\."
_STAGE_RENAMES = (
    (_STAGE + r"context_pixel_attn\.", r"stages.\1.context."),
    (_STAGE + r"context_tanh_gate\.0\.", r"stages.\1.context_gate.inner."),
    (_STAGE + r"context_tanh_gate\.2\.", r"stages.\1.context_gate.outer."),
    (_STAGE + r"fc1\.", r"stages.\1.modulation.shrink."),
    (_STAGE + r"fc2\.", r"stages.\1.modulation.expand."),
    (_ALIGN + r"go_cross_attn\.", r"stages.\1.object.attention."),
    (_ALIGN + r"go_tanh_gating\.0\.", r"stages.\1.object.gate.inner."),
    (_ALIGN + r"go_tanh_gating\.2\.", r"stages.\1.object.gate.outer."),
    (_ALIGN + r"go_embedding\.", r"stages.\1.object.go_embedding."),
    (_ALIGN + r"sp_cross_attn\.", r"stages.\1.position.attention."),
    (_ALIGN + r"conv1\.", r"stages.\1.position.conv."),
)
_NECK_RENAMES = (
    (r"^backbone\.tmem\.down_channel\.", "tmem.down."),
    (r"^backbone\.tmem\.up_channel\.", "tmem.up."),
    (r"^backbone\.tmem\.bn\.", "tmem.bn."),
    (r"^backbone\.tmem\.block\.(\d+)\.tma\.", r"tmem.blocks.\1.attention."),
    (r"^backbone\.tmem\.block\.(\d+)\.ff\.net\.0\.", r"tmem.blocks.\1.expand."),
    (r"^backbone\.tmem\.block\.(\d+)\.ff\.net\.3\.", r"tmem.blocks.\1.shrink."),
    (r"^backbone\.tmem\.block\.(\d+)\.", r"tmem.blocks.\1."),
    *SCALE_GATE_RENAMES,
)


class FIANet(Segmenter):
    """Swin and BERT with fine-grained alignment (FIAM) in every stage and a multi-scale neck (TMEM)."""

    official_layout = OfficialLayout(
        renames=(*_STAGE_RENAMES, *_NECK_RENAMES, *BLOCK_RENAMES, *FAMILY_RENAMES),
        ignored={**FAMILY_IGNORED, r"\.go_embedding\.weight$": "a layer that the authors' code never uses"},
        parts=FAMILY_PARTS,
        build_args=FAMILY_BUILD_ARGS,
    )

    def __init__(
        self,
        views: Mapping[str, int] | None = None,
        max_tokens: int = 22,
        swin: Mapping[str, Any] | None = None,
        bert: Mapping[str, Any] | None = None,
        *,
        num_tmem: int = 3,
        fiam: bool = True,
        tmem: bool = True,
        channel_modulation: bool = True,
        object_branch: bool = True,
        position_branch: bool = True,
        stage_output: str = "pwam",
        go_embedding: bool = False,
        decoder_width: int | None = None,
    ) -> None:
        """Build the model; None stands for the paper's size.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L; 22 for RRSIS-D, 20 for RefSegRS.
            swin: fields of `rrsis_bench.backbones.swin.SwinConfig`.
            bert: fields of `rrsis_bench.backbones.bert.BertConfig`.
            num_tmem: blocks of the TMEM; 3 for RRSIS-D, 1 for RefSegRS.
            fiam: off leaves LAVT's gated PWAM in every stage (Table V).
            tmem: off hands the stages to the decoder as they are (Table V).
            channel_modulation: part of FIAM (Table VI).
            object_branch: part of FIAM (Table VI).
            position_branch: part of FIAM (Table VI).
            stage_output: what a stage hands to neck and decoder: ``"pwam"``, the context's PWAM output, as the authors'
                code does, or ``"fused"``, the fused tokens of Equation 10.
            go_embedding: keep the authors' unused linear layers, for their exact parameter count.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.

        Raises:
            UserError: an unknown `stage_output`, or `num_tmem` below 1.
        """
        super().__init__()
        if stage_output not in STAGE_OUTPUTS:
            raise UserError(f"model.args.stage_output must be one of {', '.join(STAGE_OUTPUTS)}, not {stage_output!r}.")
        if num_tmem < 1:
            raise UserError(f"model.args.num_tmem must be at least 1, not {num_tmem}; tmem=false leaves the TMEM out.")
        self.views = dict(views or {"image": 480})
        self.max_tokens = max_tokens
        self.stage_output = stage_output
        objects, positions = fiam and object_branch, fiam and position_branch
        self.phrase_masks = ("object_mask",) * objects + ("position_mask",) * positions
        self.backbone = SwinEncoder(self.views["image"], swin)
        self.text_encoder = BertEncoder(bert)
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        self.stages = nn.ModuleList(
            FIAM(
                width,
                text_dim,
                channel_modulation=fiam and channel_modulation,
                object_branch=objects,
                position_branch=positions,
                go_embedding=go_embedding,
            )
            for width in widths
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.tmem = TMEM(widths, text_dim, num_tmem) if tmem else None
        self.decoder = TopDownDecoder(widths, decoder_width)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4)."""
        phrases = self._encode_text(text)
        context = phrases["attention_mask"]
        x_BHWC, outputs = self.backbone.embed(views["image"]), []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x_BHWC = self.backbone.stage(index, x_BHWC)
            x_BHWC, r_BHWC = stage(x_BHWC, context, phrases.get("object_mask"), phrases.get("position_mask"))
            output_BHWC = r_BHWC if self.stage_output == "pwam" else x_BHWC
            outputs.append(norm(output_BHWC).permute(0, 3, 1, 2))
        if self.tmem is not None:
            outputs = self.tmem(outputs, context.words_BLD, context.mask_BL)
        return SegmenterOutput(self.decoder(outputs))

    def _encode_text(self, text: Mapping[str, Tensor]) -> dict[str, Phrase]:
        """Encode the same ids under each mask, in one batch: mask name -> phrase."""
        names = ("attention_mask", *self.phrase_masks)
        masks = [text[name] for name in names]
        words = self.text_encoder(text["input_ids"].repeat(len(masks), 1), torch.cat(masks)).chunk(len(masks))
        return {name: Phrase(*pair) for name, *pair in zip(names, words, masks, strict=True)}

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables, but not BERT's ``LayerNorm`` nor any ``bn``."""
        return self.backbone.no_weight_decay(name)
