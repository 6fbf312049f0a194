"""Houses and castles."""

import math

import numpy as np

from zero123.data.meshes import Part
from zero123.data.procedural.solids import Solid, box, cylinder, extruded, sphere
from zero123.data.procedural.workbench import (
    BLACK,
    BOTH,
    GLASS,
    LAMP,
    LEAF,
    STEEL,
    Coat,
    Point,
    Workbench,
    rod,
    wood,
)


def _roof(deep: float, wide: float, height: float) -> Solid:
    """A gable roof of this size on the ground, its ridge along x."""
    gable = np.array([[-0.5, -0.33], [0.5, -0.33], [0.0, 0.67]])
    stood = extruded(gable).turned("x", math.pi / 2).turned("z", math.pi / 2)
    return stood.scaled(deep, wide, height).moved(0, 0, 0.33 * height)


def house(bench: Workbench) -> list[Part]:
    """A house with its door in front and a shed on its right."""
    deep, wide, height = bench.between(0.5, 0.9), bench.between(0.5, 0.9), bench.between(0.4, 1.0)
    wall, roof, frame = bench.coat(0), bench.coat(1), bench.plain(2)
    parts = [wall(box().scaled(deep, wide, height).moved(0, 0, height / 2))]
    if bench.chance(0.7):
        pitch = bench.between(0.25, 0.5)
        parts.append(roof(_roof(deep * 1.15, wide * 1.2, pitch).moved(0, 0, height)))
    else:
        pitch = bench.between(0.2, 0.6)
        hip = cylinder(0, 4).turned("z", math.pi / 4).scaled(1.65 * deep, 1.65 * wide, pitch)
        parts.append(roof(hip.moved(0, 0, height + pitch / 2)))
    at = bench.between(-0.3, 0.3) * wide
    parts.append(frame(box().scaled(0.04, 0.18, 0.34).moved(deep / 2, at, 0.17)))
    parts.append(LAMP(sphere(8).scaled(0.03, 0.03, 0.03).moved(deep / 2 + 0.03, at + 0.06, 0.17)))
    for level in range(max(1, round(height / 0.45))):
        z = 0.3 + 0.42 * level
        for side in (-1, 1):
            y = at + side * 0.28
            if abs(y) < wide / 2 - 0.08 and z < height - 0.05:
                parts += _window(frame, (deep / 2, y, z), 0)
        for x in (-0.25 * deep, 0.25 * deep):
            if bench.chance(0.6) and z < height - 0.05:
                parts += _window(frame, (x, wide / 2, z), 1)
            if bench.chance(0.3) and z < height - 0.05:
                parts += _window(frame, (x, -wide / 2, z), 1)
    if bench.chance(0.7):
        stack = (
            box().scaled(0.12, 0.12, pitch).moved(-0.2 * deep, 0.22 * wide, height + 0.6 * pitch)
        )
        parts.append(bench.coat(3)(stack))
    if bench.chance(0.5):
        shed = box().scaled(0.6 * deep, 0.3, 0.5 * height)
        parts.append(bench.coat(4)(shed.moved(-0.1, -wide / 2 - 0.15, 0.25 * height)))
    if bench.chance(0.5):
        parts.append(LEAF(box().scaled(deep + 0.5, wide + 0.5, 0.04)))
        parts.append(bench.plain(3)(box().scaled(0.25, 0.18, 0.05).moved(deep / 2 + 0.12, at, 0)))
    return parts


def _window(frame: Coat, at: Point, axis: int) -> list[Part]:
    thin, size = (0.03, 0.17, 0.2), (0.05, 0.12, 0.15)
    outer, pane = (
        (box().scaled(*thin), box().scaled(*size))
        if axis == 0
        else (
            box().scaled(*thin).turned("z", math.pi / 2),
            box().scaled(*size).turned("z", math.pi / 2),
        )
    )
    return [frame(outer.moved(*at)), GLASS(pane.moved(*at))]


def castle(bench: Workbench) -> list[Part]:
    """Four unlike towers around a yard, the gate in front."""
    wall, roof = bench.coat(0), bench.plain(1)
    side, height = bench.between(0.5, 0.8), bench.between(0.3, 0.6)
    parts = [wall(box().scaled(side, side, height).moved(0, 0, height / 2))]
    for step in np.linspace(-0.45, 0.45, 5):
        for axis in (0, 1):
            for edge in BOTH:
                x, y = (edge * side / 2, step * side) if axis else (step * side, edge * side / 2)
                parts.append(wall(box().scaled(0.08, 0.08, 0.1).moved(x, y, height + 0.04)))
    for i in BOTH:
        for j in BOTH:
            tall, thick = height * bench.between(1.0, 2.2), bench.between(0.18, 0.32)
            tower = cylinder(segments=16).scaled(thick, thick, tall)
            parts.append(wall(tower.moved(i * side / 2, j * side / 2, tall / 2)))
            if bench.chance(0.8):
                cone = cylinder(0, 16).scaled(1.3 * thick, 1.3 * thick, 0.35)
                parts.append(roof(cone.moved(i * side / 2, j * side / 2, tall + 0.17)))
            if bench.chance(0.4):
                x, y = i * side / 2, j * side / 2
                parts.append(STEEL(rod((x, y, tall + 0.2), (x, y, tall + 0.6), 0.012)))
                parts.append(
                    bench.plain(2)(box().scaled(0.16, 0.01, 0.1).moved(x - 0.08, y, tall + 0.52))
                )
    parts.append(
        BLACK(
            cylinder(segments=16)
            .turned("y", math.pi / 2)
            .scaled(0.05, 0.24, 0.4)
            .moved(side / 2, 0, 0.1)
        )
    )
    parts.append(wood(bench)(box().scaled(0.2, 0.2, 0.03).moved(side / 2 + 0.1, 0, 0.015)))
    return parts
