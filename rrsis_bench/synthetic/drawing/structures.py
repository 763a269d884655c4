"""What is built: storage tanks, chimneys, windmills, bridges; and the houses and trees between them."""

from __future__ import annotations

import math

import numpy as np

from rrsis_bench.synthetic.drawing.canvas import (
    SUPERSAMPLE,
    Colour,
    Pen,
    Point,
    direction,
    ellipse_points,
    mix,
    rectangle_points,
    shade,
)


def storagetank(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a tank of diameter one: cone roof lit from the sun's side, or a floating roof in the wall's shadow."""
    circle = ellipse_points(0.5, 0.5)
    pen.shadow(circle, 0.3)
    pen.poly(circle, shade(paint, 0.62))
    away = pen.turned(*pen.canvas.sun)
    norm = math.sqrt(away[0] ** 2 + away[1] ** 2) or 1.0
    away = (away[0] / norm, away[1] / norm)
    if rng.integers(3):
        for piece in range(24):
            cos, sin = direction(piece * 15 + 7.5)
            facing = cos * away[0] + sin * away[1]
            wedge = [(0.0, 0.0), *ellipse_points(0.47, 0.47, (0, 0), piece * 15 - 1, piece * 15 + 16)]
            pen.poly(wedge, shade(paint, 1.0 - 0.16 * facing))
        for ring in (0.16, 0.32):
            pen.outline(ellipse_points(ring, ring), 0.008, shade(paint, 0.88))
        pen.disc(0, 0, 0.06, shade(paint, 0.74))
    else:
        pen.disc(0, 0, 0.465, shade(paint, 1.06))
        pen.disc(0, 0, 0.42, shade(paint, 0.58))
        pen.disc(away[0] * 0.06, away[1] * 0.06, 0.36, shade(paint, 0.94))
        pen.outline(ellipse_points(0.2, 0.2, (away[0] * 0.06, away[1] * 0.06)), 0.01, shade(paint, 0.8))
    cos, sin = direction(float(rng.integers(0, 360)))
    pen.line((0, 0), (0.47 * cos, 0.47 * sin), 0.03, shade(paint, 0.7))
    pen.outline(ellipse_points(0.485, 0.485), 0.016, mix(paint, (250, 250, 245), 0.35))


def chimney(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a tall chimney that the camera sees a little from the side: shaft from the foot at x = -0.5 to the mouth."""
    foot, mouth = 0.13, 0.085
    pen.shadow(ellipse_points(foot, foot, (-0.36, 0)), 0.4)
    pen.shadow(ellipse_points(mouth, mouth, (-0.36, 0)), 1.7)
    pen.disc(-0.36, 0, foot, shade(paint, 0.6))
    bands = 5
    other = (222, 218, 210) if paint[0] > paint[2] + 60 else shade(paint, 1.3)
    for band in range(bands):
        x1, x2 = -0.36 + band * 0.76 / bands, -0.36 + (band + 1) * 0.76 / bands
        w1, w2 = foot + (mouth - foot) * band / bands, foot + (mouth - foot) * (band + 1) / bands
        colour = paint if band % 2 == bands % 2 - 1 else other
        pen.poly([(x1, w1), (x2, w2), (x2, -w2), (x1, -w1)], colour)
        pen.poly([(x1, w1), (x2, w2), (x2, w2 * 0.3), (x1, w1 * 0.3)], shade(colour, 0.78))
    pen.disc(0.4, 0, mouth, mix(paint, (240, 240, 235), 0.3))
    pen.disc(0.4, 0, mouth * 0.68, (46, 42, 40))
    if rng.integers(3) == 0:
        side = pen.canvas.size * SUPERSAMPLE
        cos, sin = direction(float(rng.integers(0, 360)))
        x, y = pen.to_canvas([(0.4, 0.0)])[0]
        for step in range(1, 7):
            reach = step * 0.16 * pen.unit * side
            centre = (round(x + cos * reach, 3), round(y + sin * reach, 3))
            pen.canvas.puff(centre, round((0.1 + 0.045 * step) * pen.unit * side, 3), 190 - 24 * step)


def windmill(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a wind turbine seen a little from the side, foot at x = -0.5 and hub at x = +0.08, with its shadow."""
    phase = float(rng.integers(0, 120))
    hub = (0.06, 0.0)
    tower = [(-0.5, 0.03), (hub[0], 0.018), (hub[0], -0.018), (-0.5, -0.03)]

    def blades(centre: Point) -> list[list[Point]]:
        out = []
        for blade in range(3):
            cos, sin = direction(phase + 120 * blade)
            shape = [(0.0, -0.03), (0.1, -0.045), (0.42, -0.012), (0.42, 0.012), (0.0, 0.03)]
            out.append([(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in shape])
        return out

    foot = [(-0.5 + x, y) for x, y in ellipse_points(0.03, 0.03)]
    pen.shadow(foot, 0.95)
    for blade in blades((-0.5, 0.0)):
        pen.shadow(blade, 0.95, base=0.95)
    pen.disc(-0.5, 0, 0.05, shade(paint, 0.85))
    pen.poly(tower, shade(paint, 0.94))
    pen.poly([(-0.5, 0.03), (hub[0], 0.018), (hub[0], 0.0), (-0.5, 0.0)], shade(paint, 0.78))
    for blade in blades(hub):
        pen.poly(blade, paint)
    pen.disc(*hub, 0.045, shade(paint, 0.8))


def bridge(pen: Pen, rng: np.random.Generator, paint: Colour, width: float = 0.3) -> None:
    """Draw a road bridge of length one along x, `width` lengths wide, with parapets, lane lines and piers."""
    half = width / 2
    pen.shadow(rectangle_points(-0.5, -half, 0.5, half), 0.07)
    if rng.integers(2):
        for x in (-0.22, 0.22):
            pen.rect(x - 0.025, -half * 1.25, x + 0.025, half * 1.25, shade(paint, 0.7))
    pen.rect(-0.5, -half, 0.5, half, mix(paint, (236, 234, 226), 0.45))
    pen.rect(-0.5, -half * 0.84, 0.5, half * 0.84, shade(paint, 0.72))
    pen.rect(-0.5, -half * 0.72, 0.5, half * 0.72, paint)
    step = 0.09
    x = -0.48
    while x < 0.46:
        pen.rect(x, -half * 0.05, x + step * 0.55, half * 0.05, (226, 222, 206))
        x += step
    pen.line((-0.5, -half * 0.66), (0.5, -half * 0.66), half * 0.06, (214, 212, 204))
    pen.line((-0.5, half * 0.66), (0.5, half * 0.66), half * 0.06, (214, 212, 204))


def house(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a house of the background: gabled or flat roof."""
    half = float(rng.integers(28, 42)) / 100
    pen.shadow(rectangle_points(-0.5, -half, 0.5, half), 0.28)
    sun = pen.turned(*pen.canvas.sun)[1]
    if rng.integers(3):
        lit, dim = shade(paint, 1.1), shade(paint, 0.74)
        pen.rect(-0.5, -half, 0.5, 0, lit if sun > 0 else dim)
        pen.rect(-0.5, 0, 0.5, half, dim if sun > 0 else lit)
        pen.line((-0.5, 0), (0.5, 0), 0.03, shade(paint, 1.2))
    else:
        pen.rect(-0.5, -half, 0.5, half, shade(paint, 0.8))
        pen.rect(-0.46, -half * 0.9, 0.46, half * 0.9, paint)
        for _ in range(int(rng.integers(1, 4))):
            x, y = float(rng.integers(-34, 30)) / 100, float(rng.integers(-60, 40)) / 100 * half
            pen.rect(x, y, x + 0.12, y + 0.1, shade(paint, 0.66))


def shed(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw an industrial hall of the background: a long ribbed roof with skylights."""
    half = float(rng.integers(20, 34)) / 100
    pen.shadow(rectangle_points(-0.5, -half, 0.5, half), 0.14)
    pen.rect(-0.5, -half, 0.5, half, shade(paint, 0.82))
    sun = pen.turned(*pen.canvas.sun)[1]
    for y1, y2 in ((-half * 0.95, 0.0), (0.0, half * 0.95)):
        pen.rect(-0.49, y1, 0.49, y2, shade(paint, 1.12 if (y1 < 0) == (sun > 0) else 0.92))
    for rib in range(9):
        x = -0.44 + rib * 0.11
        pen.line((x, -half * 0.95), (x, half * 0.95), 0.008, shade(paint, 0.86))
    if rng.integers(2):
        for step in range(4):
            x = -0.38 + step * 0.22
            pen.mirrored(rectangle_points(x, half * 0.3, x + 0.09, half * 0.55), shade(paint, 1.25))


def containers(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a stack of shipping containers of the background, in muted colours."""
    del paint
    pen.shadow(rectangle_points(-0.5, -0.34, 0.5, 0.34), 0.12)
    tones = ((126, 82, 68), (86, 98, 112), (134, 126, 110), (96, 108, 96), (150, 132, 98), (112, 110, 110))
    for column in range(2):
        for row in range(6):
            x, y = -0.5 + column * 0.5, -0.34 + row * 0.114
            tone = tones[int(rng.integers(len(tones)))]
            pen.rect(x, y, x + 0.485, y + 0.102, tone)
            pen.rect(x, y, x + 0.485, y + 0.03, shade(tone, 1.14))


def tree(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a tree crown of diameter one from a dozen leaf clusters."""
    pen.shadow(ellipse_points(0.42, 0.42, steps=8), 0.45)
    pen.disc(0, 0, 0.44, shade(paint, 0.62))
    sun = pen.turned(*pen.canvas.sun)
    norm = math.sqrt(sun[0] ** 2 + sun[1] ** 2) or 1.0
    for x, y, radius in rng.integers((-26, -26, 14), (27, 27, 24), (5, 3)).tolist():
        facing = (x * sun[0] + y * sun[1]) / norm / 100
        pen.disc(x / 100, y / 100, radius / 100, shade(paint, 0.95 - 1.1 * facing))
