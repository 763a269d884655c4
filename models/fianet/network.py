"""The network: Swin and BERT, FIAM in every stage, TMEM as the neck, and LAVT's decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.cim import CIM
from ..blocks.decoder import TopDownDecoder
from ..blocks.guidance import GuidedStages
from ..blocks.staged import StagedSegmenter, freeze_unread
from .fiam import FIAM, Phrase
from .official_keys import OFFICIAL_FORMAT
from .tmem import TMEM

STAGE_OUTPUTS = ("pwam", "fused")
NECKS = ("tmem", "cim", "lgce", "none")
MODULATION_INPUTS = ("map", "fused")


class FIANet(StagedSegmenter):
    """Swin and BERT with fine-grained alignment (FIAM) in every stage and a multi-scale neck (TMEM)."""

    version = 1
    official_format = OFFICIAL_FORMAT
    # The frozen parts of the last stage. A normalisation cancels the bias of the attention's output.
    contract = Contract(
        dead_parameters=r"stages\.3\.(context_gate|object|position|modulation)\.|.*attention\.out\.bias$"
    )

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        num_tmem: int,
        fiam: bool,
        neck: str,
        channel_modulation: bool,
        modulation_input: str,
        object_branch: bool,
        position_branch: bool,
        stage_output: str,
        go_embedding: bool,
        decoder_width: int | None,
    ) -> None:
        """Build the model; the values are in ``conf/model/fianet.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L; 22 for RRSIS-D, 20 for RefSegRS.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            num_tmem: blocks of the TMEM; 3 for RRSIS-D, 1 for RefSegRS.
            fiam: off leaves LAVT's gated PWAM in every stage (Table V).
            neck: ``"tmem"``; ``"none"`` hands the stages to the decoder as they are (Table V); ``"cim"`` is RMSIN's
                and ``"lgce"`` is LGCE's, over the words without padding (Figure 9).
            channel_modulation: part of FIAM (Table VI).
            modulation_input: features that the channel weights are computed from: the ``"map"`` before fusion, as in
                the authors' code, or the ``"fused"`` features of Equation 9.
            object_branch: part of FIAM (Table VI).
            position_branch: part of FIAM (Table VI).
            stage_output: input of neck and decoder: ``"pwam"``, the context's PWAM output, as in the authors' code, or
                ``"fused"``, the fused tokens of Equation 10.
            go_embedding: keep the authors' unused linear layers, for their exact parameter count.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.

        Raises:
            UserError: an unknown value, `num_tmem` below 1, or a value without effect beside others.
        """
        if stage_output not in STAGE_OUTPUTS:
            raise UserError(f"model.args.stage_output must be one of {', '.join(STAGE_OUTPUTS)}, not {stage_output!r}.")
        if neck not in NECKS:
            raise UserError(f"model.args.neck must be one of {', '.join(NECKS)}, not {neck!r}.")
        if modulation_input not in MODULATION_INPUTS:
            raise UserError(
                f"model.args.modulation_input must be one of {', '.join(MODULATION_INPUTS)}, not {modulation_input!r}."
            )
        if modulation_input != MODULATION_INPUTS[0] and not (fiam and channel_modulation):
            raise UserError(
                f"model.args.modulation_input={modulation_input} has no effect without fiam and channel_modulation; "
                "leave its default."
            )
        if num_tmem < 1:
            raise UserError(f"model.args.num_tmem must be at least 1, not {num_tmem}; neck=none leaves the TMEM out.")
        super().__init__(views, max_tokens, vision, text)
        self.stage_output = stage_output
        objects, positions = fiam and object_branch, fiam and position_branch
        self.phrase_masks = ("object_mask",) * objects + ("position_mask",) * positions
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        self.stages = nn.ModuleList(
            FIAM(
                width,
                text_dim,
                channel_modulation=fiam and channel_modulation,
                modulate_fused=modulation_input == "fused",
                object_branch=objects,
                position_branch=positions,
                go_embedding=go_embedding,
            )
            for width in widths
        )
        if stage_output == "pwam":  # of the last stage, only the context's PWAM reaches neck and decoder
            last = cast(FIAM, self.stages[-1])
            freeze_unread(last.context_gate, last.object, last.position, last.modulation)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.tmem = TMEM(widths, text_dim, num_tmem) if neck == "tmem" else None
        self.cim = CIM(widths, self.backbone.sides[-1]) if neck == "cim" else None
        self.guided = GuidedStages(widths, text_dim) if neck == "lgce" else None
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
        elif self.cim is not None:
            outputs = self.cim(outputs)
        elif self.guided is not None:
            outputs = self.guided(outputs, context.words_BLD, context.mask_BL)
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
