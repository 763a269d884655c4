"""What moves: airplanes, ships and vehicles, drawn from above in their own frame (nose or bow at x = +0.5)."""

from __future__ import annotations

import numpy as np

from rrsis_bench.synthetic.drawing.canvas import SUPERSAMPLE, Colour, Pen, Point, mix, shade

GLASS: Colour = (44, 54, 64)
TYRE: Colour = (40, 40, 42)


def _flip(points: list[Point]) -> list[Point]:
    return [(x, -y) for x, y in points]


def _symmetric(half: list[Point]) -> list[Point]:
    """Close a half outline, given from front to back, with its mirror image."""
    return half + _flip(half)[::-1]


def airplane(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw an airliner with two or four engines, or a small propeller plane; wing span about 0.95 lengths."""
    light = mix(paint, (255, 255, 255), 0.25)
    dark = shade(paint, 0.76)
    accent = [(150, 40, 40), (36, 66, 130), (60, 66, 74), (30, 110, 110)][int(rng.integers(4))]
    kind = int(rng.integers(4))
    if kind == 3:
        body = _symmetric([(0.46, 0.015), (0.42, 0.05), (0.1, 0.062), (-0.42, 0.022), (-0.5, 0.012)])
        wing = [(0.24, 0.03), (0.21, 0.49), (0.05, 0.49), (0.02, 0.03)]
        tail = [(-0.36, 0.01), (-0.37, 0.18), (-0.48, 0.18), (-0.48, 0.01)]
        engines: list[tuple[float, float]] = []
    else:
        body = _symmetric(
            [(0.5, 0.008), (0.475, 0.03), (0.43, 0.048), (0.34, 0.055), (-0.22, 0.055), (-0.4, 0.03), (-0.5, 0.012)]
        )
        sweep = float(rng.integers(16, 27)) / 100
        wing = [(0.16, 0.04), (0.13 - sweep, 0.47), (0.075 - sweep, 0.475), (-0.03, 0.16), (-0.09, 0.04)]
        tail = [(-0.34, 0.02), (-0.445, 0.18), (-0.5, 0.18), (-0.47, 0.02)]
        engines = [(0.155 - sweep * 0.36, 0.17)]
        if kind == 2:
            engines.append((0.15 - sweep * 0.7, 0.31))
    for shape in (body, wing, _flip(wing), tail, _flip(tail)):
        pen.shadow(shape, 0.075, base=0.045)
    for x, y in engines:
        pod = [(x + 0.05, y - 0.022), (x + 0.05, y + 0.022), (x - 0.07, y + 0.018), (x - 0.07, y - 0.018)]
        pen.mirrored(pod, shade(paint, 0.6))
        pen.mirrored([(x + 0.05, y - 0.02), (x + 0.05, y + 0.02), (x + 0.03, y + 0.02), (x + 0.03, y - 0.02)], TYRE)
    sun_side = pen.turned(*pen.canvas.sun)[1]
    near, far = (dark, paint) if sun_side > 0 else (paint, dark)
    pen.poly(wing, mix(paint, near, 0.5))
    pen.poly(_flip(wing), mix(paint, far, 0.5))
    # Flaps and ailerons: a darker band along the trailing edge.
    back = [wing[-1], wing[-2], ((wing[-2][0] + 0.03), wing[-2][1]), (wing[-1][0] + 0.035, wing[-1][1])]
    pen.mirrored(back, shade(paint, 0.85))
    pen.mirrored(tail, mix(paint, dark, 0.4))
    pen.poly(body, paint)
    pen.poly([(x * 0.98, y * 0.9 if (y > 0) == (sun_side > 0) else 0.0) for x, y in body], dark)
    pen.poly([(x * 0.96, y * 0.35) for x, y in body], light)
    if kind == 3:
        pen.rect(0.12, -0.045, 0.24, 0.045, GLASS)
        pen.rect(0.46, -0.1, 0.475, 0.1, TYRE)
    else:
        pen.poly([(0.47, -0.022), (0.47, 0.022), (0.445, 0.034), (0.445, -0.034)], GLASS)
        pen.rect(-0.09, -0.05, 0.14, -0.034, shade(paint, 0.88))
    pen.poly([(-0.34, -0.004), (-0.34, 0.004), (-0.52, 0.014), (-0.52, -0.014)], accent)


def ship(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a container ship, tanker, ferry or yacht; `paint` is the deck, width 0.2 to 0.3 lengths."""
    w = float(rng.integers(105, 145)) / 1000
    kind = int(rng.integers(4))
    hull = _symmetric(
        [
            (0.5, 0.004),
            (0.46, w * 0.4),
            (0.4, w * 0.7),
            (0.31, w * 0.94),
            (0.2, w),
            (-0.4, w),
            (-0.47, w * 0.85),
            (-0.5, w * 0.6),
        ]
    )
    pen.shadow(hull, 0.07)
    pen.poly(hull, shade(paint, 0.55))
    deck = [(x * 0.965, y * 0.84) for x, y in hull]
    pen.poly(deck, paint)
    sun_side = pen.turned(*pen.canvas.sun)[1]
    pen.poly([(x, y if (y > 0) == (sun_side > 0) else y * 0.72) for x, y in deck], shade(paint, 0.86))
    pen.poly([(x * 0.95, y * 0.78) for x, y in deck], paint)
    white = (226, 226, 220)
    if kind == 0:  # container bays
        for bay in range(5):
            x = 0.27 - bay * 0.11
            tone = shade(paint, 0.7 + 0.12 * float(rng.integers(0, 5)))
            pen.rect(x - 0.045, -w * 0.68, x + 0.045, w * 0.68, tone)
            pen.line((x - 0.045, 0), (x + 0.045, 0), 0.008, shade(paint, 0.5))
        _bridge_house(pen, -0.36, 0.07, w * 0.8, white)
    elif kind == 1:  # tanker: a pipe along the deck, tank domes
        pen.rect(-0.26, -0.012, 0.38, 0.012, shade(paint, 0.6))
        for step in range(4):
            x = 0.28 - step * 0.15
            pen.rect(x - 0.008, -w * 0.7, x + 0.008, w * 0.7, shade(paint, 0.72))
        _bridge_house(pen, -0.36, 0.08, w * 0.78, white)
    elif kind == 2:  # hatches
        for step in range(4):
            x = 0.3 - step * 0.145
            pen.rect(x - 0.052, -w * 0.5, x + 0.052, w * 0.5, shade(paint, 0.68))
            pen.rect(x - 0.045, -w * 0.42, x + 0.045, w * 0.42, mix(paint, (120, 116, 108), 0.35))
        _bridge_house(pen, -0.38, 0.06, w * 0.82, white)
    else:  # ferry or yacht: a long deck house with windows
        pen.poly(
            [
                (0.26, w * 0.3),
                (0.18, w * 0.62),
                (-0.36, w * 0.62),
                (-0.36, -w * 0.62),
                (0.18, -w * 0.62),
                (0.26, -w * 0.3),
            ],
            GLASS,
        )
        pen.poly(
            [
                (0.2, w * 0.3),
                (0.13, w * 0.54),
                (-0.34, w * 0.54),
                (-0.34, -w * 0.54),
                (0.13, -w * 0.54),
                (0.2, -w * 0.3),
            ],
            mix(paint, white, 0.55),
        )
        pen.rect(-0.2, -w * 0.2, -0.06, w * 0.2, shade(paint, 0.8))


def _bridge_house(pen: Pen, x: float, half: float, width: float, colour: Colour) -> None:
    """Draw the white deck house at the stern, with a row of windows and the funnel."""
    pen.rect(x - half, -width, x + half, width, colour)
    pen.rect(x + half * 0.5, -width, x + half, width, GLASS)
    pen.rect(x - half * 0.6, -width * 0.3, x + half * 0.1, width * 0.3, shade(colour, 0.62))


def vehicle(pen: Pen, rng: np.random.Generator, paint: Colour) -> None:
    """Draw a car, van, lorry or bus, 0.4 to 0.5 lengths wide."""
    kind = int(rng.integers(5))
    w = 0.225 if kind < 3 else 0.185
    body = _symmetric([(0.5, w * 0.62), (0.47, w * 0.88), (0.38, w), (-0.4, w), (-0.48, w * 0.9), (-0.5, w * 0.7)])
    pen.shadow(body, 0.2)
    pen.poly(body, shade(paint, 0.72))
    pen.poly([(x * 0.97, y * 0.9) for x, y in body], paint)
    if kind < 2:  # car
        pen.poly([(0.24, w * 0.82), (0.1, w * 0.66), (0.1, -w * 0.66), (0.24, -w * 0.82)], GLASS)
        pen.poly([(-0.38, w * 0.74), (-0.27, w * 0.62), (-0.27, -w * 0.62), (-0.38, -w * 0.74)], GLASS)
        pen.mirrored([(0.16, w * 0.9), (0.08, w * 0.78), (-0.25, w * 0.78), (-0.32, w * 0.9)], GLASS)
        pen.rect(-0.26, -w * 0.68, 0.09, w * 0.68, mix(paint, (255, 255, 255), 0.14))
        pen.mirrored([(0.49, w * 0.6), (0.45, w * 0.85), (0.43, w * 0.85), (0.46, w * 0.5)], (240, 236, 210))
    elif kind == 2:  # van
        pen.poly([(0.38, w * 0.84), (0.28, w * 0.74), (0.28, -w * 0.74), (0.38, -w * 0.84)], GLASS)
        pen.rect(-0.45, -w * 0.78, 0.25, w * 0.78, mix(paint, (255, 255, 255), 0.12))
        pen.line((-0.1, -w * 0.7), (-0.1, w * 0.7), 0.02, shade(paint, 0.8))
    elif kind == 3:  # lorry: cab and box
        pen.rect(0.22, -w, 0.28, w, TYRE)
        pen.poly([(0.45, w * 0.8), (0.39, w * 0.8), (0.39, -w * 0.8), (0.45, -w * 0.8)], GLASS)
        pen.rect(-0.49, -w, 0.21, w, paint)
        pen.rect(-0.47, -w * 0.86, 0.19, w * 0.86, mix(paint, (255, 255, 255), 0.1))
        for step in range(4):
            x = -0.36 + step * 0.15
            pen.line((x, -w * 0.86), (x, w * 0.86), 0.012, shade(paint, 0.84))
    else:  # bus with roof hatches
        pen.rect(0.43, -w * 0.85, 0.48, w * 0.85, GLASS)
        for x in (-0.3, 0.0, 0.26):
            pen.rect(x - 0.06, -w * 0.4, x + 0.06, w * 0.4, shade(paint, 0.8))
        pen.rect(-0.47, -w * 0.97, 0.42, -w * 0.86, GLASS)
        pen.rect(-0.47, w * 0.86, 0.42, w * 0.97, GLASS)


def wake(pen: Pen) -> list[list[Point]]:
    """Return the foam round a moving ship, as polygons in shares of the image's side."""
    side = pen.canvas.size * SUPERSAMPLE
    foam = [
        [(-0.46, 0.09), (-0.62, 0.12), (-0.95, 0.09), (-1.05, 0.0), (-0.95, -0.09), (-0.62, -0.12), (-0.46, -0.09)],
        [(0.53, 0.0), (0.42, 0.1), (0.2, 0.165), (-0.1, 0.18), (-0.1, -0.18), (0.2, -0.165), (0.42, -0.1)],
    ]
    return [[(x / side, y / side) for x, y in pen.to_canvas(shape)] for shape in foam]
