"""The network: one Swin encodes both views, which exchange features with each other and the words after every stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_bench.backbones import build_text, build_vision
from rrsis_bench.backbones.interfaces import StagedEncoder, TextEncoder
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Contract, Segmenter, SegmenterOutput

from ..blocks.attention import GatedPWAM
from ..blocks.decoder import TopDownDecoder
from ..blocks.intra_scale import IntraScaleInteraction
from .cda import CollaborativeDilatedAttention
from .cross_view import CrossViewWindows, SummedViews
from .decoder import CDADecoder, Prediction
from .fusion import SHARES, LanguageFusions, SeparateFusions
from .views import Views, cut

FUSIONS = ("cvwin", "pwam", "iim", "sum")
DECODERS = ("cdad", "arc")
INTERACTIONS = ("both", "only_close", "only_remote", "remote_to_close", "close_to_remote")
STARTS = ("identity", "random")
SLICE_SIZE = 5


class CVWin(nn.Module):
    """Language fusion of each view after a Swin stage, then the exchange between the views."""

    def __init__(self, fusions: LanguageFusions | SeparateFusions, exchange: nn.Module | None) -> None:
        """Build from the fusions and the exchange (None: the views stay apart)."""
        super().__init__()
        self.fusions, self.exchange = fusions, exchange

    def forward(self, views: Views, words_BLD: Tensor, mask_BL: Tensor) -> Views:
        """Return the enhanced maps."""
        fused = self.fusions(views, words_BLD, mask_BL)
        if self.exchange is not None:
            return Views(*self.exchange(fused["remote"], fused["close"]))
        return Views(fused.get("remote"), fused.get("close"))


class CSINet(Segmenter):
    """Swin and BERT over a remote and a close view; see the package's header for paper, deviations and figures."""

    version = 2  # shared word projections, and the FFN behind the windows starts as the identity
    contract = Contract(tiny_overrides=("model.args.close_size=64",))

    def __init__(
        self,
        *,
        close_size: int,
        n_view: int,
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        interaction: str,
        fusion: str,
        gate: bool,
        share_language: str,
        integration_start: str,
        decoder: str,
        cda: bool,
        skip: bool,
        decoder_stages: int,
        slice_size: int,
        mask_padding: bool,
        cmp_width: int | None,
    ) -> None:
        """Build the model; the values are in ``conf/model/csinet.yaml``.

        Args:
            close_size: side of the close view, in pixels.
            n_view: N; the close view is cut into N x N patches, and the remote view's side is ``close_size / n_view``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            interaction: ``"both"`` directions between the views, ``"remote_to_close"`` or ``"close_to_remote"`` alone,
                or one view without any module of the other, ``"only_remote"`` or ``"only_close"`` (Table VII).
            fusion: ``"cvwin"``; ``"sum"`` replaces its window attention by resizing and adding; ``"pwam"`` (LAVT) and
                ``"iim"`` (RMSIN) replace it all by a fusion of each view on its own (Table V).
            gate: off adds the attended words to the map instead of Equation 3 (Table V).
            share_language: what both views share of the language fusion: ``"words"``, the projections of the words, as
                the printed sizes say; ``"all"``; or ``"none"``.
            integration_start: initial FFN behind the window attention: ``"identity"`` on the view's own tokens, which
                a pretrained encoder needs, or ``"random"``. Without this attention it has no effect.
            decoder: ``"cdad"``, or ``"arc"``, RMSIN's decoder on each view's maps (Table V).
            cda: collaboratively dilated attention in the decoder (Table V).
            skip: hand the top map to every step of the decoder (Table V).
            decoder_stages: maps D_1, D_2, ... of the decoder, 1 to 4 (Table VIII).
            slice_size: columns of a slice in the dilated attention (Table IX).
            mask_padding: keep the dilated attention off the rows beyond the map.
            cmp_width: channels inside the decoder, C_cmp; None is half the last stage's width. One decoder stage has no
                such part, and takes None only.

        Raises:
            UserError: unknown values, values without effect beside others, or sides that do not divide.
        """
        super().__init__()
        _check_choices(
            interaction=(interaction, INTERACTIONS),
            fusion=(fusion, FUSIONS),
            decoder=(decoder, DECODERS),
            share_language=(share_language, SHARES),
            integration_start=(integration_start, STARTS),
        )
        _check_combination(interaction, fusion, share_language, gate=gate)
        _check_decoder(decoder, cda, skip, decoder_stages, slice_size, mask_padding, cmp_width)
        has = {"remote": interaction != "only_close", "close": interaction != "only_remote"}
        self.has, self.n_view, self.max_tokens = has, n_view, max_tokens
        if n_view < 1:
            raise UserError(f"model.args.n_view must be at least 1, not {n_view}.")
        side = close_size // n_view
        sides = {"close": close_size, "remote": side}
        self.views = {name: value for name, value in sides.items() if has[name]}  # main view first

        self.backbone = build_vision(vision, StagedEncoder, image_size=side)
        unit = n_view * self.backbone.patch
        if close_size < unit or close_size % unit:
            raise UserError(
                f"model.args.close_size={close_size} must be a multiple of {unit}: n_view={n_view} times the vision "
                f"backbone's patch of {self.backbone.patch} pixels."
            )
        self.text_encoder = build_text(text, TextEncoder)
        widths, text_dim = self.backbone.widths, self.text_encoder.width
        directions = {"to_remote": interaction != "remote_to_close", "to_close": interaction != "close_to_remote"}

        def language(width: int) -> LanguageFusions | SeparateFusions:
            if fusion == "pwam":
                return SeparateFusions({name: GatedPWAM(width, text_dim) for name in self.views})
            if fusion == "iim":
                return SeparateFusions({name: IntraScaleInteraction(width, text_dim) for name in self.views})
            return LanguageFusions(list(self.views), width, text_dim, gate=gate, share=share_language)

        def exchange(width: int) -> nn.Module | None:
            if not all(has.values()) or fusion in ("pwam", "iim"):
                return None
            if fusion == "sum":
                return SummedViews(**directions)
            if self.backbone.window is None:
                raise UserError(
                    f"model.args.fusion=cvwin needs a vision backbone with windows, but vision.backbone="
                    f"{vision['backbone']} has none. Choose another with vision=, or model.args.fusion=sum."
                )
            keep_own = integration_start == "identity"
            return CrossViewWindows(width, self.backbone.window, n_view, keep_own=keep_own, **directions)

        self.stages = nn.ModuleList(CVWin(language(width), exchange(width)) for width in widths)
        hidden = cmp_width or widths[-1] // 2
        self.decoder: CDADecoder | TopDownDecoder
        if decoder == "cdad":
            attention = None
            if cda:
                attention = CollaborativeDilatedAttention(
                    widths[-1], n_view, slice_size=slice_size, mask_padding=mask_padding, **has
                )
            self.decoder = CDADecoder(widths, hidden, n_view, attention, skip=skip, stages=decoder_stages)
            hidden = self.decoder.width
        else:
            self.decoder = TopDownDecoder(widths, hidden, rotated=True)
            del self.decoder.head  # the prediction is made over both views
        self.prediction = Prediction(hidden, n_view, **has)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4), S the side of the close view (of the remote one, if alone).

        With fewer decoder stages the map is coarser.
        """
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        batch = len(mask_BL)
        x_BHWC = self._embed(views)
        outputs = []
        for index, stage in enumerate(self.stages):
            x_BHWC = self.backbone.stage(index, x_BHWC)
            maps = Views.from_batch(x_BHWC, batch, self.n_view, **self.has)
            maps = stage(maps, words_BLD, mask_BL)
            x_BHWC = maps.to_batch(self.n_view)
            outputs.append(x_BHWC.permute(0, 3, 1, 2))
        if isinstance(self.decoder, CDADecoder):
            decoded_BCHW = self.decoder(outputs, maps)
        else:
            decoded_BCHW = self.decoder.features(outputs)
        return SegmenterOutput(self.prediction(decoded_BCHW, batch))

    def _embed(self, views: Mapping[str, Tensor]) -> Tensor:
        """Patch embedding of both views as one batch.

        The close view is embedded whole and split afterwards. Swin's patches do not overlap, so the result is the same,
        and an encoder with absolute positions sees the position of a patch in the scene.
        """
        parts = []
        if self.has["remote"]:
            parts.append(self.backbone.embed(views["remote"]))
        if self.has["close"]:
            parts.append(cut(self.backbone.embed(views["close"]), self.n_view))
        return torch.cat(parts)

    def no_weight_decay(self, name: str) -> bool:
        """Swin's rule, by name, as in the LAVT family: norms and position tables, but no ``bn``."""
        return self.backbone.no_weight_decay(name)


