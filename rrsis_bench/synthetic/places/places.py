"""The kinds of place that scenes show: each lays out ground and puts objects where they would stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rrsis_bench.synthetic.drawing import structures
from rrsis_bench.synthetic.drawing.canvas import Pen, ellipse_points
from rrsis_bench.synthetic.drawing.terrain import strip
from rrsis_bench.synthetic.places.frame import (
    MARKING,
    Frame,
    aligned,
    build_up,
    every,
    keep_clear,
    lay_bund,
    lay_streets,
    lay_town,
    paint_road,
    paint_runway,
    plough_fields,
    several,
    sizes_of,
)
from rrsis_bench.synthetic.places.stage import Stage

Setting = Callable[[Stage], None]


def airport(stage: Stage) -> None:
    """Airplanes on an apron beside a taxiway or runway."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    ground.fill(("grass", "meadow")[stage.count(0, 1)])
    edge = stage.uniform(0.16, 0.36)
    apron = frame.band(-0.9, edge)
    ground.fill("apron", ground.mask_HW([apron], 0.6))
    joints = [strip(frame.at(u, -0.9), frame.at(u, edge), 0.004) for u in every(0.125, -0.75, 0.8)]
    joints += [strip(frame.at(-0.9, v), frame.at(0.9, v), 0.004) for v in every(0.125, -0.75, edge)]
    ground.tint(ground.mask_HW(joints), (104, 104, 102), 0.4)
    if stage.chance(0.7):
        middle = edge + stage.uniform(0.12, 0.2)
        paint_runway(stage, frame, middle)
        keep_clear(stage, frame.band(middle - 0.085, middle + 0.085))
    guide = [strip(frame.at(-0.9, edge - 0.06), frame.at(0.9, edge - 0.06), 0.007)]
    guide += [strip(frame.at(u, -0.6), frame.at(u, edge - 0.06), 0.006) for u in (stage.uniform(-0.4, 0.4), 0.1)]
    ground.tint(ground.mask_HW(guide), (206, 176, 60), 0.7)
    region = stage.region([apron])
    heading = frame.angle + (90, 60, 120)[stage.count(0, 2)]
    n = several(stage)
    stage.place(
        "airplane", region, sizes_of(stage, n, 0.23, 0.5 if n < 4 else 0.38), angles=aligned(stage, heading, 12)
    )
    if stage.chance(0.6):
        stage.place("vehicle", region, sizes_of(stage, stage.count(1, 2), 0.055, 0.11), angles=aligned(stage, heading))
    if stage.chance(0.4):
        stage.place("storagetank", ~region, [stage.uniform(0.13, 0.2)])
    stage.sheds(stage.everywhere(), 1, frame.angle, 0.16, 0.26)
    stage.houses(~region, 4, frame.angle, 0.08, 0.14)
    stage.trees(~region, 6)


def harbour(stage: Stage) -> None:
    """Ships along a quay with sheds, tanks or vehicles on it."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    ground.fill("water")
    edge = stage.uniform(0.12, 0.26)
    quay = frame.band(edge, 1.0)
    ground.tint(ground.mask_HW([frame.band(edge - 0.03, edge)], 2.0), (26, 40, 44), 0.5)
    ground.fill(("concrete", "paving")[stage.count(0, 1)], ground.mask_HW([quay], 0.3))
    ground.tint(ground.mask_HW([frame.band(edge, edge + 0.014)]), (196, 192, 182), 0.8)
    rails = [strip(frame.at(-0.9, edge + s), frame.at(0.9, edge + s), 0.004) for s in (0.035, 0.075)]
    ground.tint(ground.mask_HW(rails), (84, 80, 76), 0.6)
    if stage.chance(0.5):
        u = stage.uniform(-0.3, 0.3)
        pier = frame.band(edge - 0.32, edge + 0.02, u - 0.025, u + 0.025)
        ground.fill("concrete", ground.mask_HW([pier], 0.2))
        keep_clear(stage, pier)
    sea, land = stage.region([frame.band(-1.0, edge - 0.01)]), stage.region([frame.band(edge + 0.02, 1.0)])
    n = several(stage)
    heading = aligned(stage, frame.angle, 8) if stage.chance(0.6) else None
    stage.place("ship", sea, sizes_of(stage, n, 0.24, 0.58 if n < 4 else 0.46), angles=heading)
    other = ("storagetank", "vehicle", "storagetank")[stage.count(0, 2)]
    low, high = (0.15, 0.26) if other == "storagetank" else (0.11, 0.17)
    stage.place(other, land, sizes_of(stage, stage.count(1, 2), low, high), angles=aligned(stage, frame.angle))
    stage.containers(land, 8, frame.angle)
    stage.sheds(land, 6, frame.angle, 0.12, 0.22)


def sea(stage: Stage) -> None:
    """Ships under way in open water, with a stretch of coast."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    ground.fill("water")
    edge = stage.uniform(0.2, 0.4)
    land = ground.mask_HW([frame.band(edge, 1.2)], 2, rough=0.5)
    surf = ground.mask_HW([frame.band(edge - 0.05, 1.2)], 3, rough=0.6)
    ground.tint(surf, (120, 160, 150), 0.35)
    ground.fill("sand", land)
    inland = ground.mask_HW([frame.band(edge + 0.09, 1.2)], 2, rough=0.5)
    ground.fill(("grass", "forest")[stage.count(0, 1)], inland)
    n = several(stage)
    sizes = sizes_of(stage, n, 0.22, 0.52 if n < 4 else 0.42)
    stage.place("ship", stage.region([frame.band(-1.2, edge - 0.05)]), sizes, wakes=True)
    shore = stage.region([frame.band(edge + 0.11, 1.2)])
    other = ("tenniscourt", "storagetank", "basketballcourt")[stage.count(0, 2)]
    stage.place(other, shore, [stage.uniform(0.15, 0.26)])
    stage.houses(shore, 8, frame.angle, 0.05, 0.09)
    stage.trees(shore, 16)


