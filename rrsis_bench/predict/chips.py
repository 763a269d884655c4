"""Cut a georeferenced raster with polygons into images of one size, as a dataset in the plain format.

Polygons with the same property ``expression`` are one target. Each target gets the window of a regular grid, at half a
side's distance, whose centre is closest to it and which holds it whole. Windows are shared by the targets in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from rrsis_bench.data.formats.index import ERROR, SPLITS, DatasetIndex, Row
from rrsis_bench.data.formats.masks import RleMask
from rrsis_bench.data.pixels import rle
from rrsis_bench.data.text.language import language_of
from rrsis_bench.errors import UserError, reason
from rrsis_bench.predict.sources import drivers, scaling
from rrsis_bench.predict.sources.aoi import reproject
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.predict.sources.raster import require
from rrsis_bench.predict.sources.source import Source, Window

LEAST_TILE = 32


@dataclass(frozen=True, slots=True)
class Target:
    """One referring expression with its polygons, in pixels of the raster."""

    number: int
    expression: str
    shapes: tuple[Any, ...]
    bounds: tuple[float, float, float, float]
    category: str | None
    split: str | None


@contextmanager
def cut(
    polygons: Path, raster: Path, bands: Sequence[int] | None, scale: str, tile: int, shares: Sequence[int]
) -> Iterator[DatasetIndex]:
    """Yield the dataset; its images exist until the block ends.

    Args:
        polygons: a vector file with the property ``expression``, and optionally ``category`` and ``split``.
        raster: the georeferenced image.
        bands: shown as red, green and blue, counted from 1; None: by the file's colour interpretation.
        scale: limits of the conversion to 8 bits, as in `scaling.decide`, equal for all images.
        tile: side of an image in pixels; a smaller raster is one image.
        shares: percent of the raster's width, from the left, whose windows are train, val and test, if the polygons
            have no property ``split``. Strips keep the splits apart.

    Raises:
        UserError: an unreadable file, no georeference, or an option that does not fit.
    """
    if tile < LEAST_TILE:
        raise UserError(f"tile={tile} must be at least {LEAST_TILE} pixels.")
    with open_source(raster, bands=bands) as source, TemporaryDirectory() as folder:
        scaled = scaling.decide(source, scale)
        index = DatasetIndex("custom", Path(folder), (polygons, raster), masks_by_pixels=True)
        windows: dict[str, list[Window]] = {split: [] for split in SPLITS}
        for target in read_targets(polygons, source):
            where = f"{polygons.name}: '{target.expression}'"
            window = _window(target.bounds, source, tile)
            if window is None:
                index.add(ERROR, "too_large", where, f"its polygons do not fit into {tile} pixels. Raise --tile")
                continue
            split = target.split or _strip(window, source.width, shares)
            if split not in SPLITS:
                index.add(ERROR, "bad_split", where, f"'split' is '{split}', expected {', '.join(SPLITS)}")
                continue
            name = f"{raster.stem}_{window.x}_{window.y}.png"
            path = Path(folder) / name
            if not path.exists():
                pixels_HWC = scaled(source.read(window))
                pixels_HWC[~source.valid(window)] = 0
                Image.fromarray(pixels_HWC).save(path)
            windows[split].append(window)
            mask = RleMask.of(rle.encode(_mask(target, window)))
            language = language_of(target.expression)
            row = Row(
                str(target.number), name, target.expression, language, target.category, len(target.shapes), str(path),
                mask, where,
            )  # fmt: skip
            index.append(split, row)
            index.counts[split] += 1
        index.category_names = tuple(sorted({row.category for row in index.all_rows() if row.category}))
        _check_overlap(index, windows, polygons.name)
        yield index


def read_targets(polygons: Path, source: Source) -> list[Target]:
    """Return the targets of a vector file, in the order of their first polygons.

    Raises:
        UserError: a file that cannot be read or lacks the property ``expression``, or an image without georeference.
    """
    require(f"Reading {polygons.name}")
    import geopandas
    from shapely.affinity import affine_transform
    from shapely.errors import ShapelyError

    georef = source.georef
    if georef is None or not georef.located:
        raise UserError(f"{source.name} is not georeferenced, so the polygons of {polygons.name} have no place on it.")
    if not polygons.is_file():
        raise UserError(f"There is no file {polygons}. Check --annotations.")
    try:
        drivers.refuse_virtual_vectors(polygons)
        table = geopandas.read_file(polygons)
    except (RuntimeError, ShapelyError, OSError, ValueError) as error:  # pyogrio's errors are RuntimeErrors
        raise UserError(f"{polygons} cannot be read: {reason(error)}") from error
    if "expression" not in table.columns:
        raise UserError(f"{polygons} has no property 'expression'. It has: {', '.join(map(str, table.columns))}.")
    if table.crs is None:
        raise UserError(f"{polygons} has no coordinate system. Assign one to the file.")
    inverse = ~georef.transform
    placed = reproject(table, georef.crs.to_wkt(), str(polygons))
    found: dict[str, list[Any]] = {}
    for _, row in placed.iterrows():
        text = row["expression"].strip() if isinstance(row["expression"], str) else ""
        shape = row.geometry
        if not text or shape is None or shape.is_empty or shape.geom_type not in ("Polygon", "MultiPolygon"):
            raise UserError(f"{polygons}: feature {row.name} needs a polygon and a property 'expression'. Repair it.")
        pixels = affine_transform(shape, [inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f])
        found.setdefault(text, []).append((pixels, row))
    return [_target(number, text, members) for number, (text, members) in enumerate(found.items(), start=1)]


def _target(number: int, expression: str, members: Sequence[tuple[Any, Any]]) -> Target:
    shapes = tuple(shape for shape, _ in members)
    corners = np.array([shape.bounds for shape in shapes])
    bounds = (*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist())
    first = members[0][1]
    values = {name: first.get(name) for name in ("category", "split")}
    named = {name: value for name, value in values.items() if isinstance(value, str) and value}  # else None or NaN
    return Target(number, expression, shapes, bounds, named.get("category"), named.get("split"))


def _window(bounds: tuple[float, float, float, float], source: Source, tile: int) -> Window | None:
    """Return the window of the grid that holds the bounds and whose centre is closest to them; None if none does."""
    sides = []
    for low, high, length in ((bounds[0], bounds[2], source.width), (bounds[1], bounds[3], source.height)):
        side = min(tile, length)
        starts = sorted({*range(0, length - side + 1, max(1, side // 2)), length - side})
        low, high = max(low, 0), min(high, length)
        fitting = [start for start in starts if start <= low + 1e-6 and high - 1e-6 <= start + side]
        if low >= high or not fitting:
            return None
        sides.append((min(fitting, key=lambda start: abs(start + side / 2 - (low + high) / 2)), side))
    (x, width), (y, height) = sides
    return Window(x, y, width, height)


def _strip(window: Window, width: int, shares: Sequence[int]) -> str:
    """Return the split of the strip that holds the window's centre."""
    place = 100 * (window.x + window.width / 2) / width
    return SPLITS[0] if place < shares[0] else SPLITS[1] if place < shares[0] + shares[1] else SPLITS[2]


def _mask(target: Target, window: Window) -> np.ndarray:
    """Return the pixels of a window with their centres in the target, bool (h, w)."""
    from rasterio.features import geometry_mask
    from rasterio.transform import Affine

    origin = Affine.translation(window.x, window.y)
    mask_HW: np.ndarray = geometry_mask(target.shapes, (window.height, window.width), origin, invert=True)
    return mask_HW


def _check_overlap(index: DatasetIndex, windows: dict[str, list[Window]], name: str) -> None:
    """Add a note for every later split whose images share pixels with training images."""
    train = set(windows[SPLITS[0]])
    for split in SPLITS[1:]:
        shared = [window for window in windows[split] if any(_overlap(window, other) for other in train)]
        if shared:
            text = f"{len(shared)} {split} samples of {name} share pixels with training images."
            index.notes[split] = (*index.notes.get(split, ()), text)


def _overlap(one: Window, two: Window) -> bool:
    return abs(one.x - two.x) < min(one.width, two.width) and abs(one.y - two.y) < min(one.height, two.height)
