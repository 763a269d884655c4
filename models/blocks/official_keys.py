"""Names in the released files of LAVT and its descendants, and the names of the same tensors in this suite."""

from __future__ import annotations

import re

from rrsis_bench.official import Renames


def _to_next_stage(match: re.Match[str]) -> str:
    """Move patch merging from the end of a stage, as in the authors' code, to the start of the next one."""
    return f"backbone.layers.{int(match[1]) + 1}.downsample."


# Inside every stage and neck; a model's own module names come before these.
BLOCK_RENAMES: Renames = (
    (r"\bimage_lang_att\.", "attention."),
    (r"\bvis_project\.0\.", "visual."),
    (r"\bproject_mm\.0\.", "mix."),
    (r"\bf_(query|key|value)\.0\.", r"\1."),
    (r"\bW\.0\.", "out."),
)

# The language pathway of a stage, as LAVT has it.
GATED_PWAM_RENAMES: Renames = (
    (r"^backbone\.layers\.(\d)\.fusion\.", r"stages.\1.pwam."),
    (r"^backbone\.layers\.(\d)\.res_gate\.0\.", r"stages.\1.gate.inner."),
    (r"^backbone\.layers\.(\d)\.res_gate\.2\.", r"stages.\1.gate.outer."),
)

# For models that leave this gate out.
LAST_GATE_IGNORED = {r"^backbone\.layers\.3\.res_gate\.": "a gate whose output is never read"}

# The scale-aware gates of a neck's `fusion.{i}`.
SCALE_GATE_RENAMES: Renames = (
    (r"^backbone\.(\w+)\.fusion\.(\d)\.local_embedding\.", r"\1.gates.\2.local."),
    (r"^backbone\.(\w+)\.fusion\.(\d)\.bn1\.", r"\1.gates.\2.local_bn."),
    (r"^backbone\.(\w+)\.fusion\.(\d)\.global_embedding\.", r"\1.gates.\2.wide."),
    (r"^backbone\.(\w+)\.fusion\.(\d)\.bn2\.", r"\1.gates.\2.wide_bn."),
    (r"^backbone\.(\w+)\.fusion\.(\d)\.global_act\.", r"\1.gates.\2.gate."),
    (r"^backbone\.(\w+)\.fusion\.(\d)\.bn3\.", r"\1.gates.\2.gate_bn."),
)

FAMILY_RENAMES: Renames = (
    (r"^backbone\.layers\.(\d+)\.downsample\.", _to_next_stage),
    (r"^backbone\.norm(\d)\.", r"norms.\1."),
    (r"^text_encoder\.", "text_encoder.bert."),
    (r"^classifier\.conv1_1\.", "decoder.head."),
    *((rf"^classifier\.(conv|bn)([12])_{4 - step}\.", rf"decoder.steps.{step}.\1\2.") for step in range(3)),
)

FAMILY_IGNORED = {
    r"^backbone\..*\.relative_position_index$": "a buffer that follows from the window",
    r"^backbone\..*\.attn_mask$": "a buffer that follows from the window and the input size",
    r"^text_encoder\.embeddings\.position_ids$": "a buffer that counts the positions",
    r"^text_encoder\.pooler\.": "the pooler, which referring segmentation does not use",
}

# LAVT's two-part variant keeps BERT in an entry of its own.
FAMILY_PARTS = {"model": "", "bert_model": "text_encoder."}

FAMILY_BUILD_ARGS = {"vision": {"weights": "random"}, "text": {"weights": "random"}}
