"""CLIP's two encoders on open_clip's towers, for patch tokens and word tokens instead of pooled vectors.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021 (arXiv 2103.00020).
The paper size is SigLIP 2's (Tschannen et al., arXiv 2502.14786), `ViT-SO400M-16-SigLIP2-512`: 1,136.56 M parameters.

The parts that turn tokens into the contrastive score (pooling head, projections, logit scale and bias; 16.6 M
parameters at the paper size) are kept, so that released files load with every key and the parameter counts are the
model's own. They are never called, so they are frozen for every value of `adapt`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CustomTextCLIP, convert_to_custom_text_state_dict, resize_pos_embed
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from rrsis_bench.backbones.interfaces import Backbone, TextConfig
from rrsis_bench.backbones.lora import add_lora
from rrsis_bench.backbones.positions import check_positions, sine_positions
from rrsis_bench.backbones.weights import load_strict, locate_weights, read_tensors
from rrsis_bench.errors import UserError, suggestion

logger = logging.getLogger(__name__)

FIELD = "text"
ADAPT = ("lora", "all", "none")
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's names on the hub
# Prefixes of parameters that no token depends on.
UNUSED = (
    "visual.proj",
    "visual.head.",
    "visual.trunk.attn_pool.",
    "visual.trunk.fc_norm.",
    "visual.trunk.head.",
    "text.text_projection",
    "logit_",
)


@dataclass(frozen=True, slots=True)
class ClipConfig(TextConfig):
    """Size, weights and training of the encoders.

    The sizes (from `patch` to `context_length`, and `vocab_size`) describe the towers if `model` is empty. A named
    model has its own sizes: give 0 for each, or exactly the model's value. `weights` may name a file or folder in
    open_clip's key layout.

    Attributes:
        model: one of open_clip's models, or ``""``: plain towers of the sizes below.
        image: side of the view in pixels; 0: the named model's. Another side resizes its table of positions.
        patch: side of a patch in pixels.
        width: channels of a patch token.
        layers: blocks of the image tower.
        heads: attention heads of the image tower.
        text_width: channels of a word token.
        text_layers: blocks of the text tower.
        text_heads: attention heads of the text tower.
        context_length: tokens of every text, padding included.
        positions: initial values of the patches' table of positions if `model` is empty: ``"normal"``, random as in
            open_clip, or ``"sine"``: 2-D sines, which are then trained. Towers with random weights do not learn within
            minutes where "left" is; see `SwinConfig`.
        adapt: trained parameters: ``"lora"``, ``"all"`` or ``"none"``.
        lora_rank: rank of the adapters; 16 in SGSRF, section 3.2.1.
        lora_alpha: the adapters' scale is alpha / rank.
        lora_targets: ``"qk"`` (SGSRF) or ``"all"``; see `add_lora`.
        checkpointing: recompute the blocks in the backward pass instead of keeping their activations.
    """

    model: str
    image: int
    patch: int
    width: int
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int
    positions: str
    adapt: str
    lora_rank: int
    lora_alpha: float
    lora_targets: str
    checkpointing: bool


SIZES = (
    "patch",
    "width",
    "layers",
    "heads",
    "text_width",
    "text_layers",
    "text_heads",
    "vocab_size",
    "context_length",
)


class ClipEncoder(Backbone):
    """Views -> patch tokens, token ids -> word tokens. Parameters are named as in open_clip's files.

    Attributes:
        side: S, the side of a view in pixels.
        grid: patches per column and per row; N is their product.
        width: D of a patch token.
        text_width: D of a word token.
        context_length: L, the tokens of every text.
        adapted: names of the weights with LoRA adapters.
    """

    Config = ClipConfig
    config: ClipConfig
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, config: ClipConfig) -> None:
        """Build both encoders, read their weights, freeze and adapt them.

        Raises:
            UserError: sizes that do not fit each other, or weights that cannot be read.
        """
        super().__init__()
        self.config = cfg = config
        _check(cfg)
        weights = locate_weights(cfg.weights, "CLIP", f"{FIELD}.weights", FILES)
        description, mean, std = _describe(cfg)
        clip = CustomTextCLIP(**description)
        _refuse_pooled_towers(clip.visual, cfg.model)
        self.visual: VisionTransformer | TimmModel = clip.visual
        self.text: TextTransformer = clip.text
        self.logit_scale, self.logit_bias = clip.logit_scale, clip.logit_bias
        self.register_buffer("mean_C11", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std_C11", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

        sizes = self._sizes()
        for name in SIZES:
            if getattr(cfg, name) not in (0, sizes[name]):
                raise UserError(
                    f"{FIELD}.{name}={getattr(cfg, name)} does not fit {FIELD}.model={cfg.model}, which has "
                    f"{sizes[name]}. Set it to 0 for the model's own value."
                )
        self.width, self.text_width, self.context_length = (
            sizes[name] for name in ("width", "text_width", "context_length")
        )
        self.side = cfg.image or sizes["image"]
        if self.side % sizes["patch"]:
            raise UserError(f"{FIELD}.image={self.side} must be a multiple of the patch, {sizes['patch']} pixels.")
        self.grid = (self.side // sizes["patch"],) * 2
        if weights is not None:
            tensors = adapt_clip_keys(read_tensors(weights, "CLIP", f"{FIELD}.weights"), cfg.weights)
            self._fit_positions(tensors)
            load_strict(self, tensors, cfg.weights, "CLIP")
            if isinstance(self.visual, TimmModel) and self.side != sizes["image"]:
                self._warn_interpolated()
        if isinstance(self.visual, TimmModel):
            self.visual.set_input_size(self.side)
        if cfg.positions == "sine":
            self._start_from_sines()
        self.adapted = self._choose_trained()
        if cfg.checkpointing:
            self.visual.set_grad_checkpointing(True)
            self.text.set_grad_checkpointing(True)

    def encode_image(self, view_B3SS: Tensor) -> Tensor:
        """Return patch tokens (B, N, D) of a uint8 view (B, 3, S, S), row by row, after the final norm, not pooled.

        The view is normalised in the parameters' dtype.

        Raises:
            UserError: a view of another side.
        """
        if view_B3SS.shape[-2:] != (self.side, self.side):
            raise UserError(
                f"The CLIP encoder was built for views of {self.side} x {self.side} pixels, not "
                f"{' x '.join(map(str, view_B3SS.shape[-2:]))}. Set {FIELD}.image to the view's side."
            )
        x_B3SS = (view_B3SS - self.mean_C11) / self.std_C11
        if isinstance(self.visual, TimmModel):
            tokens_BND: Tensor = self.visual.trunk.forward_features(x_B3SS)
            return tokens_BND[:, self.visual.trunk.num_prefix_tokens :]
        taken = self.visual.forward_intermediates(
            x_B3SS, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        patches_BND: Tensor = taken["image_intermediates"][0]
        return patches_BND

    def encode_text(self, ids_BL: Tensor) -> Tensor:
        """Return word tokens (B, L, D) of int64 ids (B, L), padding and special tokens too, after the final norm.

        The mask is that of the tower's own training: SigLIP 2 masks nothing, and its texts are always padded to L.
        Towers of OpenAI's kind are causal.

        Raises:
            UserError: texts of another length.
        """
        if ids_BL.shape[1] != self.context_length:
            raise UserError(
                f"The CLIP text encoder reads {self.context_length} tokens per text, padding included, not "
                f"{ids_BL.shape[1]}. Set the model's max_tokens to {self.context_length}."
            )
        taken = self.text.forward_intermediates(
            ids_BL, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        words_BLD: Tensor = taken["text_intermediates"][0]
        return words_BLD

    def _sizes(self) -> dict[str, int]:
        """Return the sizes of the towers that were built, under the names of the configuration."""
        if isinstance(self.visual, TimmModel):
            trunk = self.visual.trunk
            image, patch, width = trunk.patch_embed.img_size[0], trunk.patch_embed.patch_size[0], trunk.embed_dim
            layers, heads = len(trunk.blocks), trunk.blocks[0].attn.num_heads
        else:
            image, patch, width = self.visual.image_size[0], self.visual.patch_size[0], self.visual.conv1.out_channels
            blocks = self.visual.transformer.resblocks
            layers, heads = len(blocks), blocks[0].attn.num_heads
        return {
            "image": image,
            "patch": patch,
            "width": width,
            "layers": layers,
            "heads": heads,
            "text_width": self.text.width,
            "text_layers": len(self.text.transformer.resblocks),
            "text_heads": self.text.heads,
            "vocab_size": self.text.vocab_size,
            "context_length": self.text.context_length,
        }

    def _fit_positions(self, tensors: dict[str, Tensor]) -> None:
        """Interpolate open_clip's table of positions (class token first) if it is for another square grid."""
        table = tensors.get("visual.positional_embedding")
        if table is None or math.isqrt(len(table) - 1) ** 2 != len(table) - 1:
            return  # timm's tower, which is fitted later, or a defect that strict loading reports
        resize_pos_embed(tensors, self)
        if tensors["visual.positional_embedding"] is not table:
            self._warn_interpolated()

    def _warn_interpolated(self) -> None:
        logger.warning(
            "The positions in '%s' were interpolated (bicubic) to views of %d px.", self.config.weights, self.side
        )

    def _start_from_sines(self) -> None:
        """Start the patches' table of positions from 2-D sines, the class token from zeros, and words far apart.

        open_clip's word embeddings have a deviation of 0.02. The first blocks add much larger values to all of them, so
        that the tokens of two expressions hardly differ.
        """
        table = self.visual.positional_embedding
        with torch.no_grad():
            table[0] = 0
            table[1:] = sine_positions(*self.grid, self.width).flatten(0, 1)
            self.text.token_embedding.weight.normal_(std=0.3)
            self.text.positional_embedding.normal_(std=0.06)

    def _choose_trained(self) -> list[str]:
        """Freeze parameters by `adapt`, and those that no token depends on; return the names of the adapted weights."""
        cfg = self.config
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(cfg.adapt == "all" and not name.startswith(UNUSED))
        return add_lora(self, cfg.lora_rank, cfg.lora_alpha, cfg.lora_targets) if cfg.adapt == "lora" else []


