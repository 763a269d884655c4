"""The network: CLIP's tokens are refined together, become prompts, and SAM 2 decodes the mask."""

# P = sparse prompt tokens, G = context tokens

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.backbones import build_text, build_vision
from rrsis_bench.backbones.clip import ClipEncoder
from rrsis_bench.backbones.sam2 import Sam2Encoder, SamFeatures
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Contract, ImageFirstSegmenter, SegmenterOutput

from ..blocks.multihead import initialise
from .ccr import INITS, ConsistencyRefinement, pool_words
from .consistency import REDUCTIONS
from .gmfe import FeatureEnhancement
from .gpg import DenseMap, PromptGenerator, mean_word
from .layers import mlp

PROMPTS = ("gpg", "text")
DENSE = ("token", "text_pool", "none")
LEVELS = ("s4", "s8", "s16")


class SGSRF(ImageFirstSegmenter):
    """CLIP and SAM 2 in three stages; see the package's header for paper, deviations and figures."""

    version = 2  # the consistency loss sums the rows of a sample; LoRA is a low-rank path beside the frozen product
    phrase_masks = ("word_mask",)
    contract = Contract(
        # Parts of CLIP and SAM 2 that no mask depends on; both encoders freeze them.
        dead_parameters=r"clip\.(visual\.proj|text\.text_projection|logit_)|"
        r"sam2\.sam\.prompt_encoder\.(point|not_a_point|no_mask)_embed\.|"
        r"sam2\.sam\.mask_decoder\.(output_hypernetworks_mlps\.[123]|iou_prediction_head|pred_obj_score_head)\.",
        tiny_overrides=("vision.image=64", "text.image=64"),
    )

    def __init__(
        self,
        *,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        prompts: str,
        dense: str,
        sparse_tokens: int,
        bcmi: bool,
        context_tokens: int,
        context_init: str,
        gmfe: bool,
        gmfe_alpha: float,
        consistency: float,
        consistency_reduction: str,
        heads: int,
        prompt_width: int,
        hidden: int,
    ) -> None:
        """Build the model; the values are in ``conf/model/sgsrf.yaml``. Both backbones set the sides of their views.

        Args:
            vision: node of a `Sam2Encoder`.
            text: node of a `ClipEncoder`; its image tower is the second vision backbone.
            prompts: ``"gpg"``; ``"text"`` makes the sparse prompts from CLIP's words alone, without CLIP's image tower
                and every other part (Table 7, first row).
            dense: source of the dense prompt's map: the dense ``"token"``, ``"text_pool"`` (the mean word, as in
                RSRefSeg2), or ``"none"``: SAM's own embedding of "no mask" (Table 7).
            sparse_tokens: N_p (Table 8).
            bcmi: both ways of attention between text and image; off leaves the image's attention to the text (Table 7).
            context_tokens: N_g (Table 8); 0 leaves out the context-enhanced structure (Table 7, CLSM).
            context_init: ``"pooled"`` from the words, ``"zero"`` or ``"random"`` (Table 8).
            gmfe: enhancement of SAM's features by the grounding cues (Table 7).
            gmfe_alpha: initial value of the learnable weight of the cues; small for pretrained features of SAM 2.
            consistency: lambda, weight of the structural consistency loss; 0 leaves it out (Tables 7 and 8).
            consistency_reduction: over the rows of a sample: ``"sum"``, as Equation 21 prints, or ``"mean"``.
            heads: attention heads of refinement and prompt generation.
            prompt_width: width inside the attention of the prompt generation.
            hidden: width inside the feed-forward layers.

        Raises:
            UserError: unknown values, or values without effect beside others.
        """
        super().__init__()
        _check_choices(
            prompts=(prompts, PROMPTS),
            dense=(dense, DENSE),
            context_init=(context_init, INITS),
            consistency_reduction=(consistency_reduction, REDUCTIONS),
        )
        _check_numbers(
            sparse_tokens=(sparse_tokens, 1),
            context_tokens=(context_tokens, 0),
            gmfe_alpha=(gmfe_alpha, 0),
            consistency=(consistency, 0),
            heads=(heads, 1),
        )
        _check_combination(prompts, dense, bcmi, context_tokens, context_init, gmfe, consistency)
        self.prompts, self.dense, self.sparse_tokens, self.consistency = prompts, dense, sparse_tokens, consistency
        self.clip, self.sam2 = build_text(text, ClipEncoder), build_vision(vision, Sam2Encoder)
        self.max_tokens = self.clip.context_length
        self.views = {"sam": self.sam2.side}
        dim = self.clip.width
        for field, width in (("text.width", dim), ("model.args.prompt_width", prompt_width)):
            if width % heads:
                raise UserError(f"model.args.heads={heads} does not divide {field}={width}.")
        # Towers of unequal widths (not SigLIP2's) meet at the image's.
        self.widen = nn.Identity() if self.clip.text_width == dim else nn.Linear(self.clip.text_width, dim)

        self.refinement = self.generator = self.dense_map = self.enhancement = None
        if prompts == "gpg":
            self.views["clip"] = self.clip.side
            self.refinement = ConsistencyRefinement(
                dim,
                hidden,
                heads,
                context=context_tokens,
                init=context_init,
                both_ways=bcmi,
                reduction=consistency_reduction,
            )
            self.generator = PromptGenerator(
                dim, prompt_width, hidden, heads, sparse=sparse_tokens, dense=dense == "token"
            )
        if dense != "none":
            self.dense_map = DenseMap(dim, hidden)
        if gmfe:
            self.enhancement = FeatureEnhancement(self.sam2.widths, dim, gmfe_alpha)
        self.sparse = mlp(dim, hidden, self.sam2.widths[-1])
        for part in (self.widen, self.refinement, self.generator, self.dense_map, self.enhancement, self.sparse):
            if part is not None:
                initialise(part)
        if self.refinement is not None:
            self.refinement.start_as_identity()
        if self.generator is not None:
            self.generator.start_from_words()
        self._drop_unused()

    def _drop_unused(self) -> None:
        """Delete a tower that the switches leave unused, and train only the part of SAM that the dense prompt uses."""
        if self.prompts == "text":
            del self.clip.visual
        prompt_encoder = self.sam2.sam.prompt_encoder
        if self.dense == "none":
            prompt_encoder.no_mask_embed.requires_grad_(self.sam2.config.adapt != "none")
            prompt_encoder.mask_embed.requires_grad_(False)

    def encode_image(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return features of both image towers: ``s4``, ``s8``, ``s16`` (B, C, H, W) and ``patches`` (B, N, D)."""
        features = self.sam2.encode_image(views["sam"])
        encoded = {"s4": features.s4_BCHW, "s8": features.s8_BCHW, "s16": features.s16_BCHW}
        if self.prompts == "gpg":
            encoded["patches"] = self.clip.encode_image(views["clip"])
        return encoded

    def decode(self, encoded: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4), S the side of SAM's view; in training with the consistency loss."""
        words_BLC = self.widen(self.clip.encode_text(text["input_ids"]))
        mask_BL = text["word_mask"].bool()
        maps, losses = [encoded[level] for level in LEVELS], {}
        if self.refinement is None or self.generator is None:
            sparse_BPC, dense_BCHW = pool_words(words_BLC, mask_BL, self.sparse_tokens), None
        else:
            structures = self.training and self.consistency > 0
            refined = self.refinement(encoded["patches"], words_BLC, mask_BL, structures=structures)
            if refined.consistency is not None:
                losses["consistency"] = self.consistency * refined.consistency
            sparse_BPC, token_BC = self.generator(refined.patches_BNC, refined.words_BLC, mask_BL)
            dense_BCHW = None
            if self.dense_map is not None:
                token_BC = mean_word(refined.words_BLC, mask_BL) if token_BC is None else token_BC
                dense_BCHW = self.sam2.encode_mask(self.dense_map(refined.patches_BNC, token_BC, self.clip.grid))
            if self.enhancement is not None:
                assert refined.context_BGC is not None
                maps = self.enhancement(maps, refined.context_BGC)
        if dense_BCHW is None:
            dense_BCHW = self._no_mask(maps[-1])
        return SegmenterOutput(self.sam2.decode(SamFeatures(*maps), self.sparse(sparse_BPC), dense_BCHW), losses)

    def _no_mask(self, map_BCHW: Tensor) -> Tensor:
        """Return SAM's embedding of "no mask" at every position."""
        return self.sam2.sam.prompt_encoder.no_mask_embed.weight[..., None, None].expand_as(map_BCHW)

    def frozen_parts(self) -> dict[str, str]:
        """Return the sources of the backbones' weights; empty if nothing is frozen."""
        return {
            f"{name}.": part.config.weights
            for name, part in (("clip", self.clip), ("sam2", self.sam2))
            if part.config.adapt != "all"
        }

    def no_weight_decay(self, name: str) -> bool:  # noqa: ARG002 - every parameter is decayed
        """Decay every parameter: the paper names no exception."""
        return False


def _check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    for field, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"model.args.{field} must be one of {', '.join(known)}, not {value!r}.")


