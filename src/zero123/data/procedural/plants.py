"""Trees, pots, mushrooms."""

import colorsys
import math

import numpy as np

from zero123.data.meshes import Part
from zero123.data.procedural.solids import cylinder, dome, revolved, sphere, superquadric, tube
from zero123.data.procedural.workbench import (
    BOTH,
    LAMP,
    LEAF,
    SOIL,
    WHITE,
    Coat,
    Workbench,
    arc,
    patch,
    rod,
    wood,
)


def tree(bench: Workbench) -> list[Part]:
    """A fir, or a tree of round crowns with fruit, and a low branch on its left."""
    trunk, height = wood(bench), bench.between(0.4, 0.9)
    green = Coat(
        colorsys.hsv_to_rgb(
            bench.between(0.05, 0.42), bench.between(0.4, 0.9), bench.between(0.3, 0.8)
        )
    )
    leaves = bench.coat(0) if bench.chance(0.2) else green
    lean = bench.between(-0.1, 0.1)
    parts = [trunk(rod((0, 0, 0), (lean, 0, height + 0.2), 0.09, 0.05))]
    if bench.chance(0.4):
        count = bench.count(2, 4)
        for index in range(count):
            wide, tall = (
                bench.between(0.6, 0.9) * (1 - index / (count + 1)),
                bench.between(0.35, 0.5),
            )
            cone = cylinder(0, 14).scaled(wide, wide, tall)
            parts.append(leaves(cone.moved(lean, 0, height + 0.3 * index)))
    else:
        for _ in range(bench.count(3, 7)):
            size = bench.between(0.3, 0.6)
            blob = superquadric(0.9, bench.between(0.7, 1.2), 14).scaled(size, size, 0.85 * size)
            at = (
                lean + bench.between(-0.3, 0.3),
                bench.between(-0.3, 0.3),
                height + bench.between(0.0, 0.45),
            )
            parts.append(leaves(blob.moved(*at)))
            if bench.chance(0.6):
                fruit = sphere(8).scaled(0.1, 0.1, 0.1)
                x, y, z = at
                parts.append(bench.plain(1)(fruit.moved(x + 0.45 * size, y + 0.2 * size, z)))
    tip = (0.1, bench.between(0.25, 0.4), height + 0.1)
    parts.append(trunk(rod((0, 0, 0.5 * height), tip, 0.04, 0.02)))
    parts.append(leaves(sphere(12).scaled(0.25, 0.25, 0.2).moved(*tip)))
    if bench.chance(0.5):
        parts.append(
            bench.plain(2)(dome(16).scaled(bench.between(0.5, 1), bench.between(0.5, 1), 0.12))
        )
    return parts


def potted(bench: Workbench) -> list[Part]:
    """A cactus, leaves or flowers in a pot."""
    rim, tall = bench.between(0.22, 0.4), bench.between(0.25, 0.5)
    foot = bench.between(0.6, 0.95)
    wall = [(0.0, 0.0), (foot * rim, 0.0), (rim, tall)]
    pot = revolved([*wall, (0.9 * rim, tall), (0.85 * rim, 0.9 * tall), (0.0, 0.9 * tall)])
    parts = [
        bench.coat(0)(pot),
        SOIL(cylinder().scaled(1.8 * rim, 1.8 * rim, 0.02).moved(0, 0, 0.91 * tall)),
    ]
    if bench.chance(0.5):
        parts.append(patch(bench.label(), wall, 0.3 * tall, 0.75 * tall, 0.9))
    green = Coat(
        colorsys.hsv_to_rgb(
            bench.between(0.2, 0.42), bench.between(0.4, 0.9), bench.between(0.3, 0.75)
        )
    )
    match bench.count(0, 2):
        case 0:  # a cactus
            high = bench.between(0.4, 0.8)
            parts.append(
                green(
                    superquadric(0.5, 1)
                    .scaled(0.24, 0.24, high)
                    .moved(0, 0, tall + high / 2 - 0.05)
                )
            )
            for side in BOTH:
                z = tall + bench.between(0.2, 0.6) * high
                points = [
                    (0.0, 0.0, z),
                    (0.0, side * 0.3, z),
                    (0.0, side * 0.25, z + bench.between(0.1, 0.3)),
                ]
                parts.append(green(tube(arc(points), 0.06)))
            parts.append(
                bench.plain(1)(dome(8).scaled(0.15, 0.15, 0.15).moved(0, 0, tall + high - 0.06))
            )
        case 1:  # leaves all around
            for index in range(bench.count(6, 12)):
                reach, high = bench.between(0.25, 0.55), bench.between(0.2, 0.7)
                points = [
                    (0.0, 0.0, 0.9 * tall),
                    (0.3 * reach, 0, tall + high),
                    (reach, 0, tall + bench.between(0.3, 1) * high),
                ]
                leaf = tube(arc(points), (0.09 * np.sin(np.linspace(0.1, 3.1, 9))).tolist(), 6)
                coat = bench.plain(1) if index % 4 == 3 else green
                parts.append(coat(leaf.scaled(1, 0.9, 1).turned("z", 2.4 * index)))
        case _:  # flowers
            for index in range(bench.count(1, 5)):
                tip = (
                    bench.between(-0.25, 0.3),
                    bench.between(-0.3, 0.3),
                    tall + bench.between(0.3, 0.8),
                )
                parts.append(
                    green(tube(arc([(0, 0, 0.8 * tall), (0, 0, tall + 0.2), tip]), 0.02, 6))
                )
                for petal in range(6):
                    shape = sphere(8).scaled(0.16, 0.1, 0.03).moved(0.09, 0, 0)
                    shape = shape.turned("z", petal * math.pi / 3).turned("y", 0.6)
                    parts.append(bench.plain(index + 1)(shape.moved(*tip)))
                parts.append(LAMP(sphere(8).scaled(0.09, 0.09, 0.06).moved(*tip)))
    return parts


def mushroom(bench: Workbench) -> list[Part]:
    """Spotted mushrooms on grass."""
    parts = []
    for index in range(bench.count(1, 3)):
        size, x, y = (
            bench.between(0.5, 1.0) / (1 + index),
            0.5 * index,
            bench.between(-0.4, 0.4) * index,
        )
        stem = bench.between(0.3, 0.7) * size
        stalk = revolved([(0, 0), (0.16 * size, 0), (0.1 * size, stem), (0, stem)])
        cap = dome(24).scaled(size, size, bench.between(0.6, 1.2) * size).moved(0, 0, stem)
        parts += [WHITE(stalk.moved(x, y, 0)), bench.coat(index)(cap.moved(x, y, 0))]
        for spot in range(bench.count(3, 8)):
            up = bench.between(0.2, 1.3)
            flat = 0.49 * size * math.cos(up)
            dot = sphere(8).scaled(0.14 * size, 0.14 * size, 0.06 * size)
            at = (
                flat * math.cos(spot * 2.2),
                flat * math.sin(spot * 2.2),
                stem + 0.4 * size * math.sin(up),
            )
            parts.append(bench.plain(index + 1)(dot.moved(at[0] + x, at[1] + y, at[2])))
    parts.append(LEAF(dome(16).scaled(bench.between(0.6, 1.4), bench.between(0.6, 1.2), 0.1)))
    return parts