def courts(stage: Stage) -> None:
    """Tennis or basketball courts in a park or a housing estate."""
    frame = Frame(stage.uniform(0, 360))
    lay_town(stage, frame)
    pair = ("tenniscourt", "basketballcourt")
    main, other = pair if stage.chance(0.65) else pair[::-1]
    lay_streets(stage, frame)
    n = several(stage)
    turn = aligned(stage, frame.angle + 90 * stage.count(0, 1), 2)
    stage.place(main, stage.everywhere(), sizes_of(stage, n, 0.22, 0.5 if n < 4 else 0.37), angles=turn)
    if stage.chance(0.6):
        stage.place(other, stage.everywhere(), sizes_of(stage, stage.count(1, 2), 0.2, 0.36), angles=turn)
    else:
        stage.place("baseballfield", stage.everywhere(), [stage.uniform(0.24, 0.36)])
    build_up(stage, frame)


def campus(stage: Stage) -> None:
    """Baseball fields or running tracks with courts beside them."""
    frame = Frame(stage.uniform(0, 360))
    lay_town(stage, frame)
    lay_streets(stage, frame)
    whole = stage.everywhere()
    turn = aligned(stage, frame.angle + 90 * stage.count(0, 1), 3)
    if stage.chance(0.5):
        n = stage.count(2, 3)
        stage.place("baseballfield", whole, sizes_of(stage, n, 0.2, 0.4 if n == 2 else 0.32))
    else:
        stage.place("groundtrackfield", whole, sizes_of(stage, 2, 0.34, 0.56), angles=turn)
    other = ("tenniscourt", "basketballcourt", "tenniscourt", "groundtrackfield")[stage.count(0, 3)]
    if other == "groundtrackfield":
        stage.place(other, whole, [stage.uniform(0.34, 0.48)], angles=turn)
    else:
        stage.place(other, whole, sizes_of(stage, stage.count(1, 3), 0.2, 0.3), angles=turn)
    build_up(stage, frame)


