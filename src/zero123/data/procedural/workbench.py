"""What made-up objects are made with: drawn numbers and colours, coats, rods and labels."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, UInt8

from zero123.data.color import linear_from_srgb
from zero123.data.meshes import Part
from zero123.data.procedural.patterns import Color, draw_label, draw_pattern
from zero123.data.procedural.solids import Real, Solid, grid, pairs, tube

Point = tuple[Real, Real, Real]
"""A place in an object's own frame: the front toward +x, the left toward +y, up toward +z."""

BOTH = (-1, 1)
"""The two sides."""


@dataclass(frozen=True)
class Workbench:
    """What one object is made with."""

    rng: np.random.Generator
    palette: tuple[Color, ...]
    """Five colours that go together, sRGB in [0, 1]."""
    patterned: float
    """How likely a patterned coat is."""

    @classmethod
    def open(cls, rng: np.random.Generator) -> "Workbench":
        """Choose colours: bold, pale, earthy, or greys with one accent."""
        mood, hue = int(rng.integers(4)), float(rng.random())
        colors = []
        for index in range(5):
            hue = (hue + float(rng.choice([0.03, 0.08, 0.33, 0.5, 0.61]))) % 1
            saturation, value = (float(v) for v in rng.random(2))
            if mood == 0 or (mood == 3 and index == 3):
                saturation, value = 0.6 + 0.4 * saturation, 0.45 + 0.55 * value
            elif mood == 1:
                saturation, value = 0.15 + 0.35 * saturation, 0.7 + 0.3 * value
            elif mood == 2:
                hue = float(rng.choice([0.03, 0.07, 0.1, 0.14, 0.28]))
                saturation, value = 0.3 + 0.5 * saturation, 0.2 + 0.65 * value
            else:
                saturation, value = 0.12 * saturation, 0.12 + 0.85 * value
            colors.append(colorsys.hsv_to_rgb(hue, saturation, value))
        return cls(rng, tuple(colors), float(rng.choice([0.1, 0.4, 0.8])))

    def between(self, low: Real, high: Real) -> float:
        """An even draw."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: Real) -> bool:
        """Whether something happens that does in this share of cases."""
        return bool(self.rng.random() < share)

    def count(self, low: int, high: int) -> int:
        """An even draw of a whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def coat(self, index: int) -> "Coat":
        """The colour with this number (again from the first after the fifth), maybe patterned."""
        color = self.palette[index % 5]
        if self.chance(self.patterned):
            return Coat(
                (1.0, 1.0, 1.0), draw_pattern(self.rng, color, self.palette[(index + 1) % 5])
            )
        return Coat(color)

    def plain(self, index: int) -> "Coat":
        """The colour with this number, without a pattern."""
        return Coat(self.palette[index % 5])

    def label(self) -> "Coat":
        """A printed label in the object's colours."""
        paper, ink, accent = (self.palette[int(i)] for i in self.rng.permutation(5)[:3])
        if self.chance(0.4):
            paper = (0.95, 0.94, 0.9)
        return Coat((1.0, 1.0, 1.0), draw_label(self.rng, paper, ink, accent))


@dataclass(frozen=True)
class Coat:
    """What a surface looks like."""

    color: Color
    """sRGB in [0, 1]; multiplies the texture in linear light."""
    texture: UInt8[np.ndarray, "_ _ 4"] | None = None

    def __call__(self, solid: Solid) -> Part:
        """Cover a shape with it."""
        color = linear_from_srgb(np.asarray(self.color, np.float64))
        colors = np.broadcast_to(color, solid.vertices.shape)
        return Part(solid.vertices, solid.faces, colors, solid.uv, self.texture)


WHITE = Coat((0.95, 0.95, 0.93))
BLACK = Coat((0.06, 0.06, 0.07))
STEEL = Coat((0.62, 0.64, 0.67))
LAMP = Coat((1.0, 0.93, 0.6))
RED = Coat((0.8, 0.08, 0.06))
GLASS = Coat((0.45, 0.62, 0.72))
LEAF = Coat((0.2, 0.5, 0.15))
SOIL = Coat((0.25, 0.16, 0.1))


def wood(bench: Workbench) -> Coat:
    """A brown, from oak to walnut."""
    tone = bench.between(0.3, 0.75)
    color = (tone, tone * bench.between(0.6, 0.75), tone * bench.between(0.3, 0.5))
    return Coat(color)


def rod(start: Point, end: Point, radius: Real, tip: Real | None = None) -> Solid:
    """A straight round rod, thinner at its end if told."""
    path = np.linspace(start, end, 3)
    last = radius if tip is None else tip
    return tube(path, [radius, (radius + last) / 2, last])


def arc(points: Sequence[Point]) -> Float64[np.ndarray, "n 3"]:
    """A smooth line from the first of three points past the second to the third."""
    first, second, third = (np.array(p) for p in points)
    t = np.linspace(0, 1, 9)[:, None]
    path: Float64[np.ndarray, "n 3"] = (
        (1 - t) ** 2 * first + 2 * t * (1 - t) * second + t**2 * third
    )
    return path


def patch(
    coat: Coat, profile: Sequence[tuple[Real, Real]], low: Real, high: Real, width: Real = 1.2
) -> Part:
    """A label on the front of a revolved shape, between two heights; ``width`` in radians."""
    radius, height = np.array(profile, np.float64).T
    rows, columns = np.linspace(high, low, 5), np.linspace(-width / 2, width / 2, 9)
    reach = np.interp(rows, height, radius) + 0.008
    vertices = np.stack(
        [
            np.outer(reach, np.cos(columns)),
            np.outer(reach, np.sin(columns)),
            np.repeat(rows[:, None], len(columns), axis=1),
        ],
        axis=-1,
    )
    v, u = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 9), indexing="ij")
    return coat(Solid(vertices.reshape(-1, 3), grid(5, 9), pairs(u, v)))


def yawed(parts: list[Part], angle: Real) -> list[Part]:
    """Turn parts around +z, counter-clockwise seen from above, radians."""
    sin, cos = math.sin(angle), math.cos(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return [replace(part, vertices=part.vertices @ rotation.T) for part in parts]
