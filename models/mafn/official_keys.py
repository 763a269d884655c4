"""Names in the released file of MAFN, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import BLOCK_RENAMES, FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_PARTS, FAMILY_RENAMES
from ..blocks.rmsin_keys import CIM_RENAMES, INTRA_SCALE_RENAMES, ROTATED_RENAMES

_NOISE = r"^(backbone\.layers\.\d\.blocks\.\d+)\."
_NOISE_RENAMES = tuple(
    (_NOISE + theirs, rf"\1.after_attention.{ours}")
    for theirs, ours in (
        (r"relation_judger\.0\.", "relation."),
        (r"k_noise\.weight$", "key_noise"),
        (r"v_noise\.weight$", "value_noise"),
        (r"cross_attn_0_to_1\.in_proj_(weight|bias)$", r"qkv.\2"),
        (r"cross_attn_0_to_1\.out_proj\.", "out."),
    )
)
_CORR = r"^backbone\.layers\.(\d)\.corr\."
_CORR_RENAMES = (
    *(
        (_CORR + theirs + r"\.", rf"stages.\1.fuse.{ours}.")
        for theirs, ours in (
            ("Conv", "conv"),
            (r"mlpLayer\.LayerNorm", "windows.norm"),
            (r"mlpLayer\.reweight", "windows.weigh"),
            (r"mlpLayer\.out_project", "windows.out"),
            (r"channel_intensification_block\.LayerNorm", "channels.norm"),
            (r"channel_intensification_block\.channel_attention\.Conv_0", "channels.shrink"),
            (r"channel_intensification_block\.channel_attention\.Conv_1", "channels.expand"),
            (r"channel_intensification_block", "channels"),
        )
    ),
    *(
        (
            _CORR + rf"mlpLayer\.WinGmlpLayer_{branch + 1}\.{theirs}\.",
            rf"stages.\1.fuse.windows.branches.{branch}.{ours}.",
        )
        for branch in range(3)
        for theirs, ours in (
            ("LayerNorm", "norm"),
            ("in_project", "expand"),
            (r"SpatialGatingUnit\.LayerNorm", "gate_norm"),
            (r"SpatialGatingUnit\.Dense_0", "mix"),
            ("out_project", "shrink"),
        )
    ),
)
_STEP = r"^(decoder\.steps\.\d\.second)\."
_DECODER_RENAMES = (
    *((rf"^classifier\.mscb{4 - step}\.", f"decoder.steps.{step}.second.") for step in range(3)),
    (_STEP + r"pconv1\.0\.", r"\1.inner."),
    (_STEP + r"pconv1\.1\.", r"\1.inner_bn."),
    (_STEP + r"msdc\.dwconvs\.(\d)\.0\.", r"\1.scales.\2."),
    (_STEP + r"msdc\.dwconvs\.(\d)\.1\.", r"\1.scale_bns.\2."),
    (_STEP + r"msdc\.conv2_3\.", r"\1.rotated."),
    (_STEP + r"pconv2\.0\.", r"\1.outer."),
    (_STEP + r"pconv2\.1\.", r"\1.outer_bn."),
)

OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        *_NOISE_RENAMES,
        *_CORR_RENAMES,
        *INTRA_SCALE_RENAMES,
        *CIM_RENAMES,
        *BLOCK_RENAMES,
        *FAMILY_RENAMES,
        *_DECODER_RENAMES,
        *ROTATED_RENAMES,
    ),
    ignored={
        **FAMILY_IGNORED,
        r"^backbone\.layers\.3\.(res_gate|visual_gate|visual_residual|corr)\.": (
            "the fusion of the last stage, whose output the authors' code never reads"
        ),
    },
    parts=FAMILY_PARTS,
    build_args=FAMILY_BUILD_ARGS,
)
