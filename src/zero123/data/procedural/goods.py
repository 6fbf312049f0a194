"""Things of a shop: tools, packages, books, shoes, cakes, fruit."""

import colorsys
import math
from dataclasses import replace

import numpy as np

from zero123.data.meshes import Part
from zero123.data.procedural.patterns import draw_pattern
from zero123.data.procedural.solids import (
    box,
    cylinder,
    dome,
    extruded,
    revolved,
    ring,
    sphere,
    superquadric,
    tube,
)
from zero123.data.procedural.workbench import (
    BLACK,
    BOTH,
    LAMP,
    LEAF,
    RED,
    SOIL,
    STEEL,
    WHITE,
    Coat,
    Workbench,
    arc,
    rod,
    wood,
    yawed,
)


def tool(bench: Workbench) -> list[Part]:
    """A hammer, axe, brush, screwdriver or spoon, upright or lying."""
    handle = wood(bench) if bench.chance(0.5) else bench.plain(0)
    grip = bench.coat(1)
    long = bench.between(0.7, 1.0)
    parts = [
        handle(rod((0, 0, 0), (0, 0, long), bench.between(0.025, 0.05))),
        grip(superquadric(0.4, 0.8).scaled(0.12, 0.14, 0.35 * long).moved(0, 0, 0.15 * long)),
    ]
    match bench.count(0, 4):
        case 0:
            parts.append(STEEL(box().scaled(0.3, 0.14, 0.14).moved(0.06, 0, long)))
            parts.append(
                bench.plain(2)(
                    cylinder(0.3, 4)
                    .turned("y", -math.pi / 2)
                    .scaled(0.25, 0.1, 0.16)
                    .moved(-0.2, 0, long)
                )
            )
        case 1:
            blade = extruded(
                np.array(
                    [(0.0, -0.1), (0.3, -0.22), (0.34, 0.0), (0.3, 0.22), (0.0, 0.1), (-0.06, 0)]
                )
            )
            parts.append(
                STEEL(blade.turned("x", math.pi / 2).scaled(1, 0.06, 1).moved(0.03, 0, 0.92 * long))
            )
        case 2:
            parts.append(STEEL(box().scaled(0.05, 0.3, 0.16).moved(0, 0, long)))
            parts.append(
                bench.coat(2)(box().tapered(0.4, 1).scaled(0.07, 0.3, 0.25).moved(0, 0, long + 0.2))
            )
        case 3:
            parts.append(STEEL(cylinder(0.9, 10).scaled(0.05, 0.05, 0.5).moved(0, 0, long + 0.2)))
            parts.append(
                STEEL(box().tapered(0.2, 1.4).scaled(0.04, 0.07, 0.1).moved(0, 0, long + 0.48))
            )
        case _:
            bowl = sphere().scaled(0.12, 0.26, 0.4).moved(0.02, 0, long + 0.15)
            parts.append(bench.coat(2)(bowl))
            parts.append(
                bench.plain(3)(sphere(12).scaled(0.04, 0.2, 0.3).moved(0.075, 0, long + 0.15))
            )
    if bench.chance(0.5):
        return [replace(part, vertices=part.vertices[:, [2, 1, 0]] * (1, 1, -1)) for part in parts]
    return parts


def package(bench: Workbench) -> list[Part]:
    """A printed box with other pictures on other sides."""
    deep, wide, height = bench.between(0.15, 0.8), bench.between(0.4, 0.9), bench.between(0.3, 1.1)
    parts = [bench.plain(0)(box().scaled(deep, wide, height))]
    thin = 0.01
    faces = [
        (thin, 0.98 * wide, 0.98 * height, deep / 2, 0, 0),
        (thin, 0.98 * wide, 0.98 * height, -deep / 2, 0, 0),
        (0.98 * deep, thin, 0.98 * height, 0, wide / 2, 0),
        (0.98 * deep, thin, 0.98 * height, 0, -wide / 2, 0),
        (0.98 * deep, 0.98 * wide, thin, 0, 0, height / 2),
    ]
    for index, (sx, sy, sz, x, y, z) in enumerate(faces):
        coat = bench.label() if index == 0 or bench.chance(0.4) else bench.coat(index)
        parts.append(coat(box().scaled(sx, sy, sz).moved(x, y, z)))
    if bench.chance(0.3):
        ribbon = bench.plain(3)
        parts.append(ribbon(box().scaled(1.03 * deep, 0.12 * wide, 1.03 * height)))
        parts.append(ribbon(box().scaled(0.12 * deep, 1.03 * wide, 1.03 * height)))
        for side in BOTH:
            bow = ring(0.15).turned("x", math.pi / 2).scaled(0.3, 0.2, 0.2)
            parts.append(ribbon(bow.moved(side * 0.13, 0, 0.5 * height + 0.08)))
    return parts


