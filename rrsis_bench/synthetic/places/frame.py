"""What settings have in common: a turned frame, roads, streets, fields, groves, built-up ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rrsis_bench.synthetic.drawing.canvas import Colour, Point, direction, ellipse_points
from rrsis_bench.synthetic.drawing.terrain import dashes, strip
from rrsis_bench.synthetic.language.semantics import SceneObject
from rrsis_bench.synthetic.places.stage import GRID, Stage

MARKING: Colour = (222, 220, 208)


class Frame:
    """A turned coordinate frame on the image: u along `angle`, v across it, both zero at `origin`."""

    def __init__(self, angle: float, origin: Point = (0.5, 0.5)) -> None:
        self.angle = angle
        self._x, self._y = origin
        self._cos, self._sin = direction(angle)

    def at(self, u: float, v: float) -> Point:
        """Return the image point of (u, v)."""
        return self._x + u * self._cos - v * self._sin, self._y + u * self._sin + v * self._cos

    def band(self, low: float, high: float, start: float = -0.9, stop: float = 0.9) -> list[Point]:
        """Return the corners of the band low <= v <= high."""
        return [self.at(start, low), self.at(stop, low), self.at(stop, high), self.at(start, high)]


def every(step: float, start: float, stop: float) -> list[float]:
    """Return start, start + step, ... below stop."""
    out: list[float] = []
    while start + step * len(out) < stop:
        out.append(start + step * len(out))
    return out


def several(stage: Stage) -> int:
    """Draw how many objects of the main category a scene has: 2, 3 or 4."""
    return (2, 2, 3, 3, 4)[stage.count(0, 4)]


def sizes_of(stage: Stage, n: int, low: float, high: float) -> list[float]:
    """Draw `n` lengths: all similar, or one that differs clearly in size; largest first."""
    if stage.chance(0.5):
        middle = stage.uniform(low * 1.1, high * 0.92)
        return [middle * stage.uniform(0.95, 1.05) for _ in range(n)]
    return sorted((stage.uniform(low, high) for _ in range(n)), reverse=True)


def paint_road(stage: Stage, frame: Frame, v: float, width: float, start: float = -0.9, stop: float = 0.9) -> None:
    """Paint a road along u with verges, edge lines and a broken centre line."""
    ground = stage.ground
    ground.fill("soil", ground.mask_HW([strip(frame.at(start, v), frame.at(stop, v), width * 1.22)], 1.2))
    ground.fill("asphalt", ground.mask_HW([strip(frame.at(start, v), frame.at(stop, v), width)], 0.4))
    edges = [strip(frame.at(start, v + s * width * 0.44), frame.at(stop, v + s * width * 0.44), 0.006) for s in (-1, 1)]
    centre = dashes(frame.at(start, v), frame.at(stop, v), 0.007, 0.045, 0.04)
    ground.tint(ground.mask_HW(edges + centre), MARKING, 0.75)


def keep_clear(stage: Stage, band: Sequence[Point]) -> None:
    """Let nothing stand on a band of the ground, such as a road."""
    stage.block([(round(x * GRID, 2), round(y * GRID, 2)) for x, y in band])


def lay_streets(stage: Stage, frame: Frame) -> None:
    """Lay one or two streets with houses and hedges along them, near the edges of the image."""
    ground = stage.ground
    for turn in (0, 90)[: stage.count(1, 2)]:
        side = Frame(frame.angle + turn)
        v = stage.uniform(0.36, 0.5) * (1, -1)[stage.count(0, 1)]
        width = stage.uniform(0.045, 0.06) * stage.detail
        ground.fill("concrete", ground.mask_HW([strip(side.at(-0.9, v), side.at(0.9, v), width * 1.5)], 0.4))
        ground.fill("asphalt", ground.mask_HW([strip(side.at(-0.9, v), side.at(0.9, v), width)], 0.4))
        keep_clear(stage, side.band(v - width * 0.7, v + width * 0.7))


def build_up(stage: Stage, frame: Frame) -> None:
    """Fill what is left with footpaths, halls, houses and trees; some places are denser built than others."""
    ground, whole = stage.ground, stage.everywhere()
    for turn in (0, 90)[: stage.count(0, 2)]:
        path = Frame(frame.angle + turn + stage.uniform(-12, 12))
        v = stage.uniform(-0.4, 0.4)
        ground.tint(ground.mask_HW([strip(path.at(-0.9, v), path.at(0.9, v), 0.016)], 0.4), (172, 164, 148), 0.7)
    if stage.chance(0.4):
        stage.sheds(whole, 3, frame.angle)
    stage.houses(whole, stage.count(15, 70), frame.angle, 0.055, 0.12)
    stage.trees(whole, stage.count(20, 60))


def plant_groves(stage: Stage, n: int) -> None:
    """Cover up to `n` patches of the ground with closed canopy."""
    ground = stage.ground
    for _ in range(stage.count(0, n)):
        x, y = stage.uniform(-0.1, 1.1), stage.uniform(-0.1, 1.1)
        rx, ry = stage.uniform(0.1, 0.28), stage.uniform(0.1, 0.28)
        ground.fill("forest", ground.mask_HW([ellipse_points(rx, ry, (x, y))], 3, rough=0.6))


def plough_fields(stage: Stage, heading: float) -> None:
    """Cover the image with a patchwork of crops, meadow and soil."""
    ground, frame = stage.ground, Frame(heading)
    ground.fill("meadow")
    cut = [-0.75, stage.uniform(-0.35, -0.1), stage.uniform(0.1, 0.35), 0.75]
    for low, high in zip(cut, cut[1:], strict=False):
        split = stage.uniform(-0.3, 0.3)
        for start, stop in ((-0.8, split), (split, 0.8)):
            material = ("crops", "crops", "crops", "meadow", "soil")[stage.count(0, 4)]
            mask_HW = ground.mask_HW([frame.band(low + 0.008, high - 0.008, start + 0.008, stop - 0.008)], 0.8)
            ground.fill(material, mask_HW, heading=heading + 90 * stage.count(0, 1))
    plant_groves(stage, 1)


def lay_town(stage: Stage, frame: Frame) -> None:
    """Lay out a built-up ground: paving or lawn with blotches of the other."""
    ground = stage.ground
    ground.fill(("paving", "grass", "grass", "meadow")[stage.count(0, 3)])
    for _ in range(stage.count(1, 3)):
        u, v = stage.uniform(-0.4, 0.4), stage.uniform(-0.4, 0.4)
        w, h = stage.uniform(0.12, 0.3), stage.uniform(0.12, 0.3)
        material = ("grass", "paving", "meadow", "soil")[stage.count(0, 3)]
        ground.fill(material, ground.mask_HW([frame.band(v - h, v + h, u - w, u + w)], 0.8))
    plant_groves(stage, 2)


def aligned(stage: Stage, heading: float, jitter: float = 4.0) -> Callable[[], float]:
    """Return a drawer of headings along `heading`, either way, with a little jitter."""
    return lambda: heading + 180 * stage.count(0, 1) + stage.uniform(-jitter, jitter)


def paint_runway(stage: Stage, frame: Frame, middle: float) -> None:
    """Paint a runway with threshold bars, centre line and rubber marks."""
    ground, half = stage.ground, 0.075
    ground.fill("asphalt", ground.mask_HW([frame.band(middle - half, middle + half)], 0.5))
    marks = dashes(frame.at(-0.9, middle), frame.at(0.9, middle), 0.01, 0.08, 0.06)
    marks += [
        strip(frame.at(-0.9, middle + s * half * 0.88), frame.at(0.9, middle + s * half * 0.88), 0.007) for s in (-1, 1)
    ]
    u = stage.uniform(-0.4, 0.4)
    marks += [
        strip(frame.at(u, middle + k * 0.017), frame.at(u + 0.1, middle + k * 0.017), 0.008)
        for k in (-3, -2, -1, 1, 2, 3)
    ]
    ground.tint(ground.mask_HW(marks), MARKING, 0.8)
    rubber = [strip(frame.at(u + 0.15, middle + k), frame.at(u + 0.5, middle + k), 0.014) for k in (-0.02, 0.02)]
    ground.tint(ground.mask_HW(rubber, 1.5), (48, 48, 50), 0.5)


def lay_bund(stage: Stage, frame: Frame, tank: SceneObject) -> None:
    """Lay the walled basin round a tank."""
    ground, (x, y) = stage.ground, tank.centre
    x1, _, x2, _ = tank.box
    half = (x2 - x1) / stage.size / 2 * stage.uniform(1.3, 1.5)
    place = Frame(frame.angle, (x, y))
    ground.fill(
        ("concrete", "soil", "meadow")[stage.count(0, 2)], ground.mask_HW([place.band(-half, half, -half, half)], 0.3)
    )
    corners = place.band(-half, half, -half, half)
    thick = 0.012 * stage.detail
    walls = [strip(corners[k - 1], corners[k], thick) for k in range(4)]
    sun_x, sun_y = stage.canvas.sun
    shade = [[(px + sun_x * thick, py + sun_y * thick) for px, py in wall] for wall in walls]
    ground.tint(ground.mask_HW(shade), (70, 66, 62), 0.5)
    ground.tint(ground.mask_HW(walls), (190, 184, 172), 0.85)
