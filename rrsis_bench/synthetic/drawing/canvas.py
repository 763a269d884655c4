"""Drawing: a supersampled canvas for objects and their shadows, and a pen that draws in an object's own frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLE = 3
Colour = tuple[int, int, int]
Point = tuple[float, float]


def shade(colour: Sequence[float], factor: float) -> Colour:
    """Return `colour` times `factor`, clipped to 0..255."""
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return red, green, blue


def mix(first: Sequence[float], second: Sequence[float], share: float) -> Colour:
    """Return the blend of two colours, `share` of it the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def direction(degrees: float) -> Point:
    """Return cosine and sine, rounded: the last bits of libm's differ between machines, and images must not."""
    angle = math.radians(degrees)
    return round(math.cos(angle), 6), round(math.sin(angle), 6)


@lru_cache(maxsize=256)
def _arc(start: float, stop: float, steps: int) -> tuple[Point, ...]:
    return tuple(direction(start + (stop - start) * step / steps) for step in range(steps + 1))


def ellipse_points(
    rx: float, ry: float, centre: Point = (0.0, 0.0), start: float = 0.0, stop: float = 360.0, steps: int = 0
) -> list[Point]:
    """Return points on an elliptic arc from `start` to `stop` degrees, every ten degrees unless `steps` says more."""
    x, y = centre
    steps = steps or max(3, round((stop - start) / 10))
    return [(x + rx * cos, y + ry * sin) for cos, sin in _arc(start, stop, steps)]


def rectangle_points(x1: float, y1: float, x2: float, y2: float) -> list[Point]:
    """Return the four corners of an upright rectangle."""
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


