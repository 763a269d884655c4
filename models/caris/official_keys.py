"""Names in the released files of CARIS, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_RENAMES

_PROJECTIONS = {r"input_convs\.(\d)": r"inputs.\1", r"lateral_convs\.0": "lateral", r"output_convs\.0": "output"}
_LAYER = r"^(decoder\.layers\.\d)\."
# The authors number the norms of the pixels in another order than they are applied in.
_NORMS = {"l_norm1": "words_norms.0", "l_norm2": "words_norms.1", "l_norm3": "words_norms.2"}
_NORMS |= {"v_norm2": "pixels_norms.0", "v_norm1": "pixels_norms.1", "v_norm3": "pixels_norms.2"}

OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        (r"^backbone\.vis_encoder\.", "backbone."),
        (r"^backbone\.lang_encoder\.", "text_encoder."),
        (r"^backbone\.conditional_prompts\.in_linears\.", "prompts.inner."),
        (r"^backbone\.conditional_prompts\.out_linears\.", "prompts.outer."),
        (r"^backbone\.conditional_prompts\.lang_prompts\.", "prompts.learned."),
        (r"^backbone\.conditional_prompts\.lang_prompts_norm\.", "prompts.norm."),
        (r"^pixel_decoder\.encoder\.", "decoder.layers."),
        *(
            (rf"^pixel_decoder\.{old}\.{part}\.", f"decoder.{new}.{index}.")
            for old, new in _PROJECTIONS.items()
            for index, part in enumerate(("conv", "gn"))
        ),
        (r"^pixel_decoder\.level_encoding\.", "decoder.levels."),
        (r"^pixel_decoder\.lang_in_linear\.", "decoder.words."),
        (r"^pixel_decoder\.lang_in_norm\.", "decoder.words_norm."),
        (r"^pixel_decoder\.vis_prompts\.", "decoder.prompts."),
        (r"^pixel_decoder\.mask_feature\.", "decoder.pixels."),
        (r"^pixel_decoder\.lang_embed\.", "decoder.classes."),
        (_LAYER + r"gamma_v2l$", r"\1.words_scale"),
        (_LAYER + r"gamma_l2v$", r"\1.pixels_scale"),
        (_LAYER + r"v2l_cross_attn\.", r"\1.words_from_pixels."),
        (_LAYER + r"l2v_cross_attn\.", r"\1.pixels_from_words."),
        (_LAYER + r"lang_self_attn\.", r"\1.words_from_words."),
        (_LAYER + r"vis_self_attn\.", r"\1.pixels_from_pixels."),
        (_LAYER + r"lang_mlp\.", r"\1.words_mlp."),
        (_LAYER + r"vis_mlp\.", r"\1.pixels_mlp."),
        *((_LAYER + rf"{old}\.", rf"\1.{new}.") for old, new in _NORMS.items()),
        (r"^(decoder\.layers\..*)\.q_proj\.", r"\1.query."),
        (r"^(decoder\.layers\..*)\.k_proj\.", r"\1.key."),
        (r"^(decoder\.layers\..*)\.(v_proj|value_proj)\.", r"\1.value."),
        (r"^(decoder\.layers\..*)\.(out_proj|output_proj)\.", r"\1.out."),
        (r"\.sampling_offsets\.", ".offsets."),
        (r"\.attention_weights\.", ".weights."),
        *FAMILY_RENAMES,
    ),
    ignored={
        **FAMILY_IGNORED,
        r"^pixel_decoder\.encoder\..*\.k_proj\.bias$": "a bias of keys, which the softmax cancels",
        r"^pixel_decoder\.lang_embed\.4\.bias$": "a bias that adds the same to both classes",
    },
    build_args=FAMILY_BUILD_ARGS,
)
