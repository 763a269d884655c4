"""Write synthetic scenes in RefSegRS's format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rrsis_bench.data.formats.file_list_write import FileListWriter
from rrsis_bench.data.formats.refsegrs.dataset import FORMAT
from rrsis_bench.data.formats.scenes import SceneSample, encode_image


def encode(pixels: np.ndarray) -> bytes:
    """Return the lossless TIFF file of uint8 pixels, (H, W, 3) or (H, W)."""
    return encode_image(pixels, "TIFF", compression="tiff_lzw")


def write(samples: Iterable[SceneSample], root: Path) -> None:
    """Write RefSegRS's files below `root`. Names are numbers over all splits.

    A name is one image and one mask. Expressions of a scene that denote the same share it, others have a copy of the
    image under a name of their own.
    """
    with FileListWriter(FORMAT, root, encode) as writer:
        names: dict[tuple[str, int, str], str] = {}
        for sample in samples:
            key = (sample.split, sample.scene, sample.rle)
            new = key not in names
            writer.add(sample, names.setdefault(key, str(len(names) + 1)), new=new)
