"""Endless made-up objects: upright, coloured, and different from every side."""

import math
from collections.abc import Callable

import numpy as np

from zero123.data.meshes import Mesh, Part, join
from zero123.data.procedural.beings import bird, character, quadruped, robot
from zero123.data.procedural.buildings import castle, house
from zero123.data.procedural.furniture import cabinet, chair, lamp, sofa, table
from zero123.data.procedural.goods import books, cake, fruit, package, shoe, tool
from zero123.data.procedural.plants import mushroom, potted, tree
from zero123.data.procedural.shapes import assembly, rounded, sign, stack
from zero123.data.procedural.vehicles import boat, car, plane, rocket, truck
from zero123.data.procedural.vessels import bottle, cup, vase
from zero123.data.procedural.workbench import Workbench, yawed

Family = Callable[[Workbench], list[Part]]
"""Makes one object of its kind, with the front toward +x, the left toward +y, up toward +z."""

FAMILIES: tuple[Family, ...] = (
    assembly,
    bird,
    boat,
    books,
    bottle,
    cabinet,
    cake,
    car,
    castle,
    chair,
    character,
    cup,
    fruit,
    house,
    lamp,
    mushroom,
    package,
    plane,
    potted,
    quadruped,
    robot,
    rocket,
    rounded,
    shoe,
    sign,
    sofa,
    stack,
    table,
    tool,
    tree,
    truck,
    vase,
)


def procedural_mesh(seed: int) -> Mesh:
    """Make an object up, turned any way around +z; the same seed makes the same object."""
    bench = Workbench.open(np.random.default_rng(seed))
    family = FAMILIES[int(bench.rng.integers(len(FAMILIES)))]
    return join(yawed(family(bench), bench.between(-math.pi, math.pi)))