def adapt_clip_keys(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Move the text tower below ``text.`` and make logit scale and bias scalar, as open_clip does with its files.

    Args:
        tensors: a state dict in one of open_clip's layouts.
        source: the file or hub id, for messages.

    Raises:
        UserError: the tensors have transformers' layout, whose matrices differ.
    """
    if any(key.startswith("vision_model.") for key in tensors):
        raise UserError(
            f"The CLIP weights in '{source}' are in transformers' key layout (vision_model.*). Give the same model in "
            f"open_clip's layout, such as {FIELD}.weights=hub:timm/ViT-SO400M-16-SigLIP2-512."
        )
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    adapted = dict(convert_to_custom_text_state_dict(dict(tensors)))
    for key in ("logit_scale", "logit_bias"):
        if key in adapted and adapted[key].numel() == 1:
            adapted[key] = adapted[key].reshape(())
    return adapted


def _check(config: ClipConfig) -> None:
    if config.adapt not in ADAPT:
        raise UserError(f"{FIELD}.adapt must be one of {', '.join(ADAPT)}, not '{config.adapt}'.")
    if config.positions == "sine" and config.model:
        raise UserError(f"{FIELD}.positions=sine needs an empty {FIELD}.model: {config.model} has its own.")
    check_positions(FIELD, config.positions, ("normal", "sine"), config.weights, width=config.width)
    if config.image < 0:
        raise UserError(f"{FIELD}.image must be a side in pixels, not {config.image}.")
    if config.model:
        return
    for name in ("image", *SIZES):
        if getattr(config, name) < 1:
            raise UserError(f"{FIELD}.{name} must be at least 1 if {FIELD}.model is empty.")
    for width, heads in (("width", "heads"), ("text_width", "text_heads")):
        if getattr(config, width) % getattr(config, heads):
            raise UserError(f"{FIELD}.{heads} must divide {FIELD}.{width}={getattr(config, width)}.")


def _describe(config: ClipConfig) -> tuple[dict[str, Any], tuple[float, ...], tuple[float, ...]]:
    """Return open_clip's description of the model, and the mean and deviation of its pixels in [0, 1]."""
    if not config.model:
        return _plain_towers(config), OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    known = open_clip.list_models()
    if config.model not in known:
        hint = suggestion(config.model, known)
        raise UserError(f"{FIELD}.model='{config.model}' is not one of open_clip's models.{hint}")
    description = open_clip.get_model_config(config.model)
    vision, text = description["vision_cfg"], description["text_cfg"]
    description.pop("custom_text", None)
    vision["timm_model_pretrained"] = False  # weights come from `weights` alone
    if "multimodal_cfg" in description or "hf_model_name" in text:
        raise _unusable(config.model, "its text tower is not one of open_clip's plain ones")
    if config.image and "timm_model_name" not in vision:
        vision["image_size"] = config.image
    tags = open_clip.list_pretrained_tags_by_model(config.model)
    seen = open_clip.pretrained.get_pretrained_cfg(config.model, tags[0]) if tags else {}
    return description, seen.get("mean") or OPENAI_DATASET_MEAN, seen.get("std") or OPENAI_DATASET_STD


def _refuse_pooled_towers(visual: nn.Module, model: str) -> None:
    """Raise UserError unless the image tower is a ViT that normalises its tokens before pooling."""
    if isinstance(visual, TimmModel):
        fits = isinstance(visual.trunk, TimmVisionTransformer) and not isinstance(visual.trunk.norm, nn.Identity)
    else:
        fits = isinstance(visual, VisionTransformer) and visual.attn_pool is None
    if not fits:
        raise _unusable(model, "its image tower gives no normed patch tokens")


def _unusable(model: str, reason: str) -> UserError:
    return UserError(f"{FIELD}.model='{model}' cannot be used: {reason}. Take a ViT of OpenAI's, LAION's or SigLIP's.")


def _plain_towers(config: ClipConfig) -> dict[str, Any]:
    """Describe towers of the configuration's sizes, as OpenAI's: a ViT with a class token and a causal text tower.

    CLIP's text towers do not mask the padding. In a causal tower no word sees the padding behind it, so that random
    weights do not have to learn to ignore it.
    """
    return {
        "embed_dim": config.text_width,
        "vision_cfg": {
            "image_size": config.image,
            "patch_size": config.patch,
            "width": config.width,
            "layers": config.layers,
            "head_width": config.width // config.heads,
        },
        "text_cfg": {
            "context_length": config.context_length,
            "vocab_size": config.vocab_size,
            "width": config.text_width,
            "layers": config.text_layers,
            "heads": config.text_heads,
            "pool_type": "last",
        },
    }
