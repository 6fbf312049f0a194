"""Things of a room: to sit on, to put things on, to keep things in, to read by."""

import math

import numpy as np

from zero123.data.meshes import Part
from zero123.data.procedural.solids import box, cylinder, dome, revolved, sphere, superquadric, tube
from zero123.data.procedural.workbench import (
    BLACK,
    BOTH,
    LAMP,
    RED,
    STEEL,
    Coat,
    Workbench,
    arc,
    rod,
    wood,
)


def _legs(coat: Coat, x: float, y: float, height: float, thick: float, round_: bool) -> list[Part]:
    shape = cylinder(1.3, 10) if round_ else box()
    leg = shape.scaled(thick, thick, height)
    return [coat(leg.moved(i * x, j * y, height / 2)) for i in BOTH for j in BOTH]


def chair(bench: Workbench) -> list[Part]:
    """A chair on four legs or a star, with or without cushion and arms."""
    wide, deep, seat = bench.between(0.45, 0.6), bench.between(0.45, 0.6), bench.between(0.4, 0.55)
    back, thick = bench.between(0.4, 0.75), bench.between(0.04, 0.08)
    frame = wood(bench) if bench.chance(0.5) else bench.plain(0)
    cover = bench.coat(1)
    parts = [frame(box().scaled(deep, wide, thick).moved(0, 0, seat))]
    if bench.chance(0.7):
        inset = 0.5 - thick / 2
        parts += _legs(frame, inset * deep, inset * wide, seat, thick, bench.chance(0.5))
    else:
        parts.append(STEEL(cylinder().scaled(0.07, 0.07, seat).moved(0, 0, seat / 2)))
        for index in range(5):
            star = rod((0, 0, 0.06), (0.3, 0, 0.0), 0.03)
            parts.append(BLACK(star.turned("z", index * 0.4 * math.pi)))
    if bench.chance(0.6):
        parts.append(
            cover(superquadric(0.3, 0.3).scaled(deep, wide, 0.14).moved(0, 0, seat + 0.06))
        )
    lean = bench.between(0.0, 0.25)
    rest = box().scaled(thick, wide, back).moved(0, 0, back / 2).turned("y", -lean)
    if bench.chance(0.5):
        parts.append(cover(rest.moved(-deep / 2, 0, seat)))
    else:
        for step in np.linspace(-0.45, 0.45, bench.count(3, 6)):
            slat = box().scaled(thick, 0.06, back).moved(0, step * wide, back / 2)
            parts.append(frame(slat.turned("y", -lean).moved(-deep / 2, 0, seat)))
        bar = box().scaled(1.3 * thick, wide, 0.1).moved(0, 0, back).turned("y", -lean)
        parts.append(frame(bar.moved(-deep / 2, 0, seat)))
    for side in BOTH if bench.chance(0.4) else ():
        parts.append(frame(box().scaled(deep, 0.05, 0.04).moved(0, side * wide / 2, seat + 0.22)))
        post = box().scaled(0.05, 0.05, 0.22)
        parts.append(frame(post.moved(0.4 * deep, side * wide / 2, seat + 0.11)))
    return parts


def sofa(bench: Workbench) -> list[Part]:
    """A sofa with cushions and scattered pillows, perhaps with one arm only."""
    wide, deep = bench.between(0.9, 1.6), bench.between(0.5, 0.65)
    cover, arm = bench.coat(0), bench.between(0.1, 0.2)
    parts = [
        cover(box().scaled(deep, wide, 0.25).moved(0, 0, 0.2)),
        cover(
            superquadric(0.3, 0.3)
            .scaled(0.2, wide, bench.between(0.5, 0.7))
            .moved(-deep / 2, 0, 0.45)
        ),
        *_legs(wood(bench), 0.4 * deep, 0.45 * wide, 0.1, 0.05, round_=True),
    ]
    seats = max(1, round(wide / 0.55))
    for index in range(seats):
        at = ((index + 0.5) / seats - 0.5) * (wide - arm)
        cushion = superquadric(0.35, 0.35).scaled(deep, (wide - arm) / seats, 0.2)
        parts.append(bench.coat(1)(cushion.moved(0.03, at, 0.36)))
    for side in BOTH if bench.chance(0.7) else (1,):
        rest = superquadric(0.3, 0.5).scaled(deep * 1.1, arm, 0.4)
        parts.append(cover(rest.moved(0, side * wide / 2, 0.32)))
    for index in range(bench.count(0, 2)):
        pillow = superquadric(0.6, 0.4).scaled(0.12, 0.3, 0.3).turned("y", -0.35)
        parts.append(
            bench.coat(2 + index)(pillow.moved(-0.1, bench.between(-0.35, 0.35) * wide, 0.55))
        )
    return parts


