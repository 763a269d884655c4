"""Swin Transformer as the visual backbone of the LAVT family, on timm's blocks.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021 (arXiv 2103.14030).
Stages are called one by one, so that a model can add language between them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torch import Tensor, nn

from rrsis_bench.backbones.interfaces import BackboneConfig, StagedEncoder
from rrsis_bench.backbones.positions import check_positions, sine_positions_on
from rrsis_bench.backbones.weights import load_strict, locate_weights, read_tensors
from rrsis_bench.errors import UserError

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FIELD = "vision"
POSITIONS = ("none", "sine")
# Keys of a classification checkpoint that are not part of the encoder: its head and the norm before it.
CLASSIFIER_KEYS = ("norm.", "head.")
# Buffers that follow from the window. Files may contain them; the encoder computes them.
DERIVED_BUFFERS = ("relative_position_index", "attn_mask")


@dataclass(frozen=True, slots=True)
class SwinConfig(BackboneConfig):
    """Size of the encoder. `weights` may name a file in timm's or in Microsoft's original key layout.

    Attributes:
        embed_dim: channels of stage 0, doubled at every further stage.
        depths: blocks per stage.
        num_heads: attention heads per stage.
        window: side of an attention window, in positions.
        patch: side of a patch, in pixels.
        drop_path: stochastic depth of the last block; rises linearly from 0.
        positions: ``"none"`` for the released weights, or ``"sine"``: fixed 2-D sines are added to the patches.
            Without them, Swin knows a position only by its relative tables and the borders of the map. A small encoder
            with random weights does not learn that within minutes, and "the ship on the left" needs it.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: int
    patch: int
    drop_path: float
    positions: str


