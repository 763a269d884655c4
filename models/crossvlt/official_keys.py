"""Names in the released files of CrossVLT, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_RENAMES

_STAGE = r"^backbone\.(\d)\.layers\."
_LAYER = r"^(language\.\d\.to_\w+)\."


def _earlier(place: str) -> tuple[tuple[str, str], ...]:
    """Count the later language stages from 0."""
    return tuple((rf"^lang_stage{stage}\.", f"{place}.{stage - 2}.") for stage in (2, 3, 4))


OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        (r"^backbone\.0\.patch_embed\.", "backbone.patch_embed."),
        (_STAGE + r"(blocks|downsample)\.", r"backbone.layers.\1.\2."),
        (_STAGE + r"attn1\.", r"stages.\1.fusion."),
        (_STAGE + r"attn2\.", r"merged.\1.fusion."),
        (_STAGE + r"linear1\.0\.", r"stages.\1.gate.inner."),
        (_STAGE + r"linear1\.2\.", r"stages.\1.gate.outer."),
        (_STAGE + r"linear2\.0\.", r"merged.\1.gate.inner."),
        (_STAGE + r"linear2\.2\.", r"merged.\1.gate.outer."),
        (_STAGE + r"proj\.", r"pixel_projections.\1."),
        (r"\bv_q\.0\.", "query."),
        (r"\bl_q\.", "key."),
        (r"\bvalues_l\.", "value."),
        (r"\bw_v\.0\.", "out."),
        (r"\bproject_mm\.0\.", "mix."),
        (r"^backbone\.\d\.norm", "backbone.norm"),
        (r"^lang_stage1\.encoder\.proj\.", "sentence_projections.0."),
        *((rf"^lang_stage{stage}\.proj\.", f"sentence_projections.{stage - 1}.") for stage in (2, 3, 4)),
        (r"^lang_stage1\.", "text_encoder."),
        *_earlier("language"),
        (r"^(language\.\d)\.layer\.0\.", r"\1.to_words."),
        (r"^(language\.\d)\.crossattention\.", r"\1.to_pixels.attention."),
        (r"^(language\.\d)\.(intermediate|output)\.", r"\1.to_pixels.\2."),
        (_LAYER + r"attention\.self\.", r"\1."),
        (_LAYER + r"attention\.output\.dense\.", r"\1.out."),
        (_LAYER + r"attention\.output\.LayerNorm\.", r"\1.norm1."),
        (_LAYER + r"intermediate\.dense\.", r"\1.fc1."),
        (_LAYER + r"output\.dense\.", r"\1.fc2."),
        (_LAYER + r"output\.LayerNorm\.", r"\1.norm2."),
        *FAMILY_RENAMES,
    ),
    ignored={
        **FAMILY_IGNORED,
        r"^backbone\.3\.layers\.linear1\.": "a gate whose output is never read",
        r"^temp$": "a temperature that the authors' code never trains; it is 1",
    },
    build_args=FAMILY_BUILD_ARGS,
)