class Canvas:
    """All objects on the ground, at three times the image's size, and the shadows it casts.

    Args:
        size: side of the image in pixels.
        sun: vector by which a shadow moves per unit of height; one for the whole scene.
    """

    def __init__(self, size: int, sun: Point) -> None:
        side = size * SUPERSAMPLE
        self.size = size
        self.sun = sun
        self._rgb = Image.new("RGB", (side, side))
        self._alpha = Image.new("L", (side, side))
        self._shadow = Image.new("L", (side, side))
        self._haze = Image.new("L", (side, side))
        self._draw_rgb = ImageDraw.Draw(self._rgb)
        self._draw_alpha = ImageDraw.Draw(self._alpha)
        self._draw_shadow = ImageDraw.Draw(self._shadow)
        self._draw_haze = ImageDraw.Draw(self._haze)
        self._mask: Image.Image | None = None
        self._draw_mask: ImageDraw.ImageDraw | None = None

    def begin_object(self) -> None:
        """Start to record the pixels of one object."""
        self._mask = Image.new("L", self._rgb.size)
        self._draw_mask = ImageDraw.Draw(self._mask)

    def end_object(self) -> np.ndarray:
        """Return bool (H, W): the pixels that the object covers by half or more."""
        assert self._mask is not None
        mask_HW = np.asarray(self._mask.reduce(SUPERSAMPLE)) >= 128
        self._mask = self._draw_mask = None
        return mask_HW

    def paint(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon, in canvas pixels, that belongs to the object being recorded, if one is."""
        self._draw_rgb.polygon(points, fill=colour)
        self._draw_alpha.polygon(points, fill=255)
        if self._draw_mask is not None:
            self._draw_mask.polygon(points, fill=255)

    def cast(self, points: Sequence[Point]) -> None:
        """Fill a polygon, in canvas pixels, with shadow."""
        self._draw_shadow.polygon(points, fill=255)

    def puff(self, centre: Point, radius: float, strength: int) -> None:
        """Draw a puff of smoke, in canvas pixels; it hides nothing that is recorded."""
        x, y = centre
        self._draw_haze.ellipse((x - radius, y - radius, x + radius, y + radius), fill=strength)

    def compose(self, ground_HW3: np.ndarray, grain_HW: np.ndarray, shadow_depth: float) -> np.ndarray:
        """Lay shadows and objects over the ground.

        Args:
            ground_HW3: float32, 0..255.
            grain_HW: float32 noise of about -1..1 that gives flat paint a surface.
            shadow_depth: share of the light that a shadow takes away.

        Returns:
            float32 (H, W, 3).
        """
        blur = ImageFilter.GaussianBlur(0.6 * self.size / 192)
        shadow_HW = np.asarray(self._shadow.reduce(SUPERSAMPLE).filter(blur)).astype(np.float32) / np.float32(255)
        light_HW3 = np.float32(1) - shadow_HW[..., None] * np.array(
            [shadow_depth, shadow_depth * 0.97, shadow_depth * 0.86], np.float32
        )
        alpha_HW = np.asarray(self._alpha.reduce(SUPERSAMPLE)).astype(np.float32) / np.float32(255)
        # The canvas is black where nothing is drawn, so its reduction is already multiplied by alpha.
        paint_HW3 = np.asarray(self._rgb.reduce(SUPERSAMPLE)).astype(np.float32)
        paint_HW3 = paint_HW3 * (np.float32(1) + np.float32(0.05) * grain_HW[..., None])
        image_HW3 = ground_HW3 * light_HW3 * (np.float32(1) - alpha_HW[..., None]) + paint_HW3
        if self._haze.getbbox() is not None:
            soft = self._haze.reduce(SUPERSAMPLE).filter(ImageFilter.GaussianBlur(2.2 * self.size / 192))
            smoke_HW1 = np.asarray(soft).astype(np.float32)[..., None] / np.float32(255)
            image_HW3 = image_HW3 * (np.float32(1) - smoke_HW1) + smoke_HW1 * np.float32(225)
        developed_HW3: np.ndarray = image_HW3
        return developed_HW3


class Pen:
    """Draws in an object's own frame: x forward, y to the right, one unit = `unit` of the image's side.

    Args:
        canvas: where to draw.
        x: centre, as a share of the image's side.
        y: centre, as a share of the image's side.
        angle: heading in degrees, clockwise from the image's right.
        unit: the object's length as a share of the image's side.
    """

    def __init__(self, canvas: Canvas, x: float, y: float, angle: float, unit: float) -> None:
        self.canvas = canvas
        self.unit = unit
        self._side = canvas.size * SUPERSAMPLE
        self._x = x * self._side
        self._y = y * self._side
        self._turn = direction(angle)
        self._cos, self._sin = self._turn[0] * unit * self._side, self._turn[1] * unit * self._side

    def to_canvas(self, points: Sequence[Point], dx: float = 0.0, dy: float = 0.0) -> list[Point]:
        """Map points to canvas pixels, moved by (dx, dy) canvas pixels."""
        x0, y0, cos, sin = self._x + dx, self._y + dy, self._cos, self._sin
        return [(x0 + x * cos - y * sin, y0 + x * sin + y * cos) for x, y in points]

    def poly(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self.canvas.paint(self.to_canvas(points), colour)

    def mirrored(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon and its mirror image across the x axis."""
        self.poly(points, colour)
        self.poly([(x, -y) for x, y in points], colour)

    def rect(self, x1: float, y1: float, x2: float, y2: float, colour: Colour) -> None:
        """Fill a rectangle that is upright in the object's frame."""
        self.poly(rectangle_points(x1, y1, x2, y2), colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        steps = 8 if radius * self.unit * self._side < 5 else 16 if radius * self.unit * self._side < 16 else 36
        self.poly(ellipse_points(radius, radius, (x, y), steps=steps), colour)

    def line(self, start: Point, stop: Point, width: float, colour: Colour) -> None:
        """Draw a straight line of `width` units, at least a third of an image pixel wide."""
        width = max(width, 1.0 / self._side / self.unit)
        dx, dy = stop[0] - start[0], stop[1] - start[1]
        length = math.sqrt(dx * dx + dy * dy) or 1.0
        nx, ny = -dy / length * width / 2, dx / length * width / 2
        self.poly(
            [
                (start[0] + nx, start[1] + ny),
                (stop[0] + nx, stop[1] + ny),
                (stop[0] - nx, stop[1] - ny),
                (start[0] - nx, start[1] - ny),
            ],
            colour,
        )

    def outline(self, points: Sequence[Point], width: float, colour: Colour, *, closed: bool = True) -> None:
        """Draw the edges of a polygon as lines."""
        ends = [*points[1:], points[0]] if closed else points[1:]
        for start, stop in zip(points, ends, strict=False):
            self.line(start, stop, width, colour)

    def shadow(self, points: Sequence[Point], height: float, base: float | None = None) -> None:
        """Cast the shadow of a shape.

        Args:
            points: the shape's outline.
            height: its top above the ground, in units.
            base: its underside; the ground for None. A flat shape in the air has `base` equal to `height`.
        """
        far = height * self.unit * self._side
        near = (base or 0.0) * self.unit * self._side
        sun_x, sun_y = self.canvas.sun
        top = self.to_canvas(points, sun_x * far, sun_y * far)
        bottom = self.to_canvas(points, sun_x * near, sun_y * near)
        self.canvas.cast(top)
        self.canvas.cast(bottom)
        # The space that the outline sweeps between underside and top: one parallelogram per edge.
        for k in range(len(points)):
            self.canvas.cast([bottom[k - 1], bottom[k], top[k], top[k - 1]])

    def turned(self, dx: float, dy: float) -> Point:
        """Return the image-frame direction (dx, dy) in the object's frame."""
        cos, sin = self._turn
        return dx * cos + dy * sin, -dx * sin + dy * cos
