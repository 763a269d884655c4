"""Names in the released files of RefSegformer, and the names of the same tensors in this suite."""

from __future__ import annotations

import re

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_RENAMES

_PROJECTIONS = {"q": "query", "k": "key", "v": "value", "o": "out"}


def _fusion(match: re.Match[str]) -> str:
    """Count the fusions from 0; the first stage has none."""
    return f"stages.{int(match[1]) - 1}."


def _projection(match: re.Match[str]) -> str:
    return f".{_PROJECTIONS[match[1]]}."


OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        (r"^image_encoder\.layers\.(\d)\.VLTF\.", _fusion),
        (r"^image_encoder\.", "backbone."),
        (r"^(stages\.\d)\.memory_token\.weight$", r"\1.memory"),
        (r"^(stages\.\d)\.neg_memory_token\.weight$", r"\1.blank"),
        (r"^(stages\.\d)\.(in|out)put_proj\.0\.", r"\1.\2put."),
        (r"^(stages\.\d)\.(in|out)put_proj\.1\.", r"\1.\2put_bn."),
        (r"^(stages\.\d)\.lan_proj\.0\.", r"\1.words."),
        (r"^(stages\.\d)\.memory_fuse\.", r"\1.to_words."),
        (r"^(stages\.\d)\.feature_fuse\.", r"\1.to_memory."),
        (r"^segmentation\.cross_attns\.", "decoder.attentions."),
        (r"^segmentation\.norms\.", "decoder.norms."),
        (r"^segmentation\.projects\.(\d)\.conv", r"decoder.steps.\1.conv"),
        (r"^segmentation\.projects\.(\d)\.norm", r"decoder.steps.\1.bn"),
        (r"^segmentation\.mask_convs\.", "decoder.heads."),
        (r"\.fc_([qkvo])\.", _projection),
        *FAMILY_RENAMES,
    ),
    ignored={
        **FAMILY_IGNORED,
        r"^image_encoder\..*\.(relative_position_index|attn_mask)$": "a buffer that follows from the window",
        r"^image_encoder\.layers\.\d\.VLTF\.vision_lan_fuse\.": "an attention whose output is never read",
        r"^image_encoder\.layers\.0\.memory\.": "a token of the first stage, which is never read",
        r"^image_encoder\.norm\.": "a norm behind the encoder, which is never read",
    },
    build_args=FAMILY_BUILD_ARGS,
)