def tank_farm(stage: Stage) -> None:
    """Storage tanks in bunds, with pipes, a chimney or vehicles."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    ground.fill(("soil", "concrete", "paving", "meadow")[stage.count(0, 3)])
    u, v = stage.uniform(-0.15, 0.15), stage.uniform(-0.15, 0.15)
    pad = frame.band(v - 0.4, v + 0.4, u - 0.5, u + 0.5)
    ground.fill(("concrete", "soil")[stage.count(0, 1)], ground.mask_HW([pad], 0.5))
    bunds = [strip(frame.at(x, -0.6), frame.at(x, 0.6), 0.012) for x in (u - 0.5, u + 0.5)]
    pipes = [strip(frame.at(-0.9, v + s), frame.at(0.9, v + s), 0.006) for s in (0.0, 0.014, 0.028)]
    ground.tint(ground.mask_HW(bunds), (196, 190, 178), 0.8)
    ground.tint(ground.mask_HW(pipes), (82, 78, 74), 0.7)
    n = several(stage)
    whole = stage.everywhere()
    stage.place("storagetank", whole, sizes_of(stage, n, 0.14, 0.38 if n < 4 else 0.3))
    for tank in stage.objects:
        lay_bund(stage, frame, tank)
    if stage.chance(0.65):
        stage.place("chimney", whole, sizes_of(stage, 1, 0.3, 0.46))
    else:
        stage.place(
            "vehicle", whole, sizes_of(stage, stage.count(1, 2), 0.12, 0.18), angles=aligned(stage, frame.angle)
        )
    stage.sheds(whole, 4, frame.angle)
    stage.houses(whole, 8, frame.angle, 0.05, 0.1)
    stage.trees(whole, 12)


def power_plant(stage: Stage) -> None:
    """Chimneys with long shadows between sheds, with tanks."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    ground.fill(("soil", "paving", "concrete")[stage.count(0, 2)])
    for _ in range(stage.count(0, 2)):  # a heap of coal
        centre = frame.at(stage.uniform(-0.4, 0.4), stage.uniform(-0.4, 0.4))
        heap = ellipse_points(stage.uniform(0.08, 0.16), stage.uniform(0.06, 0.12), centre)
        ground.tint(ground.mask_HW([heap], 3, rough=0.5), (66, 63, 60), 0.75)
    v = stage.uniform(-0.4, 0.4)
    paint_road(stage, frame, v, 0.08)
    keep_clear(stage, frame.band(v - 0.05, v + 0.05))
    whole = stage.everywhere()
    lean = stage.uniform(0, 360)
    stage.place("chimney", whole, sizes_of(stage, stage.count(2, 3), 0.28, 0.5), angles=lambda: lean, margin=0.04)
    stage.place("storagetank", whole, sizes_of(stage, stage.count(1, 2), 0.14, 0.26))
    stage.sheds(whole, 6, frame.angle)
    stage.houses(whole, 10, frame.angle, 0.06, 0.12)
    stage.trees(whole, 14)


def road(stage: Stage) -> None:
    """Vehicles on one or two roads through houses or fields."""
    frame = Frame(stage.uniform(0, 360))
    if stage.chance(0.5):
        lay_town(stage, frame)
    else:
        plough_fields(stage, frame.angle)
    width = stage.uniform(0.2, 0.3) * stage.detail
    first, second = (stage.uniform(-0.34, -0.2), stage.uniform(0.2, 0.34)) if stage.chance(0.6) else (0.0, None)
    lanes = [frame.band(first - width * 0.46, first + width * 0.46)]
    verges = [frame.band(first - width * 0.62, first + width * 0.62)]
    paint_road(stage, frame, first, width)
    if second is not None:
        paint_road(stage, frame, second, width)
        lanes.append(frame.band(second - width * 0.46, second + width * 0.46))
        verges.append(frame.band(second - width * 0.62, second + width * 0.62))
    asphalt, verge = stage.region(lanes), stage.region(verges)
    n = several(stage)
    stage.place("vehicle", asphalt, sizes_of(stage, n, 0.14, 0.3), angles=aligned(stage, frame.angle, 3))
    other = ("tenniscourt", "basketballcourt", "storagetank")[stage.count(0, 2)]
    stage.place(other, ~verge, sizes_of(stage, stage.count(1, 2), 0.2, 0.34), angles=aligned(stage, frame.angle, 3))
    stage.houses(~verge, 20, frame.angle, 0.08, 0.15)
    stage.trees(~verge, 40)