def table(bench: Workbench) -> list[Part]:
    """A table with drawers on its left or a single foot, and things on it."""
    deep, wide, height = bench.between(0.5, 0.8), bench.between(0.6, 1.2), bench.between(0.4, 0.75)
    frame = wood(bench) if bench.chance(0.6) else bench.plain(0)
    top = bench.coat(1) if bench.chance(0.5) else frame
    oval = bench.chance(0.35)
    shape = cylinder(segments=32) if oval else box()
    parts = [top(shape.scaled(deep, wide, 0.05).moved(0, 0, height))]
    if oval and bench.chance(0.6):
        parts.append(frame(cylinder(0.5).scaled(0.2, 0.2, height).moved(0, 0, height / 2)))
        parts.append(frame(cylinder(0.7).scaled(0.5, 0.5, 0.06)))
    else:
        inset = 0.3 if oval else 0.45
        parts += _legs(frame, inset * deep, inset * wide, height, bench.between(0.04, 0.09), oval)
        drawers = box().scaled(0.9 * deep, 0.35 * wide, 0.5 * height)
        parts.append(frame(drawers.moved(0, 0.25 * wide, 0.7 * height)))
        for level in (0.58, 0.82):
            front = box().scaled(0.03, 0.3 * wide, 0.2 * height)
            parts.append(bench.plain(2)(front.moved(0.46 * deep, 0.25 * wide, level * height)))
            knob = sphere(8).scaled(0.04, 0.04, 0.04)
            parts.append(STEEL(knob.moved(0.48 * deep, 0.25 * wide, level * height)))
    for index in range(bench.count(1, 3)):
        x, y, size = (
            bench.between(-0.3, 0.3) * deep,
            bench.between(-0.35, 0.35) * wide,
            bench.between(0.1, 0.2),
        )
        thing = [box(), cylinder(0.7), sphere()][bench.count(0, 2)].scaled(size, size, 1.2 * size)
        parts.append(bench.coat(index + 2)(thing.moved(x, y, height + 0.02 + 0.6 * size)))
    return parts


def cabinet(bench: Workbench) -> list[Part]:
    """Drawers or doors, one unlike the others, and a thing on top."""
    deep, wide, height = bench.between(0.25, 0.5), bench.between(0.4, 0.9), bench.between(0.5, 1.3)
    frame = wood(bench) if bench.chance(0.5) else bench.coat(0)
    parts = [frame(box().scaled(deep, wide, height).moved(0, 0, height / 2))]
    rows, columns = bench.count(1, 4), bench.count(1, 3)
    odd = bench.count(0, rows * columns - 1)
    for cell in range(rows * columns):
        row, column = divmod(cell, columns)
        y, z = ((column + 0.5) / columns - 0.5) * wide, (row + 0.5) / rows * height
        front = box().scaled(0.03, 0.88 * wide / columns, 0.86 * height / rows)
        coat = bench.coat(2) if cell == odd else bench.plain(1)
        parts.append(coat(front.moved(deep / 2, y, z)))
        knob = (
            box().scaled(0.04, 0.02, 0.1)
            if bench.chance(0.5)
            else sphere(8).scaled(0.05, 0.05, 0.05)
        )
        parts.append(STEEL(knob.moved(deep / 2 + 0.03, y + 0.3 * wide / columns, z)))
    thing = [box(), cylinder(0.6), dome(), sphere()][bench.count(0, 3)].scaled(0.2, 0.2, 0.25)
    parts.append(bench.coat(3)(thing.moved(0, bench.between(-0.3, 0.3) * wide, height + 0.12)))
    return parts


def lamp(bench: Workbench) -> list[Part]:
    """A table lamp that leans forward, its cable behind."""
    height, shade = bench.between(0.5, 1.2), bench.between(0.35, 0.7)
    arm = bench.between(0.0, 0.4)
    metal = bench.plain(0) if bench.chance(0.6) else STEEL
    tip = (arm, 0.0, height)
    bell = revolved([(0.5, -0.5), (bench.between(0.1, 0.45), 0.5), (0.08, 0.5), (0.47, -0.5)], 28)
    return [
        bench.coat(1)(cylinder(0.8, 28).scaled(0.4, 0.4, 0.08).moved(0, 0, 0.04)),
        metal(tube(arc([(0, 0, 0), (0, 0, height), tip]), bench.between(0.015, 0.035))),
        bench.coat(2)(bell.scaled(shade, shade, 0.7 * shade).moved(arm, 0, height)),
        LAMP(sphere(12).scaled(0.16, 0.16, 0.2).moved(arm, 0, height - 0.05)),
        RED(cylinder(segments=10).scaled(0.08, 0.08, 0.05).moved(0.13, 0.05, 0.09)),
        BLACK(tube(arc([(-0.15, 0, 0.02), (-0.4, 0.2, 0.02), (-0.45, -0.1, 0.02)]), 0.015, 6)),
    ]
