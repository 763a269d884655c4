"""Names in the released files of LSCF, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_PARTS, FAMILY_RENAMES
from .freq_fusion import HIGH, LOW, hamming

_FUSION = r"^backbone\.layers\.(\d)\.fusion\."
_BRANCH = _FUSION + r"msdc\.dwconvs\.(\d)\."
_STAGE_RENAMES = (
    (_BRANCH + r"0\.conv1\.", r"stages.\1.branches.\2.point."),
    (_BRANCH + r"1\.", r"stages.\1.branches.\2.depthwise."),
    (_BRANCH + r"2\.", r"stages.\1.branches.\2.bn."),
    (_FUSION + r"res_gate\.0\.", r"stages.\1.gate.inner."),
    (_FUSION + r"res_gate\.2\.", r"stages.\1.gate.outer."),
    *(
        (_FUSION + theirs + r"\.", rf"stages.\1.{ours}.")
        for theirs, ours in (
            (r"vis_proj\.0", "visual"),
            ("norm_ca_vis", "norm_visual"),
            (r"lang_proj\.0", "words"),
            ("norm_ca_lang", "norm_words"),
            (r"attn\.vis_coord\.conv1", "coords"),
            (r"attn\.project_q\.0", "attention.query"),
            (r"attn\.project_k\.0", "attention.key"),
            (r"attn\.project_v\.0", "attention.value"),
            (r"attn\.W\.0", "attention.out"),
            (r"fusion\.0", "mix"),
            (r"fusion\.1", "mix_bn"),
            ("norm_sa_mm", "norm_query"),
            ("norm_sa_mm_lang", "norm_source"),
            (r"fusion_attn\.q", "agents.query"),
            (r"fusion_attn\.k", "agents.key"),
            (r"fusion_attn\.v", "agents.value"),
            (r"fusion_attn\.proj", "agents.out"),
            (r"fusion_attn\.dwc", "agents.local"),
            ("norm_ffn", "norm_ffn"),
            ("ffn", "ffn"),
        )
    ),
    (_FUSION + r"fusion_attn\.na_bias$", r"stages.\1.agents.agent_bias"),
    (_FUSION + r"fusion_attn\.ha_bias$", r"stages.\1.agents.row_bias"),
    (_FUSION + r"fusion_attn\.wa_bias$", r"stages.\1.agents.col_bias"),
)
_DECODER_RENAMES = (
    *(
        (rf"^decoder\.{theirs.format(level + 1)}\.", f"decoder.{ours}.{level}.")
        for level in range(4)
        for theirs, ours in (
            ("x{}_proj", "inputs"),
            ("clim{}", "language"),
            ("post_proj{}", "outputs"),
            ("freq_proj{}", "merges"),
        )
    ),
    (r"\.v_trans\.0\.", ".visual."),
    (r"\.t_trans\.0\.", ".words."),
    (r"\.f_out\.1\.", ".mix."),
    (r"\.f_out\.2\.", ".bn."),
    (r"^decoder\.freq_mix3\.hr_channel_compressor\.", "decoder.freq.fine."),
    (r"^decoder\.freq_mix3\.lr_channel_compressor\.", "decoder.freq.coarse."),
    (r"^decoder\.freq_mix3\.content_encoder\.", "decoder.freq.low."),
    (r"^decoder\.freq_mix3\.content_encoder2\.", "decoder.freq.high."),
    (r"^decoder\.conv1_1\.", "decoder.head."),
)

OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(*_STAGE_RENAMES, *_DECODER_RENAMES, *FAMILY_RENAMES),
    ignored={
        **FAMILY_IGNORED,
        r"^backbone\.layers\.3\.fusion\.res_gate\.": "a gate whose output is never read",
        r"^decoder\.freq_mix[12]\.(hr_channel_compressor|lr_channel_compressor|content_encoder2?)\.": (
            "layers that the authors' code never calls: freq_mix3 serves all steps"
        ),
    },
    constants={
        r"^decoder\.freq_mix[123]\.hamming_lowpass$": hamming(LOW),
        r"^decoder\.freq_mix[123]\.hamming_highpass$": hamming(HIGH),
    },
    parts=FAMILY_PARTS,
    build_args=FAMILY_BUILD_ARGS,
)
