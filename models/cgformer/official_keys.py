"""Names in the files that CGFormer's code saves, and the names of the same tensors in this suite."""

from __future__ import annotations

import re

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import BLOCK_RENAMES, FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_RENAMES

_PROJECTIONS = {"q": "query", "k": "key", "v": "value"}


def _projection(match: re.Match[str]) -> str:
    return f".{_PROJECTIONS[match[1]]}."


OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        (r"^backbone\.layers\.(\d)\.pwam_fusion\.", r"stages.\1.pwam."),
        (r"^backbone\.layers\.(\d)\.pwam_gate\.0\.", r"stages.\1.gate.inner."),
        (r"^backbone\.layers\.(\d)\.pwam_gate\.2\.", r"stages.\1.gate.outer."),
        (r"^decoder\.tokens\.weight$", "decoder.tokens"),
        (r"^decoder\.layers\.(\d)\.positional_embedding$", r"decoder.positions.\1"),
        (r"^(decoder\.layers\.\d)\.loadtoken\.normq\.", r"\1.norm_token."),
        (r"^(decoder\.layers\.\d)\.loadtoken\.normk\.", r"\1.norm_words."),
        (r"^(decoder\.layers\.\d)\.loadtoken\.cross_attn\.proj\.", r"\1.attention.out."),
        (r"^(decoder\.layers\.\d)\.loadtoken\.cross_attn\.", r"\1.attention."),
        (r"^decoder\.layers\.(\d)\.", lambda match: f"decoder.loads.{int(match[1]) - 1}."),
        (r"^decoder\.cgattention(\d)\.", lambda match: f"decoder.groupings.{int(match[1]) - 1}."),
        (r"^(decoder\.groupings\.\d)\.norm_v\.", r"\1.norm_pixels."),
        (r"^(decoder\.groupings\.\d)\.norm_t\.", r"\1.norm_tokens."),
        (r"^(decoder\.groupings\.\d)\.proj\.", r"\1.out."),
        (r"\.([qkv])_proj\.", _projection),
        (r"^decoder\.fuses\.(\d)\.fusion\.0\.", r"decoder.steps.\1.conv1."),
        (r"^decoder\.fuses\.(\d)\.fusion\.1\.", r"decoder.steps.\1.bn1."),
        (r"^decoder\.fuses\.(\d)\.fusion\.3\.", r"decoder.steps.\1.conv2."),
        (r"^decoder\.fuses\.(\d)\.fusion\.4\.", r"decoder.steps.\1.bn2."),
        (r"^decoder\.proj\.vis\.1\.0\.", "decoder.head.convs.0."),
        (r"^decoder\.proj\.vis\.1\.1\.", "decoder.head.norms.0."),
        (r"^decoder\.proj\.vis\.3\.0\.", "decoder.head.convs.1."),
        (r"^decoder\.proj\.vis\.3\.1\.", "decoder.head.norms.1."),
        (r"^decoder\.proj\.vis\.4\.", "decoder.head.point."),
        (r"^decoder\.proj\.txt\.", "decoder.head.kernel."),
        *BLOCK_RENAMES,
        *FAMILY_RENAMES,
    ),
    ignored={
        **FAMILY_IGNORED,
        r"^backbone\.layers\.3\.pwam_gate\.": "a gate whose output is never read",
        r"^decoder\.layers\.\d\.loadtoken\.(mlp|norm)\.": "layers that the authors' code never calls",
        r"^decoder\.cgattention\d\.tau$": "a temperature that the authors' code never trains; it is 1",
    },
    parts={"model_state_dict": ""},
    build_args=FAMILY_BUILD_ARGS,
)
