"""Names in the released files of RIS-DMMI, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import (
    BLOCK_RENAMES,
    FAMILY_BUILD_ARGS,
    FAMILY_IGNORED,
    FAMILY_PARTS,
    FAMILY_RENAMES,
    GATED_PWAM_RENAMES,
    LAST_GATE_IGNORED,
)

_STAGE = r"^(stages\.\d)\.pwam\."
_LAYER = r"transformer_model\.layers\.0\."

OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        *GATED_PWAM_RENAMES,
        (_STAGE + r"image_lang_att\.vis_weight$", r"\1.attention.pixel_mix"),
        (_STAGE + r"image_lang_att\.lan_weight$", r"\1.attention.word_mix"),
        (_STAGE + r"image_lang_att\.f_value_v\.0\.", r"\1.attention.pixel_value."),
        (_STAGE + r"image_lang_att\.W2\.0\.", r"\1.attention.word_out."),
        *(
            (_STAGE + rf"image_lang_att\.refineimg{side}{side}\.", rf"\1.attention.pixels_to_words.{index}.")
            for index, side in enumerate((1, 3, 5))
        ),
        *(
            (_STAGE + rf"image_lang_att\.refinelan{count}1\.", rf"\1.attention.words_to_pixels.{count - 1}.")
            for count in (1, 2, 3)
        ),
        (r"\bf_query2\.0\.", "join."),
        (_STAGE, r"\1."),
        (r"^backbone\.layers\.(\d)\.W_l\.0\.", r"stages.\1.word_update."),
        *((rf"^classifier\.transformer_fusion{n}\.{_LAYER}", f"decoder.language.{n - 1}.") for n in (1, 2)),
        (rf"^classifier\.lan_func\.{_LAYER}", "objective.layer."),
        (r"^classifier\.lan_func\.(conv|bn)1\.", r"objective.\1."),
        *((rf"^classifier\.crossfuse{n}\.linear\.", f"objective.joins.{n - 1}.") for n in (1, 2)),
        (r"^contrastive\.align_lan\.0\.", "objective.align."),
        *BLOCK_RENAMES,
        *FAMILY_RENAMES,
    ),
    ignored={
        **FAMILY_IGNORED,
        **LAST_GATE_IGNORED,
        r"^classifier\.(transformer_fusion\d|lan_func)\.decoder_layer\.": "prototypes of layers, which are never run",
    },
    parts=FAMILY_PARTS,
    build_args=FAMILY_BUILD_ARGS,
)