def books(bench: Workbench) -> list[Part]:
    """A pile of books, their backs to the front, perhaps with a thing on top."""
    parts: list[Part] = []
    floor = 0.0
    for index in range(bench.count(1, 5)):
        deep, wide, thick = (
            bench.between(0.5, 0.65),
            bench.between(0.7, 0.9),
            bench.between(0.06, 0.2),
        )
        turn = bench.between(-0.35, 0.35)
        cover = bench.plain(index)
        pieces = [
            WHITE(box().scaled(0.95 * deep, 0.94 * wide, 0.8 * thick).moved(-0.01, 0, 0)),
            cover(box().scaled(0.03, wide, thick).moved(deep / 2, 0, 0)),
            bench.label()(
                box().scaled(0.01, 0.5 * wide, 0.7 * thick).moved(deep / 2 + 0.015, 0, 0)
            ),
            *(cover(box().scaled(deep, wide, 0.02).moved(0, 0, s * thick / 2)) for s in BOTH),
            bench.label()(
                box().scaled(0.9 * deep, 0.9 * wide, 0.005).moved(0, 0, thick / 2 + 0.01)
            ),
        ]
        up = np.array([0, 0, floor + thick / 2])
        parts += [replace(p, vertices=p.vertices + up) for p in yawed(pieces, turn)]
        floor += thick + 0.025
    if bench.chance(0.4):
        thing = [sphere(), cylinder(0.7), dome()][bench.count(0, 2)].scaled(0.25, 0.25, 0.25)
        parts.append(bench.coat(3)(thing.moved(0.05, 0.15, floor + 0.12)))
    return parts


def shoe(bench: Workbench) -> list[Part]:
    """A shoe with laces, a badge on its left."""
    upper, sole = bench.coat(0), WHITE if bench.chance(0.5) else bench.plain(1)
    ankle = bench.between(0.25, 0.55)
    side = 0.06 * float(bench.rng.choice([-1, 1]))
    parts = [
        sole(superquadric(0.2, 0.6).scaled(1.05, 0.38, 0.12).moved(0, 0, 0.06)),
        upper(superquadric(0.8, 0.7).scaled(0.6, 0.34, 0.4).moved(0.2, side, 0.18)),
        upper(
            superquadric(0.4, 0.8).scaled(0.5, 0.33, ankle + 0.1).moved(-0.24, 0, 0.1 + ankle / 2)
        ),
        BLACK(superquadric(0.3, 0.8).scaled(0.38, 0.24, 0.1).moved(-0.24, 0, 0.12 + ankle)),
        bench.plain(2)(superquadric(0.7, 0.7).scaled(0.25, 0.33, 0.24).moved(0.4, side, 0.14)),
        bench.plain(3)(box().scaled(0.04, 0.2, 0.25).moved(-0.49, 0, 0.2)),
        bench.plain(4)(box().turned("y", 0.4).scaled(0.3, 0.02, 0.1).moved(-0.05, 0.165, 0.22)),
    ]
    for index in range(4):
        lace = box().scaled(0.025, 0.18, 0.02).turned("y", 0.5)
        parts.append(WHITE(lace.moved(0.02 + 0.08 * index, 0.6 * side, 0.4 - 0.035 * index)))
    return parts