class WindowBlock(SwinTransformerBlock):
    """timm's block with the attention of Swin's detection code: pad first, roll the padded map afterwards.

    timm rolls first and pads afterwards. The results differ if a map is padded and shifted (stage 3 at 480 pixels with
    window 12). Windows and heads share one axis, so that bias and shift mask are broadcast over the batch once.
    """

    attn_mask: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build timm's block; `SwinEncoder.extend_attention` may put a module behind its attention."""
        super().__init__(*args, **kwargs)
        self.after_attention: nn.Module | None = None

    def _attn(self, x_BHWC: Tensor) -> Tensor:
        """Apply window attention to normalised tokens (B, H, W, C); same shape out."""
        batch, height, width, dim = x_BHWC.shape
        window_h, window_w = self.window_size
        pad_h, pad_w = -height % window_h, -width % window_w
        if pad_h or pad_w:
            x_BHWC = F.pad(x_BHWC, (0, 0, 0, pad_w, 0, pad_h))
        shift_h, shift_w = self.shift_size
        if shift_h or shift_w:
            x_BHWC = torch.roll(x_BHWC, (-shift_h, -shift_w), dims=(1, 2))
        rows, cols = (height + pad_h) // window_h, (width + pad_w) // window_w
        heads, area = self.attn.num_heads, window_h * window_w

        qkv = self.attn.qkv(x_BHWC).view(batch, rows, window_h, cols, window_w, 3, heads, dim // heads)
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, batch, rows * cols * heads, area, dim // heads)
        query, key, value = qkv.unbind(0)
        scores = (query * self.attn.scale) @ key.transpose(-2, -1)
        scores = scores.view(batch, rows * cols, heads, area, area) + self._bias(rows, cols, x_BHWC)
        attended = scores.softmax(-1).view(batch, rows * cols * heads, area, area) @ value
        attended = attended.view(batch, rows, cols, heads, window_h, window_w, dim // heads)
        attended = attended.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, rows * window_h, cols * window_w, dim)
        out_BHWC: Tensor = self.attn.proj(attended)

        if shift_h or shift_w:
            out_BHWC = torch.roll(out_BHWC, (shift_h, shift_w), dims=(1, 2))
        if pad_h or pad_w:
            out_BHWC = out_BHWC[:, :height, :width]
        if self.after_attention is not None:
            out_BHWC = self.after_attention(out_BHWC)
        return out_BHWC

    def _bias(self, rows: int, cols: int, x_BHWC: Tensor) -> Tensor:
        """Return relative position bias plus shift mask, broadcastable to (B, windows, heads, area, area)."""
        bias: Tensor = self.attn._get_rel_pos_bias()  # (1, heads, area, area)
        if not any(self.shift_size):
            return bias
        mask = self.attn_mask
        if mask.shape[0] != rows * cols:  # the input has another size than the encoder was built for
            mask = cast(Tensor, self.get_attn_mask(x_BHWC))
        return bias + mask.to(bias.dtype)[:, None]


class SwinStage(nn.Module):
    """Patch merging (from stage 1 on) and the blocks of one stage, with timm's attribute names."""

    def __init__(self, config: SwinConfig, index: int, side: int, drop_path: list[float]) -> None:
        """Build stage `index`, whose map is `side` positions high and wide."""
        super().__init__()
        dim = config.embed_dim * 2**index
        self.downsample = PatchMerging(dim // 2, dim) if index else nn.Identity()
        self.blocks = nn.Sequential(
            *[
                WindowBlock(
                    dim,
                    (side, side),
                    num_heads=config.num_heads[index],
                    window_size=config.window,
                    shift_size=config.window // 2 if block % 2 else 0,
                    drop_path=drop_path[block],
                )
                for block in range(config.depths[index])
            ]
        )

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map tokens of the stage before to tokens of this stage."""
        x_BHWC = self.blocks(self.downsample(x_BHWC))
        return x_BHWC


class SwinEncoder(StagedEncoder):
    """Swin encoder, run stage by stage. ``encoder(image)`` runs all stages without fusion."""

    Config = SwinConfig
    config: SwinConfig
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, config: SwinConfig, *, image_size: int) -> None:
        """Build the encoder for square views of `image_size` pixels and read its weights.

        A stage smaller than the window attends over its whole map without a shift, as in timm.

        Raises:
            UserError: sizes that do not fit each other, or weights that cannot be read.
        """
        super().__init__()
        self.config = cfg = config
        _check(cfg)
        weights = locate_weights(cfg.weights, "Swin", f"{FIELD}.weights")
        self.widths = tuple(cfg.embed_dim * 2**index for index in range(len(cfg.depths)))
        sides = [math.ceil(image_size / cfg.patch)]
        for _ in cfg.depths[1:]:
            sides.append(math.ceil(sides[-1] / 2))
        self.sides, self.patch, self.window = tuple(sides), cfg.patch, cfg.window
        rates = torch.split(torch.linspace(0, cfg.drop_path, sum(cfg.depths), device="cpu"), list(cfg.depths))
        self.patch_embed = PatchEmbed(
            img_size=image_size,
            patch_size=cfg.patch,
            embed_dim=cfg.embed_dim,
            norm_layer=nn.LayerNorm,
            output_fmt="NHWC",
            strict_img_size=False,
            dynamic_img_pad=True,
        )
        self.layers = nn.ModuleList(
            SwinStage(cfg, index, side, rates[index].tolist()) for index, side in enumerate(self.sides)
        )
        self.register_buffer("mean_C11", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std_C11", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.apply(_initialise)
        if weights is not None:
            tensors = adapt_swin_keys(read_tensors(weights, "Swin", f"{FIELD}.weights"))
            self._fit_windows(tensors, cfg.weights)
            load_strict(self, tensors, cfg.weights, "Swin", ignored=CLASSIFIER_KEYS)

    def embed(self, image_BCHW: Tensor) -> Tensor:
        """Normalise a uint8 view (B, 3, H, W) in the parameters' dtype and embed its patches: (B, H/4, W/4, C)."""
        x_BHWC: Tensor = self.patch_embed((image_BCHW - self.mean_C11) / self.std_C11)
        if self.config.positions == "none":
            return x_BHWC
        _, height, width, dim = x_BHWC.shape
        return x_BHWC + sine_positions_on(height, width, dim, x_BHWC.device, x_BHWC.dtype)

    def stage(self, index: int, x_BHWC: Tensor) -> Tensor:
        """Run stage `index`: patch merging (except in stage 0), then its blocks. Merging pads odd maps."""
        x_BHWC = self.layers[index](x_BHWC)
        return x_BHWC

    def extend_attention(self, build: Callable[[int], nn.Module]) -> None:
        """Put a module behind the window attention of every block, before its residual.

        Args:
            build: channels of the block -> a module that maps (B, H, W, C) to the same shape.
        """
        for width, stage in zip(self.widths, self.layers, strict=True):
            for block in cast(SwinStage, stage).blocks:
                cast(WindowBlock, block).after_attention = build(width)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the outputs (B, H_i, W_i, C_i) of all stages, without fusion in between."""
        x_BHWC, outputs = self.embed(image_BCHW), []
        for index in range(len(self.layers)):
            x_BHWC = self.stage(index, x_BHWC)
            outputs.append(x_BHWC)
        return outputs

    def no_weight_decay(self, name: str) -> bool:
        """Return Swin's rule, by name: norms, relative position tables and absolute positions are not decayed."""
        return any(part in name for part in ("norm", "relative_position_bias_table", "absolute_pos_embed"))

    def _fit_windows(self, tensors: dict[str, Tensor], spec: str) -> None:
        """Interpolate (bicubic) relative position tables of another window, and log a warning."""
        resized = []
        for name, block in self.named_modules():
            key = f"{name}.attn.relative_position_bias_table"
            if not isinstance(block, WindowBlock) or key not in tensors:
                continue
            wanted = block.attn.relative_position_bias_table.shape
            if tensors[key].shape[0] != wanted[0]:
                tensors[key] = resize_rel_pos_bias_table_simple(tensors[key], block.window_size, wanted)
                resized.append(name)
        if resized:
            logger.warning(
                "The relative position tables of %s in '%s' were interpolated (bicubic) to the window in use.",
                ", ".join(resized),
                spec,
            )


def adapt_swin_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Swin weights of either layout to timm's keys.

    Microsoft's code ends stage i with the patch merging that timm has at the start of stage i + 1. Only a file in
    Microsoft's layout has ``layers.0.downsample``. Both concatenate the merged neighbours in the same order, so that no
    weight is permuted. Buffers that follow from the window are dropped.
    """
    original = any(key.startswith("layers.0.downsample.") for key in tensors)
    adapted = {}
    for key, value in tensors.items():
        if key.endswith(DERIVED_BUFFERS):
            continue
        parts = key.split(".")
        if original and parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) + 1)
        adapted[".".join(parts)] = value
    return adapted


def _check(config: SwinConfig) -> None:
    if len(config.depths) != len(config.num_heads):
        raise UserError(f"{FIELD}.depths and {FIELD}.num_heads must have one entry per stage each.")
    for index, heads in enumerate(config.num_heads):
        width = config.embed_dim * 2**index
        if width % heads:
            raise UserError(f"{FIELD}: {heads} heads do not divide the {width} channels of stage {index}.")
    check_positions(FIELD, config.positions, POSITIONS, config.weights, embed_dim=config.embed_dim)


def _initialise(module: nn.Module) -> None:
    """Initialise as Swin does: linear weights from a truncated normal of deviation 0.02, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
