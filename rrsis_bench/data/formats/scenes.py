"""What the formats' writers take: one expression of a synthetic scene with its encoded image and target."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rrsis_bench.data.pixels import rle


@dataclass(frozen=True)
class SceneSample:
    """One expression with its image, ready to be written.

    Attributes:
        split: ``"train"``, ``"val"`` or ``"test"``.
        text: the expression.
        category: RRSIS-D's name of the noun's category.
        size: height, width in pixels.
        rle: COCO run lengths of the target as text.
        box: x1, y1, x2, y2 of the target; zeros for an empty one.
        area: the target's pixels.
        image: the content of the image file.
        scene: number of the scene within its split.
        objects: number within the scene, RRSIS-D's category and COCO run lengths of every object denoted; none for a
            no-target expression. Their union is the target.
    """

    split: str
    text: str
    category: str
    size: tuple[int, int]
    rle: str
    box: tuple[int, int, int, int]
    area: int
    image: bytes
    scene: int = 0
    objects: tuple[tuple[int, str, str], ...] = ()

    def decode(self, counts: str) -> np.ndarray:
        """Decode run lengths of this sample, its own or an object's, to bool (H, W)."""
        return rle.decode({"size": list(self.size), "counts": counts.encode("ascii")})


def encode_image(pixels: np.ndarray, fmt: str, **options: Any) -> bytes:
    """Encode uint8 pixels, (H, W, 3) or (H, W), as an image file in one of Pillow's formats."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt, **options)
    return buffer.getvalue()


def write_pickle(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records as a pickle whose bytes depend on their values alone.

    A pickle notes which strings are one object, and that depends on the process they come from. So all are rebuilt.
    """
    path.write_bytes(pickle.dumps(json.loads(json.dumps(records)), protocol=4))
