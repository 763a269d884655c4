"""Noise tiles, drawn once per process and cropped at random places.

Only integer draws, Pillow's integer resampling of 8-bit images and plain float arithmetic are used, so a tile has the
same bytes on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

# Octaves of each kind of noise: (grid spacing in pixels, weight).
_OCTAVES: dict[str, tuple[tuple[int, float], ...]] = {
    "fine": ((1, 0.6), (2, 0.7)),
    "mid": ((3, 0.35), (6, 0.5), (12, 0.6)),
    "coarse": ((20, 0.35), (42, 0.5), (86, 0.7)),
}
_KINDS = (*_OCTAVES, "canopy")


@lru_cache(maxsize=16)
def _tile(kind: str, side: int) -> np.ndarray:
    """Return a float32 (side, side) tile with values of about -1 to 1."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([7919, _KINDS.index(kind), side])))
    if kind == "canopy":
        return _canopy(rng, side)
    total = np.zeros((side, side), np.float32)
    for spacing, weight in _OCTAVES[kind]:
        cells = side // spacing + 2
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        grown = grid.resize((cells * spacing, cells * spacing), Image.Resampling.BICUBIC) if spacing > 1 else grid
        octave = np.asarray(grown)[:side, :side].astype(np.float32)
        total += np.float32(weight) * (octave - np.float32(127.5)) / np.float32(127.5)
    return total


def _canopy(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return tree crowns seen from above: overlapping discs, each lit from one side."""
    image = Image.new("L", (side, side), 70)
    draw = ImageDraw.Draw(image)
    count = side * side // 34
    xs, ys = rng.integers(0, side, count), rng.integers(0, side, count)
    radii, tones = rng.integers(3, 7, count), rng.integers(70, 190, count)
    for x, y, r, tone in zip(xs.tolist(), ys.tolist(), radii.tolist(), tones.tolist(), strict=True):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tone // 3)
        draw.ellipse((x - r, y - r, x + r - 1, y + r - 1), fill=tone)
        draw.ellipse((x - r + 1, y - r + 1, x + r // 3, y + r // 3), fill=min(255, tone + 35))
    return (np.asarray(image).astype(np.float32) - np.float32(110)) / np.float32(110)


def noise_HW(rng: np.random.Generator, kind: str, height: int, width: int) -> np.ndarray:
    """Return a float32 (height, width) crop, at a random place and in a random orientation, of the tile of `kind`.

    Args:
        rng: decides place and orientation.
        kind: ``"fine"`` (grain), ``"mid"``, ``"coarse"`` (patches of a quarter of a small image) or ``"canopy"``.
        height: rows in pixels.
        width: columns in pixels.
    """
    side = max(512, 2 * max(height, width))
    tile = _tile(kind, side)
    y, x, turn = (int(value) for value in rng.integers(0, (side - height, side - width, 4)))
    if turn & 1:
        tile = tile[::-1]
    if turn & 2:
        tile = tile[:, ::-1]
    return tile[y : y + height, x : x + width]
