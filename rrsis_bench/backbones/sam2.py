"""SAM 2.1 as image encoder, mask-prompt encoder and mask decoder, on transformers' `Sam2Model`.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", ICLR 2025 (arXiv 2408.00714); its trunk is Ryali et al.,
"Hiera", ICML 2023 (arXiv 2306.00989). The three parts are called one by one, because a model makes its own prompts:
sparse prompts reach the decoder directly, and a dense map goes through SAM's own mask downscaling.

Differences from `Sam2Model.forward`:
    - Gradients flow into the image encoder.
    - The first mask token is always decoded; `dynamic_multimask_via_stability` would replace it in evaluation only.
    - Random weights are PyTorch's own initialisation, as in Meta's code. With transformers' normal(0, 0.02) in every
      layer, the mask logits of a decoder of width 64 have a deviation of 1e-4, which delays learning.
"""

# P = prompt tokens

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2Config as HFSam2Config
from transformers import Sam2HieraDetConfig, Sam2MaskDecoderConfig, Sam2Model, Sam2PromptEncoderConfig, Sam2VisionConfig

from rrsis_bench.backbones.interfaces import Backbone, BackboneConfig
from rrsis_bench.backbones.lora import add_lora
from rrsis_bench.backbones.positions import check_positions, sine_positions
from rrsis_bench.backbones.sam2_meta import adapt_sam2_keys
from rrsis_bench.backbones.swin import IMAGENET_MEAN, IMAGENET_STD
from rrsis_bench.backbones.weights import load_strict, locate_weights, read_tensors
from rrsis_bench.errors import UserError

FIELD = "vision"
PATCH = 16  # pixels per position of the decoder's image embedding
ADAPT = ("lora", "all", "none")
# Parts that are never run, or whose output is not used: point, box and "no mask" prompts, the masks of tokens 1 to 3,
# the quality and the object score. They stay, so that weights load strictly, and take no gradient.
WITHOUT_GRADIENT = (
    "prompt_encoder.point_embed.",
    "prompt_encoder.not_a_point_embed.",
    "prompt_encoder.no_mask_embed.",
    "mask_decoder.output_hypernetworks_mlps.1.",
    "mask_decoder.output_hypernetworks_mlps.2.",
    "mask_decoder.output_hypernetworks_mlps.3.",
    "mask_decoder.iou_prediction_head.",
    "mask_decoder.pred_obj_score_head.",
)


@dataclass(frozen=True, slots=True)
class Sam2Config(BackboneConfig):
    """Size and training of SAM 2.

    `weights` may name a transformers folder or weights file, or Meta's ``sam2.1_hiera_*.pt``.

    Attributes:
        image: S, side of the view in pixels, a multiple of 32.
        embed_dim: channels of Hiera's first stage, doubled at every further stage.
        heads: attention heads of the first stage, doubled in the same way.
        blocks: blocks per stage (four stages).
        windows: side of an attention window per stage, in positions.
        global_blocks: blocks that attend over the whole map, counted over all stages from 0.
        background: height and width of the learned background of the position embedding; interpolated to the map.
        positions: initial values of that background, with random weights: ``"normal"``, small as in Meta's code, or
            ``"sine"``: 2-D sines, which are then trained; see `ClipConfig`.
        width: channels of the feature pyramid, the prompts and the decoder.
        mlp_dim: width inside the decoder's feed-forward blocks.
        decoder_heads: attention heads of the decoder.
        mask_channels: channels inside the mask downscaling.
        adapt: ``"lora"``: low-rank adapters in the image encoder, prompt encoder and mask decoder trained fully;
            ``"all"``: everything trained; ``"none"``: everything frozen.
        lora_rank: rank of the adapters.
        lora_alpha: the adapters' product is scaled by alpha / rank.
        lora_targets: ``"qk"``: query and key rows of the attention weights; ``"all"``: also values, output projections
            and the neck's convolutions.
        checkpointing: recompute Hiera's blocks in the backward pass instead of keeping their activations.
    """

    image: int
    embed_dim: int
    heads: int
    blocks: tuple[int, ...]
    windows: tuple[int, ...]
    global_blocks: tuple[int, ...]
    background: tuple[int, int]
    width: int
    mlp_dim: int
    decoder_heads: int
    mask_channels: int
    positions: str
    adapt: str
    lora_rank: int
    lora_alpha: float
    lora_targets: str
    checkpointing: bool


@dataclass(slots=True)
class SamFeatures:
    """Output of the image encoder; S is the side of the view, C the width (256 in Meta's sizes).

    Attributes:
        s4_BCHW: (B, C/8, S/4, S/4), after the decoder's ``conv_s0``.
        s8_BCHW: (B, C/4, S/8, S/8), after the decoder's ``conv_s1``.
        s16_BCHW: (B, C, S/16, S/16), with the learned "no memory" embedding added.
    """

    s4_BCHW: Tensor
    s8_BCHW: Tensor
    s16_BCHW: Tensor


