"""Things that go: on roads, water and air."""

import math
from dataclasses import replace

import numpy as np

from zero123.data.meshes import Part
from zero123.data.procedural.solids import (
    box,
    cylinder,
    extruded,
    revolved,
    ring,
    sphere,
    superquadric,
)
from zero123.data.procedural.workbench import (
    BLACK,
    BOTH,
    GLASS,
    LAMP,
    RED,
    STEEL,
    Workbench,
    patch,
    rod,
    wood,
)


def wheels(
    bench: Workbench, axles: list[float], track: float, radius: float, width: float
) -> list[Part]:
    """A pair of wheels on each axle, their hubs outside, on the ground."""
    parts, hub = [], bench.plain(4)
    drum = cylinder(segments=18).turned("x", math.pi / 2)
    for x in axles:
        for side in BOTH:
            size = 2 * radius
            parts.append(BLACK(drum.scaled(size, width, size).moved(x, side * track, radius)))
            cap = drum.scaled(radius, 0.03, radius)
            parts.append(hub(cap.moved(x, side * (track + width / 2), radius)))
    return parts


def car(bench: Workbench) -> list[Part]:
    """A car, white lamps in front and red behind."""
    long, wide, low = bench.between(1.0, 1.5), bench.between(0.45, 0.6), bench.between(0.18, 0.3)
    radius = bench.between(0.1, 0.17)
    paint = bench.plain(0)
    body = superquadric(0.25, 0.3).scaled(long, wide, low).moved(0, 0, radius + low / 2)
    deck, at, cabin = radius + low, bench.between(-0.15, 0.05) * long, bench.between(0.18, 0.3)
    glass = box().scaled(bench.between(0.45, 0.6) * long, 0.92 * wide, cabin)
    parts = [
        paint(body),
        GLASS(
            glass.scaled(1, 1, 1 / cabin)
            .tapered(0.6, 0.8)
            .scaled(1, 1, cabin)
            .moved(at, 0, deck + cabin / 2 - 0.02)
        ),
        paint(box().scaled(0.3 * long, 0.72 * wide, 0.03).moved(at, 0, deck + cabin - 0.01)),
        *wheels(bench, [-0.3 * long, 0.32 * long], 0.46 * wide, radius, 0.1),
        bench.plain(1)(box().scaled(0.04, 0.9 * wide, 0.06).moved(long / 2, 0, radius + 0.04)),
        STEEL(box().scaled(0.04, 0.9 * wide, 0.05).moved(-long / 2, 0, radius + 0.04)),
    ]
    for side in BOTH:
        lamp = sphere(10).scaled(0.06, 0.12, 0.09)
        parts.append(LAMP(lamp.moved(0.485 * long, 0.33 * wide * side, radius + 0.6 * low)))
        parts.append(RED(lamp.moved(-0.485 * long, 0.33 * wide * side, radius + 0.6 * low)))
    if bench.chance(0.4):
        stripe = box().scaled(0.8 * long, 0.12 * wide, 0.01)
        parts.append(bench.plain(2)(stripe.moved(0, 0.1 * wide, deck + 0.002)))
    if bench.chance(0.4):
        parts.append(
            bench.coat(3)(
                box().scaled(0.25 * long, 0.5 * wide, 0.08).moved(at, 0, deck + cabin + 0.04)
            )
        )
    return parts


