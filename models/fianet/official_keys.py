"""Names in the released files of FIANet, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import (
    BLOCK_RENAMES,
    FAMILY_BUILD_ARGS,
    FAMILY_IGNORED,
    FAMILY_PARTS,
    FAMILY_RENAMES,
    SCALE_GATE_RENAMES,
)

# Module names inside a stage: the authors' on the left.
_STAGE = r"^backbone\.layers\.(\d)\."
_ALIGN = _STAGE + r"object_position_align_blk\."
_STAGE_RENAMES = (
    (_STAGE + r"context_pixel_attn\.", r"stages.\1.context."),
    (_STAGE + r"context_tanh_gate\.0\.", r"stages.\1.context_gate.inner."),
    (_STAGE + r"context_tanh_gate\.2\.", r"stages.\1.context_gate.outer."),
    (_STAGE + r"fc1\.", r"stages.\1.modulation.shrink."),
    (_STAGE + r"fc2\.", r"stages.\1.modulation.expand."),
    (_ALIGN + r"go_cross_attn\.", r"stages.\1.object.attention."),
    (_ALIGN + r"go_tanh_gating\.0\.", r"stages.\1.object.gate.inner."),
    (_ALIGN + r"go_tanh_gating\.2\.", r"stages.\1.object.gate.outer."),
    (_ALIGN + r"go_embedding\.", r"stages.\1.object.go_embedding."),
    (_ALIGN + r"sp_cross_attn\.", r"stages.\1.position.attention."),
    (_ALIGN + r"conv1\.", r"stages.\1.position.conv."),
)
_NECK_RENAMES = (
    (r"^backbone\.tmem\.down_channel\.", "tmem.down."),
    (r"^backbone\.tmem\.up_channel\.", "tmem.up."),
    (r"^backbone\.tmem\.bn\.", "tmem.bn."),
    (r"^backbone\.tmem\.block\.(\d+)\.tma\.", r"tmem.blocks.\1.attention."),
    (r"^backbone\.tmem\.block\.(\d+)\.ff\.net\.0\.", r"tmem.blocks.\1.expand."),
    (r"^backbone\.tmem\.block\.(\d+)\.ff\.net\.3\.", r"tmem.blocks.\1.shrink."),
    (r"^backbone\.tmem\.block\.(\d+)\.", r"tmem.blocks.\1."),
    *SCALE_GATE_RENAMES,
)


OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(*_STAGE_RENAMES, *_NECK_RENAMES, *BLOCK_RENAMES, *FAMILY_RENAMES),
    ignored={**FAMILY_IGNORED, r"\.go_embedding\.weight$": "a layer that the authors' code never uses"},
    parts=FAMILY_PARTS,
    build_args=FAMILY_BUILD_ARGS,
)
