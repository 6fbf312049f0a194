"""Abstract objects: stacked, rounded, cut out, and pushed into each other."""

import math

import numpy as np
from jaxtyping import Float64

from zero123.data.meshes import Part
from zero123.data.procedural.solids import box, cylinder, dome, extruded, ring, sphere, superquadric
from zero123.data.procedural.workbench import Point, Workbench, rod


def stack(bench: Workbench) -> list[Part]:
    """Toy blocks on top of each other, each a little off, with a knob at the front."""
    parts: list[Part] = []
    height, width = 0.0, 1.0
    for index in range(bench.count(3, 6)):
        tall = bench.between(0.2, 0.7)
        shapes = [box(), cylinder(), cylinder(0.6), cylinder(segments=6), sphere(), dome()]
        shape = shapes[bench.count(0, 5)]
        base = 0.0 if shape is dome() else tall / 2
        rise = 2 * tall if shape is dome() else tall
        solid = shape.scaled(width, width * bench.between(0.7, 1), rise).moved(
            bench.between(-0.1, 0.1), bench.between(-0.1, 0.1), height + base
        )
        parts.append(bench.coat(index)(solid))
        if index == 0:
            parts.append(
                bench.plain(3)(sphere().scaled(0.3, 0.3, 0.3).moved(width / 2, 0, tall / 2))
            )
        height, width = height + tall, width * bench.between(0.65, 1.0)
    return parts


def rounded(bench: Workbench) -> list[Part]:
    """A rounded body with smaller ones grown out of it, a label in front, a fin behind."""
    parts = []
    size = [bench.between(0.5, 1.0) for _ in range(3)]
    core = superquadric(bench.between(0.2, 1.6), bench.between(0.2, 1.6)).scaled(
        size[0], size[1], size[2]
    )
    parts.append(bench.coat(0)(core))
    for index in range(bench.count(2, 5)):
        place = bench.rng.normal(size=3)
        place *= 0.45 / np.linalg.norm(place)
        bump = superquadric(bench.between(0.2, 1.5), bench.between(0.2, 1.5), 16)
        bump = bump.scaled(
            bench.between(0.15, 0.45), bench.between(0.15, 0.45), bench.between(0.15, 0.45)
        )
        x, y, z = (float(p * s) for p, s in zip(place, size, strict=True))
        parts.append(bench.coat(index + 1)(bump.moved(x, y, z)))
    plate = box().scaled(0.06, 0.45 * size[1], 0.45 * size[2])
    parts.append(bench.label()(plate.moved(0.5 * size[0], 0, 0)))
    parts.append(
        bench.plain(2)(box().scaled(0.3, 0.05, 0.4).moved(-0.5 * size[0], 0, 0.2 * size[2]))
    )
    return parts


def _outline(bench: Workbench) -> Float64[np.ndarray, "n 2"]:
    """A star, a gear, a heart, an arrow, a blob, or a polygon, about 1 wide."""
    turn = np.linspace(0, 2 * math.pi, 41)[:-1]
    match bench.count(0, 5):
        case 0:
            points = bench.count(4, 8)
            turn = np.linspace(0, 2 * math.pi, 2 * points + 1)[:-1] + math.pi / 2
            radius = np.where(np.arange(2 * points) % 2, bench.between(0.18, 0.35), 0.5)
        case 1:
            radius = np.where(np.arange(40) // 2 % 2, 0.4, 0.5)
        case 2:
            x = 16 * np.sin(turn) ** 3
            y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
            return np.stack([x, y], axis=1)[::-1] / 34
        case 3:
            arrow = [(0.5, 0), (0.05, 0.45), (0.05, 0.18), (-0.5, 0.18)]
            return np.array([*arrow, *((x, -y) for x, y in reversed(arrow[1:]))])
        case 4:
            waves = bench.count(2, 5)
            radius = 0.4 + 0.1 * np.sin(waves * turn + bench.between(0, 6)) + 0.05 * np.sin(turn)
        case _:
            turn = np.linspace(0, 2 * math.pi, bench.count(3, 8) + 1)[:-1] + bench.between(0, 1)
            radius = np.full(len(turn), 0.5)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def sign(bench: Workbench) -> list[Part]:
    """An upright cut-out on a stand; its back is another colour."""
    outline, thick = _outline(bench), bench.between(0.06, 0.2)
    plate = extruded(outline).turned("y", math.pi / 2).turned("x", math.pi / 2)
    lift = bench.between(0.55, 1.0)
    parts = [
        bench.coat(0)(plate.scaled(thick, 1, 1).moved(0, 0, lift)),
        bench.coat(1)(plate.scaled(0.5 * thick, 0.9, 0.9).moved(-0.3 * thick, 0, lift)),
        bench.label()(box().scaled(0.04, 0.3, 0.3).moved(0.5 * thick, 0, lift)),
        bench.plain(2)(rod((0, 0, 0), (0, 0, lift), 0.05)),
    ]
    foot = cylinder(0.8) if bench.chance(0.5) else box()
    parts.append(bench.plain(3)(foot.scaled(0.4, 0.5, 0.1)))
    return parts


def assembly(bench: Workbench) -> list[Part]:
    """A machine: shapes of all kinds pushed into a core."""
    parts = [
        bench.coat(0)(
            box().scaled(bench.between(0.4, 0.8), bench.between(0.4, 0.8), bench.between(0.3, 0.7))
        )
    ]
    for index in range(bench.count(4, 9)):
        shape = [
            box(),
            cylinder(),
            cylinder(0.5),
            sphere(),
            ring(0.25),
            dome(),
            box().tapered(0.5, 1),
        ][bench.count(0, 6)]
        shape = shape.scaled(
            bench.between(0.15, 0.6), bench.between(0.15, 0.6), bench.between(0.15, 0.6)
        )
        axis: Point = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)][bench.count(0, 2)]
        turned = shape.turned("x", axis[0] * math.pi / 2).turned("y", axis[1] * math.pi / 2)
        x, y, z = (bench.between(-0.4, 0.4) for _ in range(3))
        parts.append(bench.coat(index + 1)(turned.moved(x, y, z)))
    parts.append(bench.plain(2)(rod((0, 0, 0), (bench.between(0.4, 0.8), 0.1, 0.2), 0.05)))
    return parts