class Sam2Encoder(Backbone):
    """SAM 2 without its memory: image -> features, mask map -> dense prompt, features and prompts -> mask logits.

    Attributes:
        side: S, the side of the view in pixels.
        widths: channels of the features at S/4, S/8 and S/16.
    """

    Config = Sam2Config
    config: Sam2Config
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, config: Sam2Config) -> None:
        """Build the three parts, read their weights, and freeze parameters by `adapt`.

        Raises:
            UserError: sizes that do not fit each other, or weights that cannot be read.
        """
        super().__init__()
        self.config = cfg = config
        _check(cfg)
        weights = locate_weights(cfg.weights, "SAM 2", f"{FIELD}.weights")
        self.side = cfg.image
        self.widths = (cfg.width // 8, cfg.width // 4, cfg.width)
        self.sam = Sam2Model(_transformers_config(cfg))
        self.sam.vision_encoder.neck.position_encoding = _NoPositions()
        self.register_buffer("mean_C11", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std_C11", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        if weights is None:
            _initialise(self.sam, cfg)
        else:
            tensors = adapt_sam2_keys(read_tensors(weights, "SAM 2", f"{FIELD}.weights"))
            load_strict(self.sam, tensors, cfg.weights, "SAM 2")
        self._adapt()
        if cfg.checkpointing:
            # transformers' blocks support it, although the model does not declare it.
            self.sam.vision_encoder.supports_gradient_checkpointing = True
            self.sam.vision_encoder.gradient_checkpointing_enable({"use_reentrant": False})

    def encode_image(self, view_B3SS: Tensor) -> SamFeatures:
        """Return features of a uint8 view (B, 3, S, S), normalised by ImageNet's statistics in the parameters' dtype.

        Raises:
            ValueError: the view is not S high and wide.
        """
        if view_B3SS.shape[-2:] != (self.side, self.side):
            raise ValueError(f"The view is {tuple(view_B3SS.shape)}, SAM 2 was built for sides of {self.side} px.")
        pixels_B3SS = (view_B3SS - self.mean_C11) / self.std_C11
        s4_BCHW, s8_BCHW, s16_BCHW = self.sam.vision_encoder(pixels_B3SS).fpn_hidden_states
        decoder = self.sam.mask_decoder
        return SamFeatures(
            s4_BCHW=decoder.conv_s0(s4_BCHW),
            s8_BCHW=decoder.conv_s1(s8_BCHW),
            s16_BCHW=s16_BCHW + self.sam.no_memory_embedding.view(1, -1, 1, 1),
        )

    def encode_mask(self, map_B1hw: Tensor) -> Tensor:
        """Return the dense prompt (B, C, S/16, S/16) of a float map (B, 1, h, w) of any size, read as mask logits.

        The map is resized bilinearly (half-pixel centres) to (S/4, S/4), the size that SAM's mask downscaling expects.
        """
        side = self.side // 4
        if map_B1hw.shape[-2:] != (side, side):
            map_B1hw = F.interpolate(map_B1hw, size=(side, side), mode="bilinear", align_corners=False)
        dense_BCHW: Tensor = self.sam.prompt_encoder.mask_embed(map_B1hw)
        return dense_BCHW

    def decode(self, features: SamFeatures, sparse_BPC: Tensor, dense_BCHW: Tensor) -> Tensor:
        """Return logits (B, S/4, S/4) of the first mask token.

        Args:
            features: of `encode_image`, one row per row of the prompts.
            sparse_BPC: P prompt tokens per sample, C wide.
            dense_BCHW: of `encode_mask`; added to the S/16 features.
        """
        masks_B11hw: Tensor = self.sam.mask_decoder(
            image_embeddings=features.s16_BCHW,
            image_positional_embeddings=self._positions_1CHW().expand(len(sparse_BPC), -1, -1, -1),
            sparse_prompt_embeddings=sparse_BPC[:, None],
            dense_prompt_embeddings=dense_BCHW,
            multimask_output=False,
            high_resolution_features=[features.s4_BCHW, features.s8_BCHW],
        )[0]
        return masks_B11hw[:, 0, 0]

    def _positions_1CHW(self) -> Tensor:
        """Return the decoder's position embedding of the S/16 map, in the buffer's dtype: bfloat16 is too coarse."""
        matrix = self.sam.shared_image_embedding.positional_embedding
        with torch.autocast(matrix.device.type, enabled=False):
            positions_1CHW: Tensor = self.sam.get_image_wide_positional_embeddings()
        return positions_1CHW

    def _adapt(self) -> None:
        """Freeze and add adapters by `config.adapt`; parts that no gradient can reach are always frozen."""
        cfg = self.config
        self.sam.requires_grad_(cfg.adapt == "all")
        if cfg.adapt == "lora":
            self.sam.prompt_encoder.requires_grad_(True)
            self.sam.mask_decoder.requires_grad_(True)
        for name, parameter in self.sam.named_parameters():
            if name.startswith(WITHOUT_GRADIENT):
                parameter.requires_grad_(False)
        if cfg.adapt == "lora":
            add_lora(self.sam.vision_encoder, cfg.lora_rank, cfg.lora_alpha, cfg.lora_targets)


class _NoPositions(nn.Module):
    """Replacement of the neck's sine positions, which only SAM 2's memory reads: 4 maps of C channels per call."""

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:  # noqa: ARG002
        """Return an empty tensor."""
        return torch.empty(0, device=device, dtype=dtype)


def _check(config: Sam2Config) -> None:
    check_positions(FIELD, config.positions, ("normal", "sine"), config.weights, embed_dim=config.embed_dim)
    if config.adapt not in ADAPT:
        raise UserError(f"{FIELD}.adapt must be one of {', '.join(ADAPT)}, not '{config.adapt}'.")
    if len(config.blocks) != 4 or len(config.windows) != 4:
        raise UserError(f"{FIELD}.blocks and {FIELD}.windows must have one entry for each of the 4 stages.")
    if config.image % 32:
        raise UserError(f"{FIELD}.image must be a multiple of 32 pixels, not {config.image}.")
    if (config.image // 4) % config.windows[0]:
        raise UserError(
            f"{FIELD}.windows: the first window ({config.windows[0]}) must divide the map of the first stage, "
            f"which has {config.image // 4} positions per side at {FIELD}.image={config.image}."
        )
    if any(window % 2 for window in config.windows[:3]):
        raise UserError(f"{FIELD}.windows: the first three must be even, since the next stage halves the map in them.")
    if any(not 0 <= block < sum(config.blocks) for block in config.global_blocks):
        raise UserError(f"{FIELD}.global_blocks must be between 0 and {sum(config.blocks) - 1}, the last block.")
    for block in config.global_blocks:
        if block in {sum(config.blocks[:stage]) for stage in (1, 2, 3)}:
            raise UserError(
                f"{FIELD}.global_blocks: block {block} is the first of its stage, which halves the map within the "
                f"windows of {FIELD}.windows. Choose a later one."
            )
    if config.embed_dim % config.heads:
        raise UserError(f"{FIELD}.heads={config.heads} does not divide {FIELD}.embed_dim={config.embed_dim}.")
    if config.width % 8 or config.width % (2 * config.decoder_heads):
        raise UserError(
            f"{FIELD}.width={config.width} must be a multiple of 8 and of twice {FIELD}.decoder_heads="
            f"{config.decoder_heads}: the decoder's cross-attention works at half the width."
        )
    if config.mask_channels % 4:
        raise UserError(f"{FIELD}.mask_channels must be a multiple of 4, not {config.mask_channels}.")


def _transformers_config(config: Sam2Config) -> HFSam2Config:
    """Return the same sizes in transformers' classes, with four masks as released, of which one is used."""
    dims = [config.embed_dim * 2**stage for stage in range(4)]
    sides = [config.image // 4, config.image // 8, config.image // 16]
    hiera = Sam2HieraDetConfig(
        hidden_size=config.embed_dim,
        num_attention_heads=config.heads,
        image_size=[config.image, config.image],
        window_positional_embedding_background_size=list(config.background),
        blocks_per_stage=list(config.blocks),
        embed_dim_per_stage=dims,
        num_attention_heads_per_stage=[config.heads * 2**stage for stage in range(4)],
        window_size_per_stage=list(config.windows),
        global_attention_blocks=list(config.global_blocks),
    )
    built = HFSam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=hiera,
            backbone_channel_list=dims[::-1],
            backbone_feature_sizes=[[side, side] for side in sides],
            fpn_hidden_size=config.width,
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(
            hidden_size=config.width,
            image_size=config.image,
            patch_size=PATCH,
            mask_input_channels=config.mask_channels,
        ),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=config.width,
            mlp_dim=config.mlp_dim,
            num_attention_heads=config.decoder_heads,
            iou_head_hidden_dim=config.width,
            dynamic_multimask_via_stability=False,
        ),
    )
    built._attn_implementation = "sdpa"  # also for the parts
    return built


@torch.no_grad()
def _initialise(sam: Sam2Model, config: Sam2Config) -> None:
    """Initialise layers as PyTorch does, and Hiera's and SAM 2's embeddings from a truncated normal of 0.02.

    The background of the positions may start from sines instead; see `Sam2Config.positions`.
    """
    for module in sam.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.LayerNorm | nn.Embedding):
            module.reset_parameters()
    hiera = sam.vision_encoder.backbone
    for parameter in (hiera.pos_embed, hiera.pos_embed_window, sam.no_memory_embedding):
        nn.init.trunc_normal_(parameter, std=0.02)
    if config.positions == "sine":
        height, width = config.background
        hiera.pos_embed.copy_(sine_positions(height, width, config.embed_dim).permute(2, 0, 1))
    # One set of frequencies in two places, as in every released checkpoint.
    sam.prompt_encoder.shared_embedding.positional_embedding.copy_(sam.shared_image_embedding.positional_embedding)
