"""Ground: materials with multi-octave texture, laid over each other through soft-edged masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from rrsis_bench.synthetic.drawing.canvas import Point, direction
from rrsis_bench.synthetic.drawing.noise import noise_HW


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        colours: base colours to choose from.
        fine: how strongly grain changes brightness, as a share of it.
        mid: the same for blotches of a few pixels.
        coarse: the same for patches of a quarter of the image.
        worn: the colour that shows through where the surface is worn, dry, wet or stained.
        wear: how much of it shows, 0 to 1.
        rows: brightness of crop rows.
        canopy: brightness of tree crowns and shrubs.
    """

    colours: tuple[tuple[int, int, int], ...]
    fine: float
    mid: float
    coarse: float
    worn: tuple[int, int, int]
    wear: float
    rows: float = 0.0
    canopy: float = 0.0


MATERIALS: dict[str, Material] = {
    "grass": Material(
        ((98, 106, 70), (86, 98, 64), (108, 112, 76)), 0.10, 0.05, 0.10, (138, 126, 92), 0.55, canopy=0.05
    ),
    "meadow": Material(
        ((128, 124, 90), (118, 120, 82), (138, 128, 98)), 0.10, 0.05, 0.10, (92, 104, 66), 0.6, canopy=0.06
    ),
    "soil": Material(((156, 136, 112), (166, 148, 122), (142, 122, 100)), 0.08, 0.05, 0.10, (120, 116, 84), 0.5),
    "sand": Material(((196, 183, 154), (186, 174, 148)), 0.06, 0.03, 0.06, (166, 150, 122), 0.4),
    "crops": Material(
        ((100, 110, 68), (144, 136, 92), (124, 110, 86), (86, 102, 66)),
        0.08,
        0.03,
        0.08,
        (148, 134, 98),
        0.35,
        rows=0.11,
    ),
    "forest": Material(((62, 75, 52), (56, 69, 48), (70, 81, 56)), 0.06, 0.04, 0.08, (88, 88, 58), 0.4, canopy=0.46),
    "water": Material(((42, 65, 75), (50, 78, 84), (54, 75, 74), (38, 56, 70)), 0.05, 0.03, 0.07, (64, 88, 88), 0.35),
    "river": Material(((72, 85, 78), (86, 91, 79), (62, 79, 79)), 0.04, 0.03, 0.07, (98, 98, 84), 0.4),
    "asphalt": Material(((94, 94, 95), (106, 105, 103), (82, 82, 84)), 0.07, 0.03, 0.06, (124, 121, 116), 0.4),
    "concrete": Material(((166, 163, 156), (152, 151, 147), (174, 170, 162)), 0.06, 0.03, 0.06, (124, 120, 112), 0.5),
    "apron": Material(((150, 150, 146), (140, 141, 139), (160, 157, 151)), 0.05, 0.03, 0.06, (118, 117, 114), 0.45),
    "paving": Material(((146, 141, 133), (138, 135, 130), (154, 147, 136)), 0.07, 0.05, 0.08, (108, 104, 96), 0.5),
}


