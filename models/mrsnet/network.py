"""The network: intra-scale interaction after every Swin stage, the hierarchical neck, RMSIN's decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Contract, SegmenterOutput

from ..blocks.decoder import TopDownDecoder
from ..blocks.staged import StagedSegmenter
from .hfim import HFIM
from .ifim import IFIM
from .psr import SOFTMAXES


class MRSNet(StagedSegmenter):
    """Swin and BERT with IFIM in every stage and HFIM over them; the package's header lists deviations and figures."""

    version = 1
    # A normalisation cancels the bias of the attention's output.
    contract = Contract(dead_parameters=r".*attention\.out\.bias$")

    def __init__(
        self,
        *,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        decoder_width: int | None,
        psr: bool,
        csr: bool,
        psr_softmax: str,
        hfim_reduce: bool,
    ) -> None:
        """Build the model; the values are in ``conf/model/mrsnet.yaml``.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as RMSIN has it.
            psr: pyramidal spatial-spectral refinement in every stage (Table III).
            csr: context-aware spatial relation modelling in every stage (Table III).
            psr_softmax: the spectral weights of the refinement sum to 1 over the ``"channels"`` of a frequency, or
                over the ``"positions"`` of a channel.
            hfim_reduce: the neck reduces every stage to its own number of channels; off keeps all channels that the
                pixel unshuffling gives, 15 360 for Swin-B.

        Raises:
            UserError: an unknown softmax axis, one chosen without the refinement that it belongs to, or widths that
                the heads of the neck do not divide.
        """
        if psr_softmax not in SOFTMAXES:
            raise UserError(f"model.args.psr_softmax must be one of {', '.join(SOFTMAXES)}, not '{psr_softmax}'.")
        if not psr and psr_softmax != "channels":
            raise UserError("model.args.psr_softmax has no effect with model.args.psr=false; leave its default.")
        super().__init__(views, max_tokens, vision, text)
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        self.stages = nn.ModuleList(IFIM(width, text_dim, psr=psr, csr=csr, softmax=psr_softmax) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.hfim = HFIM(widths, reduce=hfim_reduce)
        self.decoder = TopDownDecoder(widths, decoder_width, rotated=True)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4)."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        x_BHWC, outputs = self.backbone.embed(views["image"]), []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x_BHWC = self.backbone.stage(index, x_BHWC)
            refined_BHWC = stage(x_BHWC, words_BLD, mask_BL)
            x_BHWC = x_BHWC + refined_BHWC
            outputs.append(norm(refined_BHWC).permute(0, 3, 1, 2))
        return SegmenterOutput(self.decoder(self.hfim(outputs)))

    def no_weight_decay(self, name: str) -> bool:
        """RMSIN's rule, by name: norms and position tables of the encoder, but no ``bn`` and no decoder norm."""
        return not name.startswith("decoder.") and self.backbone.no_weight_decay(name)
