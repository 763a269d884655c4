"""Write synthetic scenes in RISBench's format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rrsis_bench.data.formats.file_list_write import FileListWriter
from rrsis_bench.data.formats.risbench.dataset import FORMAT
from rrsis_bench.data.formats.scenes import SceneSample, encode_image


def encode(pixels: np.ndarray) -> bytes:
    """Return the PNG file of uint8 pixels, (H, W, 3) or (H, W)."""
    return encode_image(pixels, "PNG")


def write(samples: Iterable[SceneSample], root: Path) -> None:
    """Write RISBench's files below `root`: ``{split}_{scene}_{number}.png``, the image once per expression."""
    with FileListWriter(FORMAT, root, encode) as writer:
        numbers: Counter[tuple[str, int]] = Counter()
        for sample in samples:
            number = numbers[sample.split, sample.scene]
            numbers[sample.split, sample.scene] += 1
            writer.add(sample, f"{sample.split}_{sample.scene}_{number}.png", new=True)