class Ground:
    """The image's ground, float32 (H, W, 3), painted from back to front.

    Args:
        rng: decides colours and noise.
        size: side in pixels.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.rgb_HW3 = np.zeros((size, size, 3), np.float32)
        ramp = np.arange(size, dtype=np.float32) / np.float32(size)
        self._x_HW, self._y_HW = np.meshgrid(ramp, ramp)

    def mask_HW(self, polygons: Sequence[Sequence[Point]], soft: float = 0.0, *, rough: float = 0.0) -> np.ndarray:
        """Return float32 (H, W) coverage of polygons given in shares of the side.

        Args:
            polygons: corners of each polygon.
            soft: standard deviation of the edge's blur in pixels at side 192.
            rough: how far noise pushes the edge to and fro, 0 for a straight edge.
        """
        double = self.size * 2
        image = Image.new("L", (double, double))
        draw = ImageDraw.Draw(image)
        for polygon in polygons:
            draw.polygon([(x * double, y * double) for x, y in polygon], fill=255)
        small = image.reduce(2)
        if soft or rough:
            blurred = small.filter(ImageFilter.GaussianBlur(max(soft, 8 * rough) * self.size / 192))
            coverage_HW = np.asarray(blurred).astype(np.float32) / np.float32(255)
            if rough:
                # Noise counts where the blurred edge is, so that no islands appear far from it.
                edge_HW = coverage_HW * (np.float32(1) - coverage_HW) * np.float32(4 * rough)
                coverage_HW = coverage_HW + edge_HW * noise_HW(self.rng, "mid", self.size, self.size)
                coverage_HW = np.clip((coverage_HW - np.float32(0.5)) * np.float32(7) + np.float32(0.5), 0, 1)
            return coverage_HW
        return np.asarray(small).astype(np.float32) / np.float32(255)

    def fill(
        self,
        material: str,
        mask_HW: np.ndarray | None = None,
        *,
        colour: Sequence[float] | None = None,
        heading: float = 0.0,
    ) -> None:
        """Paint `material` where the mask is 1.

        Args:
            material: a name of MATERIALS.
            mask_HW: float32 coverage; None paints everything.
            colour: base colour instead of one of the material's.
            heading: direction of crop rows in degrees.
        """
        look = MATERIALS[material]
        if colour is None:
            colour = look.colours[int(self.rng.integers(len(look.colours)))]
        bright = np.float32(int(self.rng.integers(-9, 10)))
        base = np.array(colour, np.float32) + bright + self.rng.integers(-2, 3, 3).astype(np.float32)
        rows, columns = _extent(mask_HW, self.size)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not height or not width:
            return
        mid_HW = noise_HW(self.rng, "mid", height, width)
        light_HW = np.float32(1) + np.float32(look.mid) * mid_HW
        light_HW += np.float32(look.coarse) * noise_HW(self.rng, "coarse", height, width)
        light_HW += np.float32(look.fine) * noise_HW(self.rng, "fine", height, width)
        if look.rows:
            light_HW += np.float32(look.rows) * self._rows_HW(heading)[rows, columns]
        if look.canopy:
            light_HW += np.float32(look.canopy) * noise_HW(self.rng, "canopy", height, width)
        bare_HW = noise_HW(self.rng, "coarse", height, width) * np.float32(0.9) + mid_HW * np.float32(0.35)
        bare_HW = np.clip(bare_HW, 0, 1) * np.float32(look.wear)
        worn = np.array(look.worn, np.float32) + bright
        layer_HW3 = (base + bare_HW[..., None] * (worn - base)) * light_HW[..., None]
        if mask_HW is None:
            self.rgb_HW3 = layer_HW3
        else:
            under_HW3 = self.rgb_HW3[rows, columns]
            under_HW3 += (layer_HW3 - under_HW3) * mask_HW[rows, columns, None]

    def tint(self, mask_HW: np.ndarray, colour: Sequence[float], strength: float) -> None:
        """Blend a flat colour into the ground: markings, stains, foam, tyre tracks."""
        rows, columns = _extent(mask_HW, self.size)
        under_HW3 = self.rgb_HW3[rows, columns]
        under_HW3 += (np.array(colour, np.float32) - under_HW3) * (mask_HW[rows, columns, None] * np.float32(strength))

    def _rows_HW(self, heading: float) -> np.ndarray:
        """Return a triangle wave of -1..1 across the direction `heading`."""
        period = float(self.rng.integers(18, 34)) / 1000
        cos, sin = direction(heading)
        nx, ny = np.float32(-sin / period), np.float32(cos / period)
        phase_HW = self._x_HW * nx + self._y_HW * ny
        saw_HW = phase_HW - np.floor(phase_HW)
        wave_HW: np.ndarray = np.abs(saw_HW - np.float32(0.5)) * np.float32(4) - np.float32(1)
        return wave_HW


def _extent(mask_HW: np.ndarray | None, size: int) -> tuple[slice, slice]:
    """Return the rows and columns outside which a mask is zero; everything for None."""
    if mask_HW is None:
        return slice(0, size), slice(0, size)
    drawn_HW = mask_HW > 0
    rows, columns = np.flatnonzero(drawn_HW.any(axis=1)), np.flatnonzero(drawn_HW.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def strip(start: Point, stop: Point, width: float) -> list[Point]:
    """Return the corners of a straight band of `width` from `start` to `stop`."""
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    length = math.sqrt(dx * dx + dy * dy) or 1.0
    nx, ny = -dy / length * width / 2, dx / length * width / 2
    return [
        (start[0] + nx, start[1] + ny),
        (stop[0] + nx, stop[1] + ny),
        (stop[0] - nx, stop[1] - ny),
        (start[0] - nx, start[1] - ny),
    ]


def dashes(start: Point, stop: Point, width: float, dash: float, gap: float) -> list[list[Point]]:
    """Return the corners of the dashes of a broken line."""
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    length = math.sqrt(dx * dx + dy * dy) or 1.0
    ux, uy = dx / length, dy / length
    out = []
    at = 0.0
    while at < length:
        end = min(at + dash, length)
        out.append(
            strip(
                (start[0] + ux * at, start[1] + uy * at),
                (start[0] + ux * end, start[1] + uy * end),
                width,
            )
        )
        at += dash + gap
    return out