def truck(bench: Workbench) -> list[Part]:
    """A truck with a box, a tank or crates."""
    long, wide, tall = bench.between(0.8, 1.4), bench.between(0.4, 0.55), bench.between(0.35, 0.7)
    radius, nose = bench.between(0.09, 0.13), bench.between(0.25, 0.4)
    floor, front = radius * 1.4, long / 2
    load = bench.coat(0)
    parts = [
        BLACK(box().scaled(long + nose, 0.6 * wide, 0.06).moved(nose / 2, 0, floor)),
        bench.plain(1)(
            box().scaled(nose, wide, 0.8 * tall).moved(front + nose / 2, 0, floor + 0.4 * tall)
        ),
        GLASS(
            box().scaled(0.02, 0.85 * wide, 0.25 * tall).moved(front + nose, 0, floor + 0.6 * tall)
        ),
        GLASS(
            box()
            .scaled(0.5 * nose, wide + 0.02, 0.25 * tall)
            .moved(front + 0.6 * nose, 0, floor + 0.6 * tall)
        ),
        *wheels(bench, [-0.35 * long, 0.2 * long, front + 0.5 * nose], 0.45 * wide, radius, 0.1),
    ]
    kind = bench.count(0, 2)
    if kind == 0:
        parts.append(load(box().scaled(long, wide, tall).moved(0, 0, floor + tall / 2)))
        sign = box().scaled(0.7 * long, 0.02, 0.6 * tall)
        parts.append(bench.label()(sign.moved(0, wide / 2, floor + tall / 2)))
    elif kind == 1:
        tank = cylinder().turned("y", math.pi / 2).scaled(long, wide, tall)
        parts.append(load(tank.moved(0, 0, floor + tall / 2)))
    else:
        for side in BOTH:
            wall = box().scaled(long, 0.04, 0.3 * tall)
            parts.append(load(wall.moved(0, side * wide / 2, floor + 0.15 * tall)))
        for index in range(bench.count(2, 4)):
            crate = box().scaled(0.25, 0.25, bench.between(0.15, 0.35))
            x, y = (index / 4 - 0.35) * long, bench.between(-0.1, 0.1)
            parts.append(bench.coat(index)(crate.moved(x, y, floor + 0.18)))
    for side in BOTH:
        lamp = sphere(10).scaled(0.05, 0.08, 0.08)
        parts.append(LAMP(lamp.moved(front + nose, 0.35 * wide * side, floor + 0.15 * tall)))
    return parts


def plane(bench: Workbench) -> list[Part]:
    """A plane with swept wings, engines or a propeller."""
    paint, wing = bench.plain(0), bench.coat(1)
    girth, span, at = bench.between(0.12, 0.22), bench.between(0.9, 1.3), bench.between(-0.05, 0.2)
    sweep = bench.between(-0.25, 0.05)
    body = [(0, -0.55), (0.25, -0.5), (0.5, -0.1), (0.5, 0.3), (0.3, 0.48), (0, 0.53)]
    fuselage = revolved([(r * girth, h) for r, h in body]).turned("y", math.pi / 2)
    parts = [
        paint(fuselage),
        GLASS(sphere(12).scaled(0.25, 0.7 * girth, 0.7 * girth).moved(0.28, 0, 0.3 * girth)),
        bench.plain(2)(box().tapered(0.5, 1).scaled(0.2, 0.03, 0.28).moved(-0.48, 0, 0.17)),
        bench.plain(3)(box().scaled(0.6, girth + 0.01, 0.03)),
    ]
    for side in BOTH:
        plate = box().moved(0, 0, 0.5).scaled(0.26, 0.035, span / 2)
        plate = replace(
            plate,
            vertices=plate.vertices + np.outer(plate.vertices[:, 2] / span, [2 * sweep, 0, 0]),
        )
        parts.append(wing(plate.turned("x", -side * math.pi / 2).moved(at, 0, 0)))
        fin = box().scaled(0.13, 0.2, 0.025).moved(-0.48, side * 0.13, 0.05)
        parts.append(wing(fin))
        if bench.chance(0.7):
            engine = cylinder(0.8, 12).turned("y", math.pi / 2).scaled(0.24, 0.11, 0.11)
            parts.append(bench.plain(4)(engine.moved(at + 0.06, side * 0.25 * span, -0.07)))
        tip = LAMP if side == 1 else RED
        parts.append(tip(sphere(8).scaled(0.08, 0.05, 0.05).moved(at + sweep, side * span / 2, 0)))
    if bench.chance(0.5):
        for index in range(bench.count(2, 4)):
            blade = (
                box()
                .scaled(0.02, 0.05, 0.24)
                .moved(0, 0, 0.12)
                .turned("x", index * 2 * math.pi / 3)
            )
            parts.append(BLACK(blade.moved(0.54, 0, 0)))
    for x, y in ((0.3, 0.0), (-0.05, 0.12), (-0.05, -0.12)):
        parts.append(
            BLACK(
                cylinder(segments=10)
                .turned("x", math.pi / 2)
                .scaled(0.08, 0.04, 0.08)
                .moved(x, y, -girth * 0.75)
            )
        )
    return parts