def _check_numbers(**numbers: tuple[float, int]) -> None:
    for field, (value, least) in numbers.items():
        if isinstance(value, str) or value < least:
            raise UserError(f"model.args.{field} must be a number of at least {least}, not {value}.")


def _check_combination(
    prompts: str, dense: str, bcmi: bool, context_tokens: int, context_init: str, gmfe: bool, consistency: float
) -> None:
    if prompts == "text":
        present = {
            "dense": dense != "none",
            "bcmi": bcmi,
            "context_tokens": context_tokens > 0,
            "gmfe": gmfe,
            "consistency": consistency > 0,
        }
        for field, is_present in present.items():
            if is_present:
                off = {"dense": "none", "context_tokens": "0", "consistency": "0"}.get(field, "false")
                raise UserError(
                    f"model.args.{field} has no effect with model.args.prompts=text, which makes the prompts from "
                    f"CLIP's words alone; give {field}={off}."
                )
    if not context_tokens and gmfe:
        raise UserError(
            "model.args.gmfe enhances SAM's features by the context tokens, but model.args.context_tokens=0 leaves "
            "none; give gmfe=false."
        )
    if not context_tokens and context_init != "pooled":
        raise UserError(
            f"model.args.context_init={context_init} has no effect with model.args.context_tokens=0; leave its default."
        )
