"""Names in files of LGCE's authors' code, and the names of the same tensors in this suite."""

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

OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        *GATED_PWAM_RENAMES,
        (r"^classifier\.lg_layer([34])\.", lambda match: f"guided.{int(match[1]) - 3}.guide."),
        (r"^classifier\.msb1\.msb\.blocks\.(\d)\.(\d)\.", r"guided.\1.blocks.\2."),
        *BLOCK_RENAMES,
        *FAMILY_RENAMES,
    ),
    ignored={
        **FAMILY_IGNORED,
        **LAST_GATE_IGNORED,
        r"^classifier\.msb1\.msb\.(projs|fusion|revert_projs)\.": "they rewrite guide tokens that are then dropped",
        r"^classifier\.(msb1\.patch_embed|msb[23]|lg_layer[12])\.": "layers whose output the authors' code never reads",
    },
    parts=FAMILY_PARTS,
    build_args=FAMILY_BUILD_ARGS,
)
