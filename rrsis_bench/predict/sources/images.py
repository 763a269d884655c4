"""Arrays and plain image files, decoded by the code that evaluation uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_bench.data.pixels import images
from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.source import Georef, Source, Window, check_dtype


class ArraySource(Source):
    """Pixels in memory.

    Args:
        pixels_HWC: (H, W, 3), or (H, W) for a single band; integers or floats. Values that are not finite are invalid.
        valid_HW: bool; None: all pixels hold data.
        name: for messages.
        georef: None if it has none.

    Raises:
        UserError: another shape or type.
    """

    def __init__(
        self,
        pixels_HWC: np.ndarray,
        valid_HW: np.ndarray | None = None,
        *,
        name: str = "array",
        georef: Georef | None = None,
    ):
        if pixels_HWC.ndim == 2:
            pixels_HWC = np.repeat(pixels_HWC[..., None], 3, axis=2)
        if pixels_HWC.ndim != 3 or pixels_HWC.shape[2] != 3 or not pixels_HWC.size:
            raise UserError(f"An image must be an array (height, width, 3) or (height, width), not {pixels_HWC.shape}.")
        self._pixels_HWC, self.name, self.georef = pixels_HWC, name, georef
        self.height, self.width = pixels_HWC.shape[:2]
        self.dtype = check_dtype(pixels_HWC.dtype, name)
        self._valid_HW = np.ones(pixels_HWC.shape[:2], dtype=bool) if valid_HW is None else valid_HW
        if pixels_HWC.dtype.kind == "f":
            self._valid_HW = self._valid_HW & np.isfinite(pixels_HWC).all(2)
        self.notes = []

    def read(self, window: Window) -> np.ndarray:
        """As `Source.read`."""
        return self._pixels_HWC[window.slices]

    def valid(self, window: Window) -> np.ndarray:
        """As `Source.valid`."""
        return self._valid_HW[window.slices]

    def overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return every n-th pixel."""
        step = max(1, -(-max(self.height, self.width) // side))
        return self._pixels_HWC[::step, ::step], self._valid_HW[::step, ::step]


def from_pil(image: Image.Image) -> ArraySource:
    """Return an image in memory as a source; pixels of opacity 0 are invalid."""
    images.check_mode(image)
    return ArraySource(np.array(image.convert("RGB")), _opaque(image), name="image")


def from_file(path: Path, georef: Georef | None = None) -> ArraySource:
    """Decode a plain image file once, as evaluation does; pixels of opacity 0 are invalid."""
    pixels_HWC = images.read_rgb(path)
    with Image.open(path) as image:
        return ArraySource(pixels_HWC, _opaque(image), name=path.name, georef=georef)


def _opaque(image: Image.Image) -> np.ndarray | None:
    """Return where the alpha channel is not 0; None without one."""
    if "A" not in image.getbands():
        if "transparency" not in image.info:
            return None
        image = image.convert("RGBA")
    return np.asarray(image.getchannel("A")) > 0
