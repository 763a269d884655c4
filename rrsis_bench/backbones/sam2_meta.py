"""Renames weights of SAM 2 to the keys of transformers' `Sam2Model`.

Two layouts are known: transformers' own (the hub's checkpoints contain the video model, which adds the memory), and
Meta's ``sam2.1_hiera_*.pt``. Both contain the same tensors, except that transformers stacks the point embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Keys of the video model only: the memory that follows an object from frame to frame.
VIDEO_KEYS = (
    "memory_attention.",
    "memory_encoder.",
    "memory_temporal_positional_encoding",
    "mask_downsample.",
    "object_pointer_proj.",
    "temporal_positional_encoding_projection_layer.",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)
META_VIDEO_KEYS = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
)
META_MARK = "image_encoder.trunk."
PE_MATRIX = "shared_image_embedding.positional_embedding"
PE_MATRIX_TWIN = "prompt_encoder.shared_embedding.positional_embedding"
POINTS = "sam_prompt_encoder.point_embeddings."

# Applied to every key, in this order. In transformers the first and the last layer of an MLP have their own names.
META_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
        (r"^image_encoder\.trunk\.(blocks\.\d+)\.norm([12])\.", r"vision_encoder.backbone.\1.layer_norm\2."),
        (r"^image_encoder\.trunk\.(blocks\.\d+)\.mlp\.layers\.0\.", r"vision_encoder.backbone.\1.mlp.proj_in."),
        (r"^image_encoder\.trunk\.(blocks\.\d+)\.mlp\.layers\.1\.", r"vision_encoder.backbone.\1.mlp.proj_out."),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", PE_MATRIX),
        (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        (r"^sam_mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
        (r"^sam_mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
        (r"^sam_mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (r"^(mask_decoder\.transformer\.layers\.\d+)\.norm([1-4])\.", r"\1.layer_norm\2."),
        (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
        (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
        (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
        (r"^(mask_decoder\.transformer\..*attn.*)\.out_proj\.", r"\1.o_proj."),
        # The three-layer MLPs of the heads.
        (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|\w+_head))\.layers\.0\.", r"\1.proj_in."),
        (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|\w+_head))\.layers\.1\.", r"\1.layers.0."),
        (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|\w+_head))\.layers\.2\.", r"\1.proj_out."),
    )
]


def adapt_sam2_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the image model's weights in transformers' layout, without the video model's memory.

    Unknown keys stay as they are, so that strict loading reports them.
    """
    if any(key.startswith(META_MARK) for key in tensors):
        adapted = _from_meta(tensors)
    else:
        adapted = {key: value for key, value in tensors.items() if not key.startswith(VIDEO_KEYS)}
    # Both layouts may store this matrix only once.
    for key, twin in ((PE_MATRIX, PE_MATRIX_TWIN), (PE_MATRIX_TWIN, PE_MATRIX)):
        if key in adapted and twin not in adapted:
            adapted[twin] = adapted[key].clone()
    return adapted


def _from_meta(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Meta's keys to transformers' keys."""
    adapted: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    for key, value in tensors.items():
        if key.startswith(META_VIDEO_KEYS):
            continue
        if key.startswith(POINTS):
            points[int(key.removeprefix(POINTS).split(".")[0])] = value
            continue
        for pattern, replacement in META_RULES:
            key = pattern.sub(replacement, key)
        adapted[key] = value
    if points:
        adapted["prompt_encoder.point_embed.weight"] = torch.cat([points[index] for index in sorted(points)])
    return adapted
