"""Simple closed shapes with texture coordinates, to build objects of."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

Real = int | float
"""Any number: shapes are mostly written down in whole ones and simple fractions."""

_AXES = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}


@dataclass(frozen=True)
class Solid:
    """A shape without a colour."""

    vertices: Float64[np.ndarray, "V 3"]
    faces: Int64[np.ndarray, "F 3"]
    uv: Float64[np.ndarray, "V 2"]
    """(0, 0) is the top left of a texture."""

    def scaled(self, x: Real, y: Real, z: Real) -> "Solid":
        """Stretch along the axes; a negative factor mirrors."""
        faces = self.faces if x * y * z > 0 else self.faces[:, ::-1]
        return replace(self, vertices=self.vertices * (x, y, z), faces=faces)

    def turned(self, axis: Literal["x", "y", "z"], angle: Real) -> "Solid":
        """Turn counter-clockwise around an axis that points at the viewer, radians."""
        first, second = _AXES[axis]
        sin, cos = math.sin(angle), math.cos(angle)
        vertices = self.vertices.copy()
        vertices[:, first] = cos * self.vertices[:, first] - sin * self.vertices[:, second]
        vertices[:, second] = sin * self.vertices[:, first] + cos * self.vertices[:, second]
        return replace(self, vertices=vertices)

    def moved(self, x: Real, y: Real, z: Real) -> "Solid":
        """Shift along the axes."""
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def tapered(self, x: Real, y: Real) -> "Solid":
        """Narrow a shape of height 1 toward its top, to these shares of its width."""
        share = np.clip(self.vertices[:, 2:] + 0.5, 0, 1)
        narrow = 1 + share * (np.array([x, y, 1.0]) - 1)
        return replace(self, vertices=self.vertices * narrow)


@functools.cache
def box() -> Solid:
    """The unit cube; each side shows the whole texture, upright seen from outside."""
    vertices, uv = [], []
    # each side by its outward direction, and the direction to the right of who looks at it
    sides = [
        ((1, 0, 0), (0, 1, 0)),
        ((-1, 0, 0), (0, -1, 0)),
        ((0, 1, 0), (-1, 0, 0)),
        ((0, -1, 0), (1, 0, 0)),
        ((0, 0, 1), (0, 1, 0)),
        ((0, 0, -1), (0, 1, 0)),
    ]
    for outward, right in sides:
        up = np.cross(outward, right)
        for u, v in ((0, 1), (1, 1), (1, 0), (0, 0)):
            vertices.append(0.5 * np.array(outward) + (u - 0.5) * np.array(right) + (0.5 - v) * up)
            uv.append((u, v))
    corners = np.arange(24).reshape(6, 4)
    faces = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    return Solid(np.array(vertices), faces.astype(np.int64), np.array(uv, np.float64))


def revolved(profile: Sequence[tuple[Real, Real]], segments: int = 24) -> Solid:
    """Turn a line of (radius, height) points around +z; go upward on its outer side.

    The texture goes once around, its middle at +x, and from the last point down to the first.
    """
    radius, height = np.array(profile, np.float64).T
    around = np.linspace(0, 2 * math.pi, segments + 1)
    vertices = np.stack(
        [
            np.outer(radius, -np.cos(around)),
            np.outer(radius, -np.sin(around)),
            np.repeat(height[:, None], segments + 1, axis=1),
        ],
        axis=-1,
    )
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(radius), np.diff(height)))])
    v, u = np.meshgrid(1 - length / length[-1], around / (2 * math.pi), indexing="ij")
    return Solid(vertices.reshape(-1, 3), grid(len(radius), segments + 1), pairs(u, v))


@functools.cache
def cylinder(top: Real = 1.0, segments: int = 20) -> Solid:
    """A drum of diameter 1 and height 1; ``top`` is its upper diameter, 0 for a cone."""
    return revolved([(0, -0.5), (0.5, -0.5), (0.5 * top, 0.5), (0, 0.5)], segments)


@functools.cache
def sphere(segments: int = 20) -> Solid:
    """A ball of diameter 1."""
    return superquadric(1.0, 1.0, segments)


@functools.cache
def dome(segments: int = 20) -> Solid:
    """The upper half of a ball of diameter 1, on the ground."""
    bow = np.linspace(0, math.pi / 2, 7)
    rim = [(0.5 * math.cos(t), 0.5 * math.sin(t)) for t in bow]
    return revolved([(0.0, 0.0), *rim], segments)


def superquadric(upright: Real, around: Real, segments: int = 24) -> Solid:
    """A rounded shape of diameter 1: exponents near 0 make a box, 1 a ball, 2 an octahedron."""
    latitude = np.linspace(-math.pi / 2, math.pi / 2, segments // 2 + 1)
    longitude = np.linspace(-math.pi, math.pi, segments + 1)

    def bent(values: Float64[np.ndarray, " n"], exponent: Real) -> Float64[np.ndarray, " n"]:
        curved: Float64[np.ndarray, " n"] = 0.5 * np.sign(values) * np.abs(values) ** exponent
        return curved

    flat, height = 2 * bent(np.cos(latitude), upright), bent(np.sin(latitude), upright)
    vertices = np.stack(
        [
            np.outer(flat, bent(np.cos(longitude), around)),
            np.outer(flat, bent(np.sin(longitude), around)),
            np.repeat(height[:, None], segments + 1, axis=1),
        ],
        axis=-1,
    )
    v, u = np.meshgrid(0.5 - latitude / math.pi, longitude / (2 * math.pi) + 0.5, indexing="ij")
    return Solid(vertices.reshape(-1, 3), grid(len(latitude), segments + 1), pairs(u, v))


def tube(
    path: Float64[np.ndarray, "n 3"], radii: Sequence[Real] | Real, segments: int = 10
) -> Solid:
    """Sweep a circle along a line that does not double back; its ends are closed."""
    count = len(path)
    width = np.broadcast_to(np.asarray(radii, np.float64), (count,))
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    # the axis that the line follows least is nowhere parallel to it
    side = np.cross(ahead, np.eye(3)[np.abs(ahead).mean(axis=0).argmin()])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    over = np.cross(side, ahead)
    around = np.linspace(0, 2 * math.pi, segments + 1)
    ring = (
        np.cos(around)[None, :, None] * side[:, None]
        + np.sin(around)[None, :, None] * over[:, None]
    )
    rings = path[:, None] + width[:, None, None] * ring
    ends = np.repeat(path[[0, -1], None], segments + 1, axis=1)
    vertices = np.concatenate([ends[:1], rings, ends[1:]])
    v, u = np.meshgrid(np.linspace(1, 0, count + 2), np.linspace(0, 1, segments + 1), indexing="ij")
    return Solid(vertices.reshape(-1, 3), grid(count + 2, segments + 1), pairs(u, v))


@functools.cache
def ring(thickness: Real = 0.2, turn: Real = 2 * math.pi) -> Solid:
    """A bow of a torus of radius 0.5 in the x-y plane, from +x counter-clockwise."""
    angle = np.linspace(0, turn, 17)
    path = 0.5 * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    return tube(path, thickness / 2)


def extruded(outline: Float64[np.ndarray, "n 2"]) -> Solid:
    """Raise an outline in the x-y plane, seen whole from the origin, to a slab of height 1."""
    count = len(outline)
    low, high = outline.min(axis=0), outline.max(axis=0)
    flat = (outline - low) / (high - low)
    closed = np.concatenate([outline, outline[:1]])
    sides = np.concatenate([np.insert(closed, 2, -0.5, axis=1), np.insert(closed, 2, 0.5, axis=1)])
    along = np.linspace(0, 1, count + 1)
    vertices, uv = [sides], [pairs(along, np.ones_like(along)), pairs(along, 0 * along)]
    faces = [grid(2, count + 1)]
    for height in (-0.5, 0.5):
        start = sum(len(v) for v in vertices)
        cap = np.concatenate([[[0.0, 0.0]], outline])
        vertices.append(np.insert(cap, 2, height, axis=1))
        middle = -low / (high - low)
        uv.append(np.concatenate([middle[None], flat]) * (1, -1) + (0, 1))
        edge = np.arange(count)
        fan = np.stack([0 * edge, 1 + edge, 1 + (edge + 1) % count], axis=1) + start
        faces.append(fan if height > 0 else fan[:, ::-1])
    return Solid(np.concatenate(vertices), np.concatenate(faces), np.concatenate(uv))


def grid(rows: int, columns: int) -> Int64[np.ndarray, "F 3"]:
    """Two triangles for each cell of a grid of vertices, stored row by row."""
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    low = np.stack([first, first + 1, first + columns + 1], axis=1)
    high = np.stack([first, first + columns + 1, first + columns], axis=1)
    return np.concatenate([low, high]).astype(np.int64)


def pairs(u: Float64[np.ndarray, "*n"], v: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "m 2"]:
    """Put texture coordinates side by side, row by row."""
    return np.stack([u, v], axis=-1).reshape(-1, 2)
