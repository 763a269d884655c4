"""Names of RMSIN's parts in the authors' files, which MAFN's files have too."""

from __future__ import annotations

from rrsis_bench.official import Renames

from .official_keys import GATED_PWAM_RENAMES, SCALE_GATE_RENAMES

# Module names inside a stage and inside the neck: the authors' on the left.
_STAGE = r"^backbone\.layers\.(\d)\."
_UNITS = (("", "first"), ("_2", "second"))
INTRA_SCALE_RENAMES: Renames = (
    *GATED_PWAM_RENAMES,
    (_STAGE + r"visual_gate\.0\.", r"stages.\1.visual_gate.inner."),
    (_STAGE + r"visual_gate\.2\.", r"stages.\1.visual_gate.outer."),
    (_STAGE + r"visual_residual\.repblock\.", r"stages.\1.repblock."),
    *(
        (rf"\.brb_{theirs.format(suffix)}\.", f".{unit}.{ours}.")
        for suffix, unit in _UNITS
        for theirs, ours in (
            (r"1x1{}\.conv", "point"),
            (r"1x1{}\.bn", "point_bn"),
            (r"3x3{}\.conv1", "inner"),
            (r"3x3{}\.bn1", "inner_bn"),
            (r"3x3{}\.conv2", "spatial"),
            (r"3x3{}\.bn2", "spatial_bn"),
            ("identity{}", "identity_bn"),
        )
    ),
)
_BLOCK = r"^backbone\.cim\.block\.(\d+)\."
_ATTENTION = r"^(cim\.blocks\.\d+\.attention\d)\."
_FEED_FORWARD = r"^(cim\.blocks\.\d+\.(?:scale_ff\.scales\.\d|ff))\."
CIM_RENAMES: Renames = (
    (r"^backbone\.cim\.down_channel\.", "cim.down."),
    (r"^backbone\.cim\.up_channel\.", "cim.up."),
    (r"^backbone\.cim\.bn\.", "cim.bn."),
    (_BLOCK + r"csa([12])\.m\.", r"cim.blocks.\1.attention\2."),
    *((_BLOCK + rf"intra_ff\.m\.ff{scale + 1}\.m\.", rf"cim.blocks.\1.scale_ff.scales.{scale}.") for scale in range(4)),
    (_BLOCK + r"ff\.m\.", r"cim.blocks.\1.ff."),
    (_ATTENTION + r"bn1\.", r"\1.bn."),
    (_ATTENTION + r"DWConv1\.0\.", r"\1.stride2."),
    (_ATTENTION + r"DWConv1\.1\.", r"\1.stride2_bn."),
    (_ATTENTION + r"DWConv2\.0\.", r"\1.stride3."),
    (_ATTENTION + r"DWConv2\.1\.", r"\1.stride3_bn."),
    (_ATTENTION + r"attention\.qkv\.c\.", r"\1.qkv."),
    (_ATTENTION + r"attention\.qkv\.bn\.", r"\1.qkv_bn."),
    (_ATTENTION + r"attention\.parallel_conv\.1\.", r"\1.local."),
    (_ATTENTION + r"attention\.proj\.", r"\1.tokens."),
    (_ATTENTION + r"attention\.to_out\.", r"\1.out."),
    (_ATTENTION + r"bn4\.", r"\1.out_bn."),
    (_ATTENTION + r"conv\.", r"\1.mix."),
    (_FEED_FORWARD + r"conv1\.", r"\1.expand."),
    (_FEED_FORWARD + r"conv2\.", r"\1.local."),
    (_FEED_FORWARD + r"conv3\.", r"\1.shrink."),
    *SCALE_GATE_RENAMES,
)

# Adaptive rotated convolutions in a decoder; applied after the family's renames. "rounting" is the authors' spelling.
ROTATED_RENAMES: Renames = (
    (r"\.rounting_func\.dwc\.", ".routing.depthwise."),
    (r"\.rounting_func\.norm\.norm\.", ".routing.norm."),
    (r"\.rounting_func\.fc_alpha\.", ".routing.gate."),
    (r"\.rounting_func\.fc_theta\.", ".routing.angle."),
)