def boat(bench: Workbench) -> list[Part]:
    """A sailing boat or a steamer, a red ring on its left."""
    bow = np.array(
        [
            (0.6, 0.0),
            (0.35, 0.17),
            (0.0, 0.22),
            (-0.45, 0.18),
            (-0.45, -0.18),
            (0.0, -0.22),
            (0.35, -0.17),
        ]
    )
    hull = extruded(bow)
    keel = np.where(hull.vertices[:, 2:] < 0, 0.65, 1.0)
    hull = replace(hull, vertices=hull.vertices * np.concatenate([keel, keel, keel / keel], axis=1))
    parts = [
        bench.plain(0)(hull.scaled(1, 1, 0.25)),
        bench.plain(1)(hull.scaled(1.02, 1.04, 0.05).moved(0, 0, 0.12)),
        wood(bench)(hull.scaled(0.93, 0.85, 0.02).moved(0, 0, 0.15)),
    ]
    if bench.chance(0.5):
        mast = bench.between(0.7, 1.1)
        parts.append(wood(bench)(rod((0.05, 0, 0.1), (0.05, 0, mast + 0.1), 0.02)))
        for reach in (-0.45, 0.4):
            sail = extruded(
                np.array([(0.0, -0.3), (reach, -0.3), (0.0, 0.7)]) - np.array([reach / 4, 0.0])
            )
            parts.append(
                bench.coat(2)(
                    sail.turned("x", math.pi / 2)
                    .scaled(1, 0.015, 0.8 * mast)
                    .moved(0.05 + reach / 4, 0, 0.5 * mast)
                )
            )
        parts.append(bench.plain(3)(box().scaled(0.15, 0.01, 0.08).moved(-0.03, 0, mast + 0.1)))
    else:
        cabin = bench.between(0.15, 0.3)
        parts.append(bench.coat(2)(box().scaled(0.4, 0.25, cabin).moved(-0.1, 0, 0.14 + cabin / 2)))
        parts.append(
            GLASS(box().scaled(0.02, 0.2, 0.4 * cabin).moved(0.105, 0, 0.14 + 0.65 * cabin))
        )
        parts.append(
            GLASS(box().scaled(0.3, 0.26, 0.3 * cabin).moved(-0.1, 0, 0.14 + 0.65 * cabin))
        )
        for index in range(bench.count(1, 3)):
            funnel = (
                cylinder(0.9, 14).scaled(0.1, 0.1, 0.25).moved(-0.2 + 0.13 * index, 0, 0.2 + cabin)
            )
            parts.append(bench.plain(3 + index)(funnel))
    parts.append(
        RED(ring(0.3).turned("x", math.pi / 2).scaled(0.12, 0.1, 0.12).moved(-0.25, 0.2, 0.12))
    )
    return parts


def rocket(bench: Workbench) -> list[Part]:
    """A rocket with its window in front and one fin unlike the others."""
    girth, long = bench.between(0.2, 0.35), bench.between(0.7, 1.1)
    shape = [(0.0, 0.0), (0.8, 0.0), (1.0, 0.3), (0.95, 0.7), (0.5, 0.92), (0.0, 1.0)]
    body = [(r * girth / 2, h * long) for r, h in shape]
    parts = [
        bench.coat(0)(revolved(body, 28)),
        bench.plain(1)(
            cylinder(0, 24).scaled(0.52 * girth, 0.52 * girth, 0.2 * long).moved(0, 0, 0.99 * long)
        ),
        BLACK(cylinder(0.7).scaled(0.6 * girth, 0.6 * girth, 0.08)),
        STEEL(
            ring(0.25)
            .turned("y", math.pi / 2)
            .scaled(0.12, 0.5 * girth, 0.5 * girth)
            .moved(0.46 * girth, 0, 0.62 * long)
        ),
        GLASS(sphere(12).scaled(0.1, 0.4 * girth, 0.4 * girth).moved(0.44 * girth, 0, 0.62 * long)),
        patch(bench.label(), body, 0.25 * long, 0.45 * long, 0.9),
    ]
    count = bench.count(3, 4)
    fin = extruded(
        np.array([(0.0, -0.2), (0.25, -0.35), (0.2, -0.05), (0.0, 0.3)]) - np.array([0.1, 0.0])
    )
    fin = fin.turned("x", math.pi / 2).scaled(1, 0.04, 1).moved(0.1 + 0.4 * girth, 0, 0.25)
    for index in range(count):
        coat = bench.plain(3) if index == 0 else bench.plain(2)
        parts.append(coat(fin.turned("z", 2 * math.pi * index / count + 0.4)))
    return parts