def parking(stage: Stage) -> None:
    """Vehicles seen close, on a parking lot with marked stalls."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    ground.fill(("grass", "paving")[stage.count(0, 1)])
    end = stage.uniform(0.12, 0.3)
    lot = frame.band(-0.44, 0.44, -0.8, end)
    ground.fill("asphalt", ground.mask_HW([lot], 0.4))
    lines = []
    for v in (-0.44, -0.13, 0.13, 0.44):
        reach = (0.15 if v < 0 else -0.15) * stage.detail
        lines += [strip(frame.at(u, v), frame.at(u, v + reach), 0.006) for u in every(0.13 * stage.detail, -0.8, end)]
    ground.tint(ground.mask_HW(lines), MARKING, 0.7)
    n = several(stage)
    turn = aligned(stage, frame.angle + 90, 3)
    stage.place("vehicle", stage.region([lot]), sizes_of(stage, n, 0.17, 0.38 if n < 4 else 0.3), angles=turn)
    other = ("basketballcourt", "storagetank", "tenniscourt")[stage.count(0, 2)]
    outside = ~stage.region([lot])
    stage.place(other, outside, [stage.uniform(0.24, 0.36)], angles=turn)
    stage.trees(outside, 36, 0.04, 0.09)
    stage.houses(outside, 8, frame.angle, 0.1, 0.18)


def river(stage: Stage) -> None:
    """Bridges over a river, ships on it."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    if stage.chance(0.5):
        plough_fields(stage, frame.angle + 20)
    else:
        lay_town(stage, frame)
    half = stage.uniform(0.13, 0.2)
    bank = ground.mask_HW([frame.band(-half - 0.035, half + 0.035)], 2, rough=0.3)
    ground.fill(("soil", "grass", "sand")[stage.count(0, 2)], bank)
    ground.fill("river", ground.mask_HW([frame.band(-half, half)], 2, rough=0.3))
    n = stage.count(1, 3)
    spots = {1: (0.0,), 2: (-0.27, 0.27), 3: (-0.37, 0.0, 0.37)}[n]
    shift = stage.uniform(-0.1, 0.1) if n > 1 else stage.uniform(-0.3, 0.3)
    for spot in spots:
        u, width, reach = spot + shift, stage.uniform(0.07, 0.14), half + 0.055
        slant = stage.uniform(-8, 8)
        centre = frame.at(u, 0)
        far = Frame(frame.angle + 90 + slant, centre)
        near_end, far_end = far.at(-1.2, 0), far.at(1.2, 0)
        ground.fill("asphalt", ground.mask_HW([strip(near_end, far_end, width * 0.72)], 0.4))
        pen = Pen(stage.canvas, *centre, frame.angle + 90 + slant, 2 * reach)
        shape = width / (2 * reach)
        stage.add("bridge", "gray", pen, partial(structures.bridge, width=shape))
        keep_clear(stage, strip(near_end, far_end, width * 1.3))
    water = stage.region([frame.band(-half + 0.01, half - 0.01)])
    stage.place("ship", water, sizes_of(stage, stage.count(1, 3), 0.16, 0.3), angles=aligned(stage, frame.angle, 8))
    land = ~stage.region([frame.band(-half - 0.05, half + 0.05)])
    if stage.chance(0.4):
        stage.place(("tenniscourt", "storagetank")[stage.count(0, 1)], land, [stage.uniform(0.14, 0.22)])
    stage.houses(land, 20, frame.angle, 0.05, 0.1)
    stage.trees(land, 40)


def wind_park(stage: Stage) -> None:
    """Wind turbines in farmland with tracks and a farm."""
    frame = Frame(stage.uniform(0, 360))
    plough_fields(stage, frame.angle)
    v = stage.uniform(-0.2, 0.2)
    ground = stage.ground
    ground.fill("soil", ground.mask_HW([strip(frame.at(-0.9, v), frame.at(0.9, v), 0.07)], 0.8))
    track = stage.region([frame.band(v - 0.08, v + 0.08)])
    lean = stage.uniform(0, 360)
    sizes = sizes_of(stage, stage.count(2, 3), 0.28, 0.5)
    stage.place("windmill", stage.everywhere(), sizes, angles=lambda: lean + stage.uniform(-6, 6))
    stage.place("vehicle", track, [stage.uniform(0.12, 0.18)], angles=aligned(stage, frame.angle, 3))
    stage.trees(stage.everywhere(), 14)
    stage.houses(stage.everywhere(), 4, frame.angle)


def arena(stage: Stage) -> None:
    """A stadium or two with car parks and training pitches."""
    ground, frame = stage.ground, Frame(stage.uniform(0, 360))
    lay_town(stage, frame)
    lay_streets(stage, frame)
    whole = stage.everywhere()
    turn = aligned(stage, frame.angle + 90 * stage.count(0, 1), 3)
    u, v = stage.uniform(-0.2, 0.2), stage.uniform(-0.2, 0.2)
    ground.fill("paving", ground.mask_HW([[frame.at(a, b) for a, b in ellipse_points(0.4, 0.34, (u, v))]], 1.0))
    stage.place("stadium", whole, sizes_of(stage, stage.count(1, 2), 0.36, 0.52), angles=turn)
    other = ("groundtrackfield", "vehicle", "tenniscourt", "basketballcourt")[stage.count(0, 3)]
    ranges = {"groundtrackfield": (0.3, 0.44), "vehicle": (0.06, 0.105)}
    stage.place(other, whole, sizes_of(stage, stage.count(2, 3), *ranges.get(other, (0.2, 0.3))), angles=turn)
    build_up(stage, frame)


# How many of 25 scenes show each setting.
SETTINGS: Sequence[tuple[Setting, int]] = (
    (airport, 3),
    (harbour, 2),
    (sea, 2),
    (courts, 3),
    (campus, 3),
    (tank_farm, 2),
    (power_plant, 2),
    (road, 1),
    (parking, 2),
    (river, 2),
    (wind_park, 1),
    (arena, 2),
)
DECK: tuple[Setting, ...] = tuple(setting for setting, share in SETTINGS for _ in range(share))
