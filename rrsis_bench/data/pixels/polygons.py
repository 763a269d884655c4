"""Polygons: checking, rasterising (COCO's rule) and drawing round a mask.

A segmentation is a list of parts, each a flat list ``[x0, y0, x1, y1, ...]`` in pixels from the image's upper left
corner, so that pixel (0, 0) covers the square from (0, 0) to (1, 1). COCO's reference rasteriser (pycocotools, as in
the REFER interface) decides which pixels a part covers. The mask is the union of the parts. What crosses the border of
the image is cut off there.
"""

# P = points of a polygon

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pycocotools import mask as coco

from rrsis_bench.data.pixels import rle
from rrsis_bench.data.pixels.rle import Rle

LEAST_POINTS = 3

Shape = list[np.ndarray] | Rle
"""Polygon parts, each float64 (2 P,), none for an empty segmentation; or a run-length mask of the image's size."""


def parse(segmentation: object, size: tuple[int, int]) -> Shape:
    """Bring an annotation's segmentation to its parts, or to one run-length mask.

    Args:
        segmentation: a list of flat lists of coordinates, a run-length dict (compressed, or with a list of counts) or
            a list of exactly one; None, ``[]`` and lists of empty lists mean that there is none.
        size: height and width of the image.

    Returns:
        The parts, or the mask.

    Raises:
        ValueError: anything else; an odd number of coordinates, fewer than three points, a coordinate that is not
            finite, a part wholly outside the image or reaching further out than the image is large; a run-length
            mask of another size. With the reason.
    """
    if segmentation is None:
        return []
    if isinstance(segmentation, list) and len(segmentation) == 1 and isinstance(segmentation[0], Mapping):
        segmentation = segmentation[0]
    if isinstance(segmentation, Mapping):
        return rle.parse(segmentation, size)
    if not isinstance(segmentation, list | tuple):
        raise ValueError(f"segmentation is {type(segmentation).__name__}, expected a list of polygons")
    parts = [_parse_part(number, part, size) for number, part in enumerate(segmentation, start=1)]
    return [part_P2 for part_P2 in parts if len(part_P2)]


def _parse_part(number: int, part: object, size: tuple[int, int]) -> np.ndarray:
    """One part as float64 (2 P,); errors as in `parse`."""
    if not isinstance(part, list | tuple):
        raise ValueError(f"part {number} is {type(part).__name__}, expected a flat list of coordinates")
    if not set(map(type, part)) <= {int, float}:
        raise ValueError(f"part {number} holds something other than numbers")
    try:
        points = np.array(part, dtype=np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        raise ValueError(f"part {number} has a coordinate that is not finite") from None
    if not len(points):
        return points
    if len(points) % 2:
        raise ValueError(f"part {number} has an odd number of coordinates ({len(points)})")
    if len(points) < 2 * LEAST_POINTS:
        raise ValueError(f"part {number} has {len(points) // 2} points, a polygon has {LEAST_POINTS} or more")
    if not np.isfinite(points).all():
        raise ValueError(f"part {number} has a coordinate that is not finite")
    for name, values, side in (("x", points[0::2], size[1]), ("y", points[1::2], size[0])):
        low, high = float(values.min()), float(values.max())
        if high <= 0 or low >= side:
            raise ValueError(f"part {number} is outside the image ({name} from {low:g} to {high:g} of {side})")
        # The rasteriser walks along every edge: a corner millions of pixels away would take the memory with it.
        if low < -side or high > 2 * side:
            raise ValueError(f"part {number} reaches far outside the image ({name} from {low:g} to {high:g})")
    return points


_TOLERANCE = 1.0  # pixels: rounding, not a polygon of another image


def crosses_border(shape: Shape, size: tuple[int, int]) -> bool:
    """Whether a polygon reaches more than `_TOLERANCE` pixels out of the image of `size` (H, W)."""
    if isinstance(shape, dict):
        return False
    sides = [(points[0::2], size[1]) for points in shape] + [(points[1::2], size[0]) for points in shape]
    return any(values.min() < -_TOLERANCE or values.max() > side + _TOLERANCE for values, side in sides)


def rasterise(shapes: Iterable[Shape], size: tuple[int, int]) -> Rle:
    """The union of shapes as one run-length mask of `size` (H, W); empty for no shapes."""
    rles: list[Rle] = []
    for shape in shapes:
        if isinstance(shape, dict):
            rles.append(shape)
        elif shape:
            rles += coco.frPyObjects([points.tolist() for points in shape], *size)
    if not rles:
        return rle.encode(np.zeros(size, dtype=bool))
    merged = coco.merge(rles)
    return {"size": [int(side) for side in merged["size"]], "counts": bytes(merged["counts"])}


def outline(mask_HW: np.ndarray) -> list[list[int]]:
    """Polygons along the pixels' edges that `rasterise` turns back into exactly this bool (H, W) mask.

    One part per stretch of pixels that touch at their sides. A mask with holes is one part: its outlines are joined by
    bridges that are walked twice and so enclose nothing.
    """
    loops = _loops(mask_HW)
    if len(loops) > 1 and any(_signed_area(loop) < 0 for loop in loops):
        start = loops[0][0]
        joined = [*loops[0], start]
        for loop in loops[1:]:
            joined += [*loop, loop[0], start]
        loops = [joined]
    return [[coordinate for point in loop for coordinate in point] for loop in loops]


def _loops(mask_HW: np.ndarray) -> list[list[tuple[int, int]]]:
    """The closed outlines of a mask as corners (x, y); clockwise on the screen, holes the other way round."""
    padded_HW = np.pad(mask_HW, 1)
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}  # corner -> directions of the edges that leave it
    for (dy, dx), step, (sx, sy) in (
        ((-1, 0), (1, 0), (0, 0)),  # nothing above: from the pixel's upper left corner to the right
        ((0, 1), (0, 1), (1, 0)),
        ((1, 0), (-1, 0), (1, 1)),
        ((0, -1), (0, -1), (0, 1)),
    ):
        beside_HW = padded_HW[1 + dy : padded_HW.shape[0] - 1 + dy, 1 + dx : padded_HW.shape[1] - 1 + dx]
        for y, x in zip(*(axis.tolist() for axis in np.nonzero(mask_HW & ~beside_HW)), strict=True):
            edges.setdefault((x + sx, y + sy), []).append(step)
    loops = []
    while edges:
        start = at = min(edges)
        step = edges[start][0]
        loop: list[tuple[int, int]] = []
        last: tuple[int, int] | None = None
        while True:
            leaving = edges[at]
            if last is not None:
                # Where two pixels touch at a corner only, turn right: each keeps to its own outline.
                right = (-last[1], last[0])
                step = right if right in leaving else leaving[0]
            leaving.remove(step)
            if not leaving:
                del edges[at]
            if step != last:
                loop.append(at)
            at, last = (at[0] + step[0], at[1] + step[1]), step
            if at == start:
                break
        loops.append(loop)
    return loops


def _signed_area(loop: Sequence[tuple[int, int]]) -> float:
    """Shoelace formula; positive for a clockwise loop on the screen (y down)."""
    turned = [*loop[1:], loop[0]]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, turned, strict=True)) / 2
