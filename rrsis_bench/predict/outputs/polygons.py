"""Trace masks into polygons, strip by strip, with area in pixels and mean probability.

Pixels that touch only at a corner belong to different objects (connectivity 4). With 8, many polygons would be invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(slots=True)
class TracedObject:
    """One object of a mask.

    Attributes:
        polygon: shapely Polygon in pixels: x to the right, y down, corners of pixels are integers.
        probability: sum over the pixels.
    """

    polygon: Any
    probability: float

    @property
    def area(self) -> int:
        """Area in pixels."""
        return int(round(self.polygon.area))

    @property
    def score(self) -> float:
        """Mean probability of the pixels."""
        return self.probability / float(self.polygon.area)


class Polygoniser:
    """Collect one expression's objects from strips of its mask, from top to bottom.

    Args:
        min_area: objects with fewer pixels are dropped.
    """

    def __init__(self, min_area: float = 0):
        self._min_area = min_area
        self._closed: list[TracedObject] = []
        self._open: list[TracedObject] = []  # objects that reach the last row so far: the next strip may continue them

    def add(self, row: int, mask_HW: np.ndarray, prob_HW: np.ndarray) -> None:
        """Add the rows from `row` on: bool (h, width) and probabilities of the same shape."""
        from rasterio.features import rasterize, shapes
        from rasterio.transform import Affine
        from shapely.geometry import shape

        if not mask_HW.any():
            self._closed += self._large_enough(self._open)
            self._open = []
            return
        level_HW = mask_HW.astype(np.uint8)
        at_row = Affine.translation(0, row)
        found = [shape(one) for one, _ in shapes(level_HW, mask=mask_HW, connectivity=4, transform=at_row)]
        number_HW = rasterize(
            ((polygon, index) for index, polygon in enumerate(found)),
            out_shape=mask_HW.shape,
            fill=len(found),
            transform=at_row,
            dtype="int32",
        )
        sums = np.bincount(number_HW[mask_HW], weights=prob_HW[mask_HW], minlength=len(found))
        bottom = row + len(mask_HW)
        touching: list[TracedObject] = list(self._open)
        rest: list[TracedObject] = []
        for polygon, total in zip(found, sums, strict=False):
            one = TracedObject(polygon, float(total))
            (touching if polygon.bounds[1] == row else rest).append(one)
        self._open = []
        for one in [*_joined(touching, row), *rest]:
            if one.polygon.bounds[3] == bottom:
                self._open.append(one)
            else:
                self._closed += self._large_enough([one])

    def finish(self) -> list[TracedObject]:
        """Return all objects, from top to bottom and left to right."""
        self._closed += self._large_enough(self._open)
        self._open = []
        return sorted(self._closed, key=lambda one: (one.polygon.bounds[1], one.polygon.bounds[0]))

    def _large_enough(self, found: list[TracedObject]) -> list[TracedObject]:
        return [one for one in found if one.polygon.area >= self._min_area]


def _joined(parts: list[TracedObject], row: int) -> list[TracedObject]:
    """Merge the parts that share an edge on the line above `row`."""
    from shapely import STRtree, union_all

    if not any(one.polygon.bounds[3] == row for one in parts):
        return parts
    tree = STRtree([one.polygon for one in parts])
    leader = list(range(len(parts)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = index = leader[leader[index]]
        return index

    for index, one in enumerate(parts):
        for other in tree.query(one.polygon, predicate="intersects"):
            # A shared corner has no length. Such parts stay separate, as within a strip.
            if other > index and find(index) != find(int(other)):
                shared = one.polygon.boundary.intersection(parts[int(other)].polygon.boundary)
                if shared.length > 0:
                    leader[find(int(other))] = find(index)
    groups: dict[int, list[TracedObject]] = {}
    for index, one in enumerate(parts):
        groups.setdefault(find(index), []).append(one)
    return [
        members[0]
        if len(members) == 1
        else TracedObject(union_all([one.polygon for one in members]), sum(one.probability for one in members))
        for members in groups.values()
    ]
