"""Scale an image's values to 8 bits, with the same limits for every window.

With limits per tile, a bright spot would darken its tile, and one object could have two brightnesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources.source import Source, no_valid_pixel

SIDE = 1024  # pixels: size of the overview from which percentiles are taken
DEFAULT = (2.0, 98.0)
_HELP = "auto, none, LO,HI (two values) or pLO,pHI (two percentiles, such as p2,p98)"


@dataclass(frozen=True, slots=True)
class Scaling:
    """Limits that map pixels to 8 bits.

    Attributes:
        kind: ``none`` (already 8 bits), ``range`` (given limits) or ``percentile`` (limits from the image).
        limits: per band, the values that become 0 and 255; None for ``none``.
    """

    kind: str
    limits: tuple[tuple[float, float], ...] | None = None

    def __call__(self, pixels_HWC: np.ndarray) -> np.ndarray:
        """Scale pixels in the image's own type to uint8 (h, w, 3); NaN becomes 0."""
        if self.limits is None:
            return np.ascontiguousarray(pixels_HWC)
        low_C, high_C = (np.array(side, dtype=np.float32) for side in zip(*self.limits, strict=True))
        scaled_HWC = (pixels_HWC.astype(np.float32) - low_C) * (255 / (high_C - low_C))
        return np.asarray(np.nan_to_num(np.clip(np.rint(scaled_HWC), 0, 255)).astype(np.uint8))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for the prediction's JSON."""
        return {"kind": self.kind, "limits": None if self.limits is None else [list(pair) for pair in self.limits]}


def decide(source: Source, spec: str = "auto") -> Scaling:
    """Decide the scaling of a whole image.

    Args:
        source: the image.
        spec: ``auto`` keeps 8-bit images and scales others by their 2nd and 98th percentiles per band. ``none`` is for
            8-bit images only. ``LO,HI`` are two values and ``pLO,pHI`` two percentiles.

    Raises:
        UserError: another `spec`, ``none`` for pixels that are not 8 bits, or no valid pixel to take percentiles from.
    """
    eight_bits = source.dtype == "uint8"
    if spec == "none" or (spec == "auto" and eight_bits):
        if not eight_bits:
            raise UserError(
                f"scale=none is for 8-bit images, but {source.name} has {source.dtype} pixels. Use {_HELP}."
            )
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
        raise UserError(f"scale={spec} must be {_HELP}, with the lower one first.")
    if not by_percentile:
        return Scaling("range", ((values[0], values[1]),) * 3)
    if not 0 <= values[0] < values[1] <= 100:
        raise UserError(f"scale={spec} must have percentiles from 0 to 100.")
    return _percentiles(source, (values[0], values[1]))


def _percentiles(source: Source, percent: tuple[float, float]) -> Scaling:
    pixels_HWC, valid_HW = source.overview(SIDE)
    if not valid_HW.any():
        raise no_valid_pixel(source)
    limits = []
    bands = pixels_HWC[valid_HW].astype(np.float64).T
    for values, nodata in zip(bands, source.nodata, strict=True):
        values = values[np.isfinite(values) if nodata is None else np.isfinite(values) & (values != nodata)]
        if not len(values):
            raise no_valid_pixel(source)
        low, high = np.percentile(values, percent)
        limits.append((float(low), float(high if high > low else low + 1)))
    _note_background(source, bands)
    return Scaling("percentile", tuple(limits))


def _note_background(source: Source, bands: np.ndarray) -> None:
    """Add a note if one value fills more than half of the image and is not declared as missing data."""
    value = bands[0].min()
    if (bands == value).all(0).mean() > 0.5 and source.nodata == (None, None, None):
        source.notes.append(
            f"More than half of the pixels of {source.name} are {value:.9g} in all bands. If that is background, leave "
            f"it out with --nodata {value:.9g}."
        )
