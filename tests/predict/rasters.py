"""Small rasters on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

UTM = CRS.from_epsg(32632)
NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 5_300_000)
SOUTH_UP = Affine(0.5, 0, 500_000, 0, 0.5, 5_300_000)
ROTATED = Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_300_000)
DEGREES = Affine(1e-5, 0, 11.5, 0, -1e-5, 48.1)
# A transverse Mercator of nobody's: it has no EPSG code.
WKT_ONLY = CRS.from_wkt(
    'PROJCS["site grid",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",47],PARAMETER["central_meridian",11.3],PARAMETER["scale_factor",1],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",5200000],UNIT["metre",1]]'
)


def blobs(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    """uint8 (H, W, 3) with some bright red shapes that touch edges and each other's corners."""
    rng = np.random.default_rng(seed)
    image_HWC = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    for _ in range(9):
        y, x = int(rng.integers(-5, height - 4)), int(rng.integers(-5, width - 4))
        h, w = rng.integers(2, 22, 2)
        image_HWC[max(0, y) : y + h, max(0, x) : x + w, 0] = rng.integers(140, 256)
    image_HWC[10:14, 10:14, 0] = image_HWC[14:18, 14:18, 0] = 220  # two squares that share a corner
    image_HWC[30:50, 60:80, 0], image_HWC[36:44, 66:74, 0] = 230, 5  # a ring
    return image_HWC


def write_raster(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    """Write (H, W, C) or (H, W); `colours` and other profile entries as rasterio takes them."""
    pixels_HWC = pixels[..., None] if pixels.ndim == 2 else pixels
    colours = profile.pop("colours", None)
    palette = profile.pop("palette", None)
    defaults = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP}
    height, width, count = pixels_HWC.shape
    with rasterio.open(
        path, "w", height=height, width=width, count=count, dtype=pixels_HWC.dtype, **{**defaults, **profile}
    ) as file:
        if colours:
            file.colorinterp = colours
        if palette:
            file.write_colormap(1, palette)
        file.write(np.moveaxis(pixels_HWC, 2, 0))
    return path
