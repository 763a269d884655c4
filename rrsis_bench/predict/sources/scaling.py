"""From a raster's own numbers to 8 bits: limits decided once per raster, the same for every window of it.

Limits per tile would make a bright spot darken its own tile alone, and one object would be seen in two brightnesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.source import Source

SIDE = 1024  # of the overview that percentiles are taken from
DEFAULT = (2.0, 98.0)
_HELP = "auto, none, LO,HI (two values) or pLO,pHI (two percentiles, such as p2,p98)"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How pixels become 8 bits.

    Attributes:
        kind: ``none`` (they are 8 bits), ``range`` (given limits) or ``percentile`` (limits found in the image).
        limits: per band, the value that becomes 0 and the one that becomes 255; None for ``none``.
    """

    kind: str
    limits: tuple[tuple[float, float], ...] | None = None

    def __call__(self, pixels_HWC: np.ndarray) -> np.ndarray:
        """Pixels in the image's own type -> uint8 (h, w, 3); values that are no numbers become 0."""
        if self.limits is None:
            return np.ascontiguousarray(pixels_HWC)
        low_C, high_C = (np.array(side, dtype=np.float32) for side in zip(*self.limits, strict=True))
        scaled_HWC = (pixels_HWC.astype(np.float32) - low_C) * (255 / (high_C - low_C))
        return np.nan_to_num(np.clip(np.rint(scaled_HWC), 0, 255)).astype(np.uint8)

    def as_dict(self) -> dict[str, Any]:
        """For the prediction's JSON."""
        return {"kind": self.kind, "limits": None if self.limits is None else [list(pair) for pair in self.limits]}


def decide(source: Source, spec: str = "auto") -> Scaling:
    """The scaling of a whole image.

    Args:
        source: the image.
        spec: ``auto`` takes 8-bit images as they are and others by their 2nd and 98th percentiles per band; the rest
            is said in the error message.

    Raises:
        UserError: another `spec`; ``none`` for pixels that are not 8 bits; no valid pixel to take percentiles from.
    """
    eight_bits = source.dtype == "uint8"
    if spec == "none" or (spec == "auto" and eight_bits):
        if not eight_bits:
            raise UserError(f"{source.name} has {source.dtype} pixels: scale=none is for 8-bit images. Give {_HELP}.")
        return Scaling("none")
    if spec == "auto":
        return _percentiles(source, DEFAULT)
    parts = spec.split(",")
    try:
        values = tuple(float(part.strip().removeprefix("p")) for part in parts)
    except ValueError:
        values = ()
    by_percentile = parts[0].strip().startswith("p")
    if any(part.strip().startswith("p") != by_percentile for part in parts):
        values = ()
    if len(values) != 2 or not np.isfinite(values).all() or values[0] >= values[1]:
        raise UserError(f"scale={spec} is not one of: {_HELP}, the lower one first.")
    if not by_percentile:
        return Scaling("range", ((values[0], values[1]),) * 3)
    if not 0 <= values[0] < values[1] <= 100:
        raise UserError(f"scale={spec}: percentiles lie between 0 and 100.")
    return _percentiles(source, (values[0], values[1]))


def _percentiles(source: Source, percent: tuple[float, float]) -> Scaling:
    pixels_HWC, valid_HW = source.overview(SIDE)
    if not valid_HW.any():
        raise UserError(f"{source.name} has no valid pixel (all nodata): there is nothing to predict on.")
    limits = []
    for values in pixels_HWC[valid_HW].astype(np.float64).T:
        low, high = np.percentile(values, percent)
        limits.append((float(low), float(high if high > low else low + 1)))
    return Scaling("percentile", tuple(limits))
