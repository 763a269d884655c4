"""Names in the released files of LAVT, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import (
    BLOCK_RENAMES,
    FAMILY_BUILD_ARGS,
    FAMILY_IGNORED,
    FAMILY_PARTS,
    FAMILY_RENAMES,
    GATED_PWAM_RENAMES,
)

OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(
        *GATED_PWAM_RENAMES,
        *BLOCK_RENAMES,
        *FAMILY_RENAMES,
    ),
    ignored=FAMILY_IGNORED,
    parts=FAMILY_PARTS,
    build_args=FAMILY_BUILD_ARGS,
)
