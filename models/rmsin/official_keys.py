"""Names in the released files of RMSIN, and the names of the same tensors in this suite."""

from __future__ import annotations

from rrsis_bench.official import OfficialCheckpointFormat

from ..blocks.official_keys import BLOCK_RENAMES, FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_PARTS, FAMILY_RENAMES
from ..blocks.rmsin_keys import CIM_RENAMES, INTRA_SCALE_RENAMES, ROTATED_RENAMES

OFFICIAL_FORMAT = OfficialCheckpointFormat(
    renames=(*INTRA_SCALE_RENAMES, *CIM_RENAMES, *BLOCK_RENAMES, *FAMILY_RENAMES, *ROTATED_RENAMES),
    ignored=FAMILY_IGNORED,
    parts=FAMILY_PARTS,
    build_args=FAMILY_BUILD_ARGS,
)