def cake(bench: Workbench) -> list[Part]:
    """Layers with a slice missing, toppings and candles."""
    parts: list[Part] = []
    floor, radius = 0.0, bench.between(0.4, 0.6)
    gap = bench.between(0.3, 1.6)
    for index in range(bench.count(1, 3)):
        tall = bench.between(0.15, 0.3)
        turn = np.linspace(gap / 2, 2 * math.pi - gap / 2, 30)
        edge = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
        piece = extruded(np.concatenate([[[1e-3, 0.0]], edge]))
        parts.append(bench.coat(index)(piece.scaled(1, 1, tall).moved(0, 0, floor + tall / 2)))
        parts.append(
            bench.plain(index + 1)(piece.scaled(1.02, 1.02, 0.05).moved(0, 0, floor + tall))
        )
        floor, radius = floor + tall + 0.02, radius * bench.between(0.65, 0.85)
    for _ in range(bench.count(2, 7)):
        angle, away = (
            bench.between(gap / 2, 2 * math.pi - gap / 2),
            bench.between(0.3, 1.1) * radius,
        )
        x, y = away * math.cos(angle), away * math.sin(angle)
        if bench.chance(0.5):
            parts.append(RED(sphere(10).scaled(0.12, 0.12, 0.12).moved(x, y, floor + 0.05)))
        else:
            parts.append(
                bench.coat(3)(
                    cylinder(segments=8).scaled(0.05, 0.05, 0.25).moved(x, y, floor + 0.12)
                )
            )
            parts.append(LAMP(sphere(8).scaled(0.05, 0.05, 0.09).moved(x, y, floor + 0.28)))
    parts.append(WHITE(cylinder(1.1, 32).scaled(1.25, 1.25, 0.04).moved(0, 0, -0.02)))
    return parts


def fruit(bench: Workbench) -> list[Part]:
    """A fruit with a stalk, a leaf and a blush; sometimes bitten into by its neighbours."""
    parts = []
    for index in range(bench.count(1, 3)):
        hue, size = (
            float(bench.rng.choice([0.0, 0.03, 0.09, 0.15, 0.27, 0.8])),
            bench.between(0.35, 0.6),
        )
        skin = colorsys.hsv_to_rgb(hue, bench.between(0.6, 0.95), bench.between(0.5, 0.95))
        other = colorsys.hsv_to_rgb((hue + 0.1) % 1, 0.7, 0.85)
        coat = (
            Coat((1.0, 1.0, 1.0), draw_pattern(bench.rng, skin, other))
            if bench.chance(0.4)
            else Coat(skin)
        )
        waist = [
            (0.0, 0.06),
            (0.2, 0.0),
            (0.4, 0.15),
            (0.5, 0.45),
            (0.42, 0.75),
            (0.2, 0.9),
            (0.05, 0.82),
            (0, 0.8),
        ]
        slim = bench.between(0.6, 1.0)
        body = revolved([(r * slim, h) for r, h in waist]).scaled(size, size, size)
        x, y = 0.55 * (index % 2), 0.5 * (index // 2) + 0.1 * index
        stalk = tube(
            arc([(0, 0, 0.75 * size), (0, 0, 0.9 * size), (0.06, 0.03, 1.1 * size)]), 0.018, 6
        )
        leaf = sphere(10).scaled(0.25, 0.12, 0.02).turned("y", -0.5).moved(0.13, 0, 0.98 * size)
        parts += [coat(body.moved(x, y, 0)), SOIL(stalk.moved(x, y, 0)), LEAF(leaf.moved(x, y, 0))]
        blush = sphere(12).scaled(0.03, 0.2, 0.2).moved(0.49 * slim * size, 0, 0.47 * size)
        parts.append(bench.plain(index)(blush.moved(x, y, 0)))
    if bench.chance(0.4):
        bowl = [(0.0, -0.12), (0.3, -0.12), (0.75, 0.15), (0.78, 0.16), (0.32, -0.06), (0.0, -0.06)]
        parts.append(bench.coat(4)(revolved(bowl, 28).moved(0.2, 0.15, 0.05)))
    return parts
