"""Things that hold something: vases, cups, bottles."""

import numpy as np

from zero123.data.meshes import Part
from zero123.data.procedural.solids import Solid, cylinder, dome, revolved, sphere, tube
from zero123.data.procedural.workbench import LEAF, STEEL, Coat, Workbench, arc, patch, rod


def _smooth_profile(bench: Workbench, low: float, high: float) -> list[tuple[float, float]]:
    """A wavy outline of height 1 between two radii, starting on the axis."""
    knots = [bench.between(low, high) for _ in range(5)]
    heights = np.linspace(0, 1, 14)
    radii = np.interp(heights, np.linspace(0, 1, 5), knots)
    radii = np.convolve(np.pad(radii, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    return [(0.0, 0.0), *((float(r), float(h)) for r, h in zip(radii, heights, strict=True))]


def _hollowed(profile: list[tuple[float, float]], wall: float) -> list[tuple[float, float]]:
    """An outline from its foot over its rim and down inside."""
    inside = [(max(r - wall, 0.01), max(h, 0.06)) for r, h in reversed(profile[1:])]
    return [*profile, *inside, (0.0, 0.06)]


def _handle(bench: Workbench, reach: float, radius: float, low: float, high: float) -> Solid:
    """A bow toward +y, from one height to another."""
    points = [(0.0, radius, low), (0.0, radius + 2 * reach, (low + high) / 2), (0.0, radius, high)]
    return tube(arc(points), bench.between(0.025, 0.05))


def vase(bench: Workbench) -> list[Part]:
    """A wavy vessel, perhaps with a handle on its left, flowers and a label."""
    profile = _smooth_profile(bench, 0.12, 0.42)
    parts = [bench.coat(0)(revolved(_hollowed(profile, 0.03), 28))]
    labelled = bench.chance(0.6)
    if labelled:
        parts.append(patch(bench.label(), profile, 0.35, 0.7))
    if not labelled or bench.chance(0.5):
        radius = profile[7][0] - 0.03
        parts.append(bench.plain(1)(_handle(bench, 0.18, radius, 0.3, 0.75)))
    if bench.chance(0.6):
        for index in range(bench.count(1, 4)):
            tip = (bench.between(-0.3, 0.3), bench.between(-0.3, 0.3), bench.between(1.2, 1.6))
            parts.append(LEAF(tube(arc([(0, 0, 0.3), (0, 0, 1.1), tip]), 0.015, 6)))
            flower = (
                dome(12).scaled(0.24, 0.24, 0.24)
                if bench.chance(0.5)
                else sphere(12).scaled(0.16, 0.16, 0.16)
            )
            parts.append(bench.plain(index + 2)(flower.moved(*tip)))
    return parts


def cup(bench: Workbench) -> list[Part]:
    """A cup with its handle on its left, perhaps on a saucer."""
    foot, rim, height = bench.between(0.25, 0.4), bench.between(0.32, 0.45), bench.between(0.6, 1.0)
    bulge = bench.between(0.4, 1.2)
    wall = [(foot + (rim - foot) * t**bulge, t * height) for t in np.linspace(0, 1, 8).tolist()]
    profile = [(0.0, 0.0), *wall]
    inner = rim - 0.04
    parts = [
        bench.coat(0)(revolved(_hollowed(profile, 0.04), 28)),
        Coat((0.3, 0.18, 0.1))(
            cylinder().scaled(2 * inner, 2 * inner, 0.01).moved(0, 0, 0.85 * height)
        ),
        bench.plain(1)(
            _handle(bench, bench.between(0.15, 0.25), 0.97 * foot, 0.2 * height, 0.8 * height)
        ),
    ]
    if bench.chance(0.7):
        parts.append(patch(bench.label(), profile, 0.3 * height, 0.75 * height))
    if bench.chance(0.4):
        saucer = [(0.0, -0.05), (0.35, -0.05), (0.65, 0.03), (0.66, 0.05), (0.3, 0.0), (0.0, 0.0)]
        parts.append(bench.coat(2)(revolved(saucer, 28)))
        parts.append(STEEL(rod((0.5, -0.4, 0.06), (0.5, 0.35, 0.06), 0.015, 0.03)))
    return parts


def bottle(bench: Workbench) -> list[Part]:
    """A bottle with a label in front."""
    body, neck = bench.between(0.18, 0.3), bench.between(0.06, 0.1)
    shoulder, top = bench.between(0.5, 0.75), bench.between(0.95, 1.15)
    bend = (0.8 * body + 0.2 * neck, shoulder + 0.08)
    profile = [(0.0, 0.0), (body, 0.0), (body, shoulder), bend]
    profile += [(neck, shoulder + 0.18), (neck, top), (0.0, top)]
    parts = [
        bench.plain(0)(revolved(profile, 28)),
        bench.plain(1)(cylinder().scaled(2.3 * neck, 2.3 * neck, 0.12).moved(0, 0, top)),
        patch(bench.label(), profile, 0.1, shoulder - 0.08, bench.between(1.5, 3.0)),
    ]
    if bench.chance(0.4):
        parts.append(bench.plain(2)(_handle(bench, 0.1, 0.9 * body, 0.2, shoulder)))
    if bench.chance(0.3):
        parts.append(bench.plain(3)(rod((0, 0, top), (0.22, 0, top + 0.1), 0.04, 0.03)))
    return parts
