"""Sports grounds seen from above, drawn in their own frame with the long side along x and a length of one."""

from __future__ import annotations

import numpy as np

from rrsis_bench.synthetic.drawing.canvas import Colour, Pen, Point, ellipse_points, mix, rectangle_points, shade

CHALK: Colour = (228, 228, 220)
TURF: Colour = (92, 128, 66)
CLAY: Colour = (172, 122, 84)


def tenniscourt(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a court with its run-off (36.6 m x 18.3 m), lines and net; the run-off is a shade of the same colour."""
    pen.rect(-0.5, -0.26, 0.5, 0.26, shade(paint, 0.62) if rng.integers(2) else mix(paint, (96, 96, 88), 0.55))
    pen.rect(-0.335, -0.155, 0.335, 0.155, paint)
    line = 0.011
    pen.outline(rectangle_points(-0.325, -0.15, 0.325, 0.15), line, CHALK)
    for y in (-0.112, 0.112):
        pen.line((-0.325, y), (0.325, y), line, CHALK)
    for x in (-0.175, 0.175):
        pen.line((x, -0.112), (x, 0.112), line, CHALK)
    pen.line((-0.175, 0), (0.175, 0), line, CHALK)
    pen.shadow(rectangle_points(-0.006, -0.17, 0.006, 0.17), 0.02)
    pen.line((0.0, -0.17), (0.0, 0.17), 0.014, (206, 208, 206))
    pen.line((0.012, -0.17), (0.012, 0.17), 0.01, shade(paint, 0.5))


def basketballcourt(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a court (28 m x 15 m and its border) with keys, centre circle and three-point arcs."""
    border = [(112, 120, 96), (136, 98, 76), (104, 108, 114)][int(rng.integers(3))]
    pen.rect(-0.5, -0.29, 0.5, 0.29, border)
    pen.rect(-0.44, -0.235, 0.44, 0.235, paint)
    line = 0.011
    key = shade(paint, 0.66)
    for sign in (-1, 1):
        ends = sorted((sign * 0.43, sign * 0.25))
        pen.rect(ends[0], -0.085, ends[1], 0.085, key)
        pen.outline(rectangle_points(ends[0], -0.085, ends[1], 0.085), line, CHALK)
        turn = 0 if sign < 0 else 180
        pen.outline(ellipse_points(0.2, 0.2, (sign * 0.39, 0), turn - 84, turn + 84), line, CHALK, closed=False)
        pen.outline(ellipse_points(0.06, 0.06, (sign * 0.25, 0), turn - 90, turn + 90), line, CHALK, closed=False)
    pen.disc(0, 0, 0.068, key)
    pen.outline(ellipse_points(0.065, 0.065), line, CHALK)
    pen.outline(rectangle_points(-0.432, -0.228, 0.432, 0.228), line, CHALK)
    pen.line((0, -0.228), (0, 0.228), line, CHALK)


def baseballfield(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a baseball diamond: warning track, mown outfield, skinned infield, bases and mound; home at x = -0.5."""
    del paint
    turf = mix(TURF, (116, 142, 74), float(rng.integers(0, 100)) / 100)
    clay = mix(CLAY, (188, 144, 104), float(rng.integers(0, 100)) / 100)

    def fan(radius: float, spread: float, home: float) -> list[Point]:
        return [(home, 0.0), *ellipse_points(radius, radius, (home, 0.0), -spread, spread)]

    pen.poly(fan(0.99, 48, -0.5), shade(clay, 0.94))
    pen.poly(fan(0.93, 45, -0.47), turf)
    for band in range(4):
        inner, outer = 0.5 + band * 0.11, 0.555 + band * 0.11
        arc = (
            ellipse_points(outer, outer, (-0.47, 0), -44, 44) + ellipse_points(inner, inner, (-0.47, 0), -44, 44)[::-1]
        )
        pen.poly(arc, shade(turf, 1.1))
    pen.poly(fan(0.46, 45, -0.49), clay)
    square = [(-0.42, 0), (-0.24, 0.18), (-0.06, 0), (-0.24, -0.18)]
    pen.poly(square, shade(turf, 1.06))
    pen.disc(-0.24, 0, 0.035, clay)
    pen.disc(-0.44, 0, 0.06, clay)
    for x, y in square:
        pen.rect(x - 0.011, y - 0.011, x + 0.011, y + 0.011, CHALK)
    for sign in (-1, 1):
        pen.line((-0.44, 0), (0.17, sign * 0.61), 0.009, CHALK)


def groundtrackfield(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a running track with lanes round a football pitch; 0.54 lengths wide."""
    turf = mix(TURF, (120, 146, 76), float(rng.integers(0, 100)) / 100)

    def oval(inset: float) -> list[Point]:
        radius = 0.27 - inset
        return ellipse_points(radius, radius, (0.23, 0), -90, 90) + ellipse_points(radius, radius, (-0.23, 0), 90, 270)

    pen.poly(oval(0.0), shade(paint, 0.9))
    pen.poly(oval(0.008), paint)
    for lane in (0.022, 0.04, 0.058, 0.076):
        pen.outline(oval(lane), 0.0045, mix(paint, CHALK, 0.75))
    pen.poly(oval(0.088), turf)
    pen.rect(-0.25, -0.145, 0.25, 0.145, shade(turf, 0.95))
    for band in range(0, 8, 2):
        x = -0.25 + band * 0.0625
        pen.rect(x, -0.145, x + 0.0625, 0.145, shade(turf, 1.12))
    pen.outline(rectangle_points(-0.25, -0.145, 0.25, 0.145), 0.007, CHALK)
    pen.line((0, -0.145), (0, 0.145), 0.007, CHALK)
    pen.outline(ellipse_points(0.045, 0.045), 0.007, CHALK)
    for sign in (-1, 1):
        pen.outline(rectangle_points(sign * 0.25, -0.075, sign * 0.175, 0.075), 0.007, CHALK)


def stadium(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a stadium: roof ring with ribs, seats, pitch; 0.8 lengths wide."""
    ry = 0.4
    pen.shadow(ellipse_points(0.5, ry), 0.12)
    pen.poly(ellipse_points(0.5, ry), shade(paint, 0.72))
    sun = pen.turned(*pen.canvas.sun)
    for piece in range(36):
        start = piece * 10.0
        ring = (
            ellipse_points(0.49, ry * 0.98, (0, 0), start, start + 10)
            + ellipse_points(0.38, ry * 0.72, (0, 0), start, start + 10)[::-1]
        )
        x, y = ring[0]
        facing = (x * sun[0] + y * sun[1]) * 2.6
        pen.poly(ring, shade(paint, 1.0 - 0.2 * facing + (0.05 if piece % 2 else -0.03)))
    seats = [(142, 70, 62), (74, 92, 140), (150, 146, 138)][int(rng.integers(3))]
    pen.poly(ellipse_points(0.38, ry * 0.72), shade(seats, 0.7))
    pen.poly(ellipse_points(0.35, ry * 0.65), seats)
    for row in (0.33, 0.305):
        pen.outline(ellipse_points(row, ry * row * 1.86), 0.006, shade(seats, 0.74))
    pen.poly(ellipse_points(0.285, ry * 0.5), (150, 96, 76) if rng.integers(2) else shade(TURF, 0.9))
    pen.rect(-0.2, -0.13, 0.2, 0.13, TURF)
    for band in range(0, 6, 2):
        pen.rect(-0.2 + band * 0.0667, -0.13, -0.2 + (band + 1) * 0.0667, 0.13, shade(TURF, 1.14))
    pen.outline(rectangle_points(-0.2, -0.13, 0.2, 0.13), 0.006, CHALK)
    pen.line((0, -0.13), (0, 0.13), 0.006, CHALK)
