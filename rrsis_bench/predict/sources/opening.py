"""Open anything that can be predicted on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from rrsis_bench.errors import UserError
from rrsis_bench.predict.sources import images, raster
from rrsis_bench.predict.sources.source import Source

PLAIN = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_WORLD_FILES = {".png": (".pgw", ".wld"), ".jpg": (".jgw", ".wld"), ".jpeg": (".jgw", ".wld"), ".bmp": (".bpw",)}


def open_source(image: Any, *, bands: Sequence[int] | None = None, nodata: float | None = None) -> Source:
    """Open an image.

    Args:
        image: a path, an array (H, W, 3) or (H, W), a PIL image, or an xarray.DataArray with rioxarray's ``.rio``.
        bands: three bands (or one), counted from 1, shown as red, green and blue; None: by the file's colour
            interpretation.
        nodata: the value of pixels without data, if the file does not record it.

    Raises:
        UserError: a missing, unreadable or unsuitable image, or the extra ``[geo]`` is needed and not installed.
    """
    if isinstance(image, str | Path):
        return _open_path(Path(image).expanduser(), bands, nodata)
    if hasattr(image, "rio"):
        return raster.DataArraySource(image, bands, nodata)
    if bands is not None or nodata is not None:
        raise UserError("bands and nodata apply to files. Select the bands of an array before you pass it.")
    if isinstance(image, np.ndarray):
        return images.ArraySource(image)
    if isinstance(image, Image):
        return images.from_pil(image)
    raise UserError(f"An image is a path, an array, a PIL image or an xarray.DataArray, not {type(image).__name__}.")


def _open_path(path: Path, bands: Sequence[int] | None, nodata: float | None) -> Source:
    if not path.exists():
        raise UserError(f"There is no image {path}.")
    if path.is_dir():
        raise UserError(f"{path} is a folder. Give one image; `rrsis-bench predict {path}` predicts on all of them.")
    suffix = path.suffix.lower()
    if suffix not in PLAIN or bands is not None or nodata is not None or _has_16_bits(path):
        raster.require(f"Reading {path.name}")
        return raster.RasterSource(path, bands, nodata)
    beside = [path.with_name(path.name + ".aux.xml"), *map(path.with_suffix, _WORLD_FILES.get(suffix, ()))]
    if not any(file.exists() for file in beside):
        return images.from_file(path)
    if raster.installed():
        return images.from_file(path, raster.georeference(path))
    source = images.from_file(path)
    source.notes.append(f"The georeference of {path.name} is not read. To keep it: {raster.EXTRA}")
    return source


def _has_16_bits(path: Path) -> bool:
    """Return whether a file is a PNG of 16 bits per channel, which is scaled like a raster."""
    try:
        with path.open("rb") as file:
            head = file.read(25)
    except OSError:  # named by the reader
        return False
    return head.startswith(b"\x89PNG\r\n\x1a\n") and head[24:] == b"\x10"
