"""A scene under construction: keeps ground, canvas, free space and objects together, and places things."""

# G = cells along a side of the grid

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from rrsis_bench.synthetic.drawing import fields, structures, vehicles
from rrsis_bench.synthetic.drawing.canvas import Canvas, Colour, Pen, Point, direction, rectangle_points
from rrsis_bench.synthetic.drawing.terrain import Ground
from rrsis_bench.synthetic.language.semantics import SceneObject

GRID = 96
# Share of the groups of scaled-down objects that keep one of the default's size.
_STAYS_LARGE = 0.4
Drawer = Callable[[Pen, np.random.Generator, Colour], None]


@dataclass(frozen=True)
class Kind:
    """How one category is drawn.

    Attributes:
        draw: draws it from above.
        aspect: width per length.
        colours: the colours it comes in, and their tones.
        named: expressions tell its colours apart.
        least: length in pixels below which a scaled-down one is no longer recognised; 0 for one that is never scaled.
        landmark: length at most, as a share of the image's side, of the first of a group where objects are scaled
            down: it dominates its scene. None for a category whose first one is like the others.
    """

    draw: Drawer
    aspect: float
    colours: dict[str, tuple[Colour, ...]]
    named: bool = True
    least: int = 0
    landmark: float | None = None


KINDS: dict[str, Kind] = {
    "airplane": Kind(
        vehicles.airplane,
        0.95,
        {
            "white": ((238, 238, 236), (230, 234, 238)),
            "blue": ((64, 98, 154),),
            "red": ((168, 64, 56),),
            "black": ((54, 56, 61),),
        },
        least=18,
    ),
    "ship": Kind(
        vehicles.ship,
        0.27,
        {
            "white": ((226, 228, 226), (214, 218, 218)),
            "red": ((176, 56, 46), (158, 62, 52)),
            "blue": ((60, 106, 164),),
            "yellow": ((212, 174, 74),),
        },
        least=16,
    ),
    "vehicle": Kind(
        vehicles.vehicle,
        0.46,
        {
            "white": ((236, 236, 236), (226, 228, 230)),
            "red": ((184, 40, 36), (166, 34, 34)),
            "blue": ((40, 84, 168), (54, 104, 186)),
            "yellow": ((226, 186, 42),),
            "black": ((34, 35, 40),),
        },
        least=10,
    ),
    "storagetank": Kind(
        structures.storagetank,
        1.0,
        {
            "white": ((230, 229, 224), (220, 222, 222)),
            "blue": ((70, 118, 172),),
            "green": ((74, 128, 88),),
            "red": ((158, 74, 58),),
        },
        least=9,
    ),
    "tenniscourt": Kind(
        fields.tenniscourt,
        0.52,
        {"blue": ((58, 98, 166),), "green": ((48, 124, 84),), "red": ((178, 84, 60),)},
        least=14,
    ),
    "basketballcourt": Kind(
        fields.basketballcourt,
        0.58,
        {"blue": ((62, 108, 170),), "green": ((62, 134, 90),), "red": ((184, 80, 62),)},
        least=14,
    ),
    "groundtrackfield": Kind(
        fields.groundtrackfield,
        0.54,
        {"red": ((176, 86, 66), (162, 76, 62)), "blue": ((64, 106, 164),)},
        least=22,
        landmark=0.8,
    ),
    "baseballfield": Kind(fields.baseballfield, 1.34, {"green": ((92, 128, 66),)}, named=False, least=14),
    "stadium": Kind(
        fields.stadium,
        0.8,
        {"white": ((214, 214, 210), (200, 204, 206)), "gray": ((150, 152, 156),)},
        named=False,
        least=24,
        landmark=0.72,
    ),
    "bridge": Kind(structures.bridge, 0.3, {"gray": ((122, 120, 118), (146, 142, 136), (98, 98, 102))}, named=False),
    "chimney": Kind(structures.chimney, 0.34, {"red": ((176, 62, 50),), "gray": ((116, 112, 110),)}, least=26),
    "windmill": Kind(structures.windmill, 0.84, {"white": ((240, 240, 238),)}, named=False, least=34),
}
ROOFS: tuple[Colour, ...] = (
    (146, 96, 76),
    (132, 104, 88),
    (122, 118, 114),
    (160, 148, 132),
    (112, 92, 82),
    (176, 172, 164),
    (104, 112, 122),
)
LEAVES: tuple[Colour, ...] = ((64, 88, 48), (72, 94, 52), (54, 78, 46), (86, 100, 54))