def _check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    for field, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"model.args.{field} must be one of {', '.join(known)}, not {value!r}.")


def _check_combination(interaction: str, fusion: str, share_language: str, *, gate: bool) -> None:
    alone = interaction in ("only_close", "only_remote")
    if share_language != SHARES[0] and (alone or fusion in ("pwam", "iim")):
        other = f"interaction={interaction}, which has one view" if alone else f"fusion={fusion}, which shares nothing"
        raise UserError(
            f"model.args.share_language={share_language} has no effect with model.args.{other}; leave its default."
        )
    if fusion in ("pwam", "iim"):
        if interaction in ("remote_to_close", "close_to_remote"):
            raise UserError(
                f"model.args.interaction={interaction} has no effect with model.args.fusion={fusion}, which keeps the "
                "views apart; use interaction=both, only_close or only_remote."
            )
        if not gate:
            raise UserError(
                f"model.args.gate=false has no effect with model.args.fusion={fusion}, which has a gate of its own; "
                "leave gate=true."
            )
    if fusion == "sum" and alone:
        raise UserError(
            f"model.args.fusion=sum adds one view to the other, but model.args.interaction={interaction} leaves one "
            "view; use fusion=cvwin."
        )


def _check_decoder(
    decoder: str,
    cda: bool,
    skip: bool,
    decoder_stages: int,
    slice_size: int,
    mask_padding: bool,
    cmp_width: int | None,
) -> None:
    if not 1 <= decoder_stages <= 4:
        raise UserError(f"model.args.decoder_stages must be 1, 2, 3 or 4, not {decoder_stages}.")
    if slice_size < 1:
        raise UserError(f"model.args.slice_size must be at least 1, not {slice_size}.")
    of_attention = {"slice_size": slice_size != SLICE_SIZE, "mask_padding": mask_padding}
    if decoder == "arc":
        changed = {"cda": not cda, "skip": not skip, "decoder_stages": decoder_stages != 4, **of_attention}
        reason = "decoder=arc, which has no such part"
    elif not cda:
        changed, reason = of_attention, "cda=false"
    else:
        changed, reason = {}, ""
    if not skip and decoder_stages == 1:
        changed, reason = {"skip": True}, "decoder_stages=1, which leaves nothing to skip to"
    for field, is_changed in changed.items():
        if is_changed:
            raise UserError(f"model.args.{field} has no effect with model.args.{reason}; leave its default.")
    if decoder == "cdad" and decoder_stages == 1 and cmp_width is not None:
        raise UserError(
            f"model.args.cmp_width={cmp_width} has no effect with model.args.decoder_stages=1, whose map is the last "
            "stage's; set model.args.cmp_width=null (experiment=csinet_table8/d1 does)."
        )
