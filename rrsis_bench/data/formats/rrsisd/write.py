"""Write synthetic scenes in RRSIS-D's format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rrsis_bench.data.formats import refer_write
from rrsis_bench.data.formats.rrsisd.dataset import FORMAT
from rrsis_bench.data.formats.scenes import SceneSample


def write(samples: Iterable[SceneSample], root: Path) -> None:
    """Write RRSIS-D's files below `root`; see `refer_write.write`."""
    refer_write.write(FORMAT, samples, root)