class Stage:
    """Where a scene comes into being; lengths and places are shares of the image's side.

    Args:
        rng: the scene's own generator.
        size: side of the image in pixels.
        object_scale: lengths of objects as a share of what settings ask for; see `SceneSpec`.
    """

    def __init__(self, rng: np.random.Generator, size: int, object_scale: float = 1.0) -> None:
        self.rng = rng
        self.size = size
        self.object_scale = object_scale
        # What surrounds small objects is drawn smaller too, but less: a tree must not become a dot.
        self.detail = math.sqrt(object_scale)
        cos, sin = direction(float(rng.integers(0, 360)))
        length = float(rng.integers(50, 110)) / 100
        self.canvas = Canvas(size, (cos * length, sin * length))
        self.ground = Ground(rng, size)
        self.objects: list[SceneObject] = []
        self._taken = Image.new("L", (GRID, GRID))
        self._taken_draw = ImageDraw.Draw(self._taken)
        self._clutter = Image.new("L", (GRID, GRID))
        self._clutter_draw = ImageDraw.Draw(self._clutter)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number between two bounds, in steps of a thousandth of the span."""
        return low + (high - low) * float(self.rng.integers(0, 1001)) / 1000

    def chance(self, share: float) -> bool:
        """Draw true with probability `share`."""
        return float(self.rng.random()) < share

    def count(self, low: int, high: int) -> int:
        """Draw a whole number between two bounds, both included."""
        return int(self.rng.integers(low, high + 1))

    def region(self, polygons: Sequence[Sequence[Point]]) -> np.ndarray:
        """Return bool (GRID, GRID): where polygons, given in shares of the side, lie."""
        image = Image.new("L", (GRID, GRID))
        draw = ImageDraw.Draw(image)
        for polygon in polygons:
            draw.polygon([(round(x * GRID, 2), round(y * GRID, 2)) for x, y in polygon], fill=255)
        return np.asarray(image) > 0

    def everywhere(self) -> np.ndarray:
        """Return the region that is the whole image."""
        return np.ones((GRID, GRID), bool)

    def _footprint(self, x: float, y: float, angle: float, length: float, width: float, margin: float) -> list[Point]:
        cos, sin = direction(angle)
        half_length, half_width = length / 2 + margin, width / 2 + margin
        return [
            (round((x + a * cos - b * sin) * GRID, 2), round((y + a * sin + b * cos) * GRID, 2))
            for a, b in rectangle_points(-half_length, -half_width, half_length, half_width)
        ]

    def fits(
        self, x: float, y: float, angle: float, length: float, width: float, region: np.ndarray, margin: float
    ) -> list[Point] | None:
        """Return the footprint if it is inside the image and the region and clear of other objects; else None."""
        tight = self._footprint(x, y, angle, length, width, 0.008)
        if any(not 0.0 <= value <= GRID for point in tight for value in point):
            return None
        inner = Image.new("L", (GRID, GRID))
        ImageDraw.Draw(inner).polygon(tight, fill=255)
        inner_GG = np.asarray(inner) > 0
        if (inner_GG & ~region).any():
            return None
        wide = Image.new("L", (GRID, GRID))
        ImageDraw.Draw(wide).polygon(self._footprint(x, y, angle, length, width, margin), fill=255)
        if ((np.asarray(wide) > 0) & (np.asarray(self._taken) > 0)).any():
            return None
        return tight

    def block(self, footprint: Sequence[Point]) -> None:
        """Mark a footprint, in grid cells, as taken."""
        self._taken_draw.polygon(footprint, fill=255)

    def colour_names(self, category: str, n: int) -> list[str]:
        """Draw colours for `n` objects: mostly different ones, sometimes a shared one."""
        palette = list(KINDS[category].colours)
        first = palette[0] if self.chance(0.35) else palette[int(self.rng.integers(len(palette)))]
        if self.chance(0.3):
            return [first] * n
        order = [first] + [palette[int(k)] for k in self.rng.permutation(len(palette)) if palette[int(k)] != first]
        names = order[: min(n, len(order))]
        return names + [names[int(self.rng.integers(len(names)))] for _ in range(n - len(names))]

    def place(
        self,
        category: str,
        region: np.ndarray,
        sizes: Sequence[float],
        *,
        angles: Callable[[], float] | None = None,
        spread: bool = True,
        margin: float = 0.03,
        wakes: bool = False,
    ) -> int:
        """Place one object per entry of `sizes` (lengths), where there is room; return how many were placed.

        Args:
            category: a key of KINDS.
            region: bool (GRID, GRID), where footprints may lie.
            sizes: lengths; `object_scale` below 1 makes them smaller and more.
            angles: draws headings in degrees; any heading by default.
            spread: keep objects of the category in different parts of the image where there is room.
            margin: distance to everything else.
            wakes: ships under way trail foam.
        """
        kind = KINDS[category]
        if self.object_scale < 1.0:
            sizes = self._scaled(kind, sizes)
        # Landmarks and crowds find room less often.
        tries = 40 if self.object_scale == 1.0 else 120
        colours = self.colour_names(category, len(sizes))
        placed: list[Point] = []
        cells = np.argwhere(region)
        for length, name in zip(sizes, colours, strict=True):
            for attempt in range(tries):
                row, column = (int(value) for value in cells[int(self.rng.integers(len(cells)))])
                x, y = (column + 0.5) / GRID, (row + 0.5) / GRID
                away = 0.0 if not spread else 0.34 - 0.006 * attempt
                if any(max(abs(x - px), abs(y - py)) < away for px, py in placed):
                    continue
                angle = angles() if angles else self.uniform(0, 360)
                footprint = self.fits(x, y, angle, length, length * kind.aspect, region, margin)
                if footprint is None:
                    continue
                self.block(footprint)
                placed.append((x, y))
                if wakes:
                    foam = vehicles.wake(Pen(self.canvas, x, y, angle, length))
                    self.ground.tint(self.ground.mask_HW(foam, 2.6), (178, 196, 196), 0.55)
                self.add(category, name, Pen(self.canvas, x, y, angle, length))
                break
        return len(placed)

    def _scaled(self, kind: Kind, sizes: Sequence[float]) -> list[float]:
        """Scale lengths down; a group of several grows in number, and one of its first may stay large."""
        asked = list(sizes)
        if len(asked) > 1:
            asked += [asked[self.count(0, len(asked) - 1)] for _ in range(self.count(1, len(asked) + 2))]
        least = kind.least / self.size
        out = [max(length * self.object_scale, min(length, least)) for length in asked]
        if kind.landmark is not None:
            out[0] = kind.landmark * self.uniform(0.9, 1.0)
        elif self.chance(_STAYS_LARGE):
            out[0] = asked[0]
        return out

    def add(self, category: str, colour: str, pen: Pen, draw: Drawer | None = None) -> None:
        """Draw an object with a drawer of its own or its category's, and keep its mask."""
        kind = KINDS[category]
        tones = kind.colours[colour]
        paint = tones[int(self.rng.integers(len(tones)))]
        self.canvas.begin_object()
        (draw or kind.draw)(pen, self.rng, paint)
        mask_HW = self.canvas.end_object()
        rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
        if not len(rows):
            return
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        share = int(np.count_nonzero(mask_HW)) / mask_HW.size
        size_class = "small" if share < 0.01 else "medium" if share < 0.04 else "large"
        self.objects.append(SceneObject(category, colour if kind.named else None, size_class, mask_HW, box))

    def houses(self, region: np.ndarray, n: int, heading: float, low: float = 0.05, high: float = 0.1) -> None:
        """Scatter `n` houses in rows along `heading`, clear of objects."""
        self._scatter(
            region, n, low, high, structures.house, ROOFS, lambda: heading + 90 * self.count(0, 1), 0.016, 0.84
        )

    def sheds(self, region: np.ndarray, n: int, heading: float, low: float = 0.14, high: float = 0.26) -> None:
        """Scatter `n` industrial halls, clear of objects."""
        self._scatter(region, n, low, high, structures.shed, ROOFS, lambda: heading + 90 * self.count(0, 1), 0.02, 0.68)

    def containers(self, region: np.ndarray, n: int, heading: float) -> None:
        """Scatter `n` container stacks, clear of objects."""
        self._scatter(region, n, 0.08, 0.12, structures.containers, ROOFS, lambda: heading, 0.01, 0.68)

    def trees(self, region: np.ndarray, n: int, low: float = 0.025, high: float = 0.06) -> None:
        """Scatter `n` trees, clear of objects."""
        self._scatter(region, n, low, high, structures.tree, LEAVES, lambda: 0.0, 0.004, 1.0)

    def _scatter(
        self,
        region: np.ndarray,
        n: int,
        low: float,
        high: float,
        draw: Drawer,
        paints: Sequence[Colour],
        heading: Callable[[], float],
        margin: float,
        aspect: float,
    ) -> None:
        taken_GG = np.asarray(self._taken) > 0
        cells = np.argwhere(region & ~taken_GG)
        if not len(cells):
            return
        low, high = low * self.detail, high * self.detail
        for _ in range(round(n / self.object_scale)):
            row, column = (int(value) for value in cells[int(self.rng.integers(len(cells)))])
            x, y = (column + self.uniform(0, 1)) / GRID, (row + self.uniform(0, 1)) / GRID
            length, angle = self.uniform(low, high), heading()
            cos, sin = direction(angle)
            ahead, beside = length / 2 + margin, length * aspect / 2 + margin
            probe = [
                (x + a * ahead * cos - b * beside * sin, y + a * ahead * sin + b * beside * cos)
                for a in (-1.0, -0.5, 0.0, 0.5, 1.0)
                for b in (-1.0, -0.5, 0.0, 0.5, 1.0)
            ]
            spots = [(min(GRID - 1, max(0, int(px * GRID))), min(GRID - 1, max(0, int(py * GRID)))) for px, py in probe]
            if any(taken_GG[r, c] or not region[r, c] for c, r in spots):
                continue
            if draw is not structures.tree:
                if any(self._clutter.getpixel(spot) for spot in spots):
                    continue
                self._clutter_draw.polygon(self._footprint(x, y, angle, length, length * aspect, 0.004), fill=255)
            tone = paints[int(self.rng.integers(len(paints)))]
            factor = self.uniform(0.86, 1.14)
            paint = (round(tone[0] * factor), round(tone[1] * factor), round(tone[2] * factor))
            draw(Pen(self.canvas, x, y, angle, length), self.rng, paint)
