"""How near a reconstructed mesh comes to the true one: Chamfer distance and volume IoU."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from zero123.data.compiled import compiled

try:
    import trimesh
    from scipy.spatial import cKDTree
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("comparing meshes needs trimesh: pip install 'zero123[eval]'") from (
        missing
    )

Alignment = Literal["none", "box"]
"""none: as the coordinates are; box: both centred on their boxes, the longest side made 1."""


@dataclass(frozen=True)
class Surface:
    """Triangles in space, of any size."""

    vertices: Float64[np.ndarray, "V 3"]
    faces: Int64[np.ndarray, "F 3"]

    def __post_init__(self) -> None:
        if len(self.faces) == 0 or not np.isfinite(self.vertices).all():
            raise ValueError("a surface needs faces, and vertices that are finite")

    @classmethod
    def read(cls, path: Path) -> "Surface":
        """Read any file that trimesh reads, all its parts as one; axes as in the file.

        Raises:
            ValueError: if it holds no triangles.
            OSError: if it cannot be opened.
        """
        mesh = trimesh.load_mesh(path)
        return cls(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64))

    @property
    def boxed(self) -> "Surface":
        """The same, its box centred at the origin, the box's longest side 1."""
        used = self.vertices[np.unique(self.faces)]
        low, high = used.min(axis=0), used.max(axis=0)
        side = float((high - low).max())
        if side <= 0:
            raise ValueError("all vertices of the surface are one point")
        return Surface((self.vertices - (low + high) / 2) / side, self.faces)


@dataclass(frozen=True)
class ShapeScores:
    """How near two surfaces are, and how they were laid over each other."""

    chamfer: float
    """See ``chamfer``."""
    volume_iou: float
    """See ``volume_iou``."""
    alignment: Alignment


def compare(made: Surface, truth: Surface, alignment: Alignment = "box") -> ShapeScores:
    """Measure a reconstruction; its turn is taken as it is, nothing is rotated to fit."""
    if alignment == "box":
        made, truth = made.boxed, truth.boxed
    return ShapeScores(chamfer(made, truth), volume_iou(made, truth), alignment)


def chamfer(a: Surface, b: Surface, points: int = 30_000) -> float:
    """Mean distance from a surface to the other, over both directions: the mean of the two means.

    Plain distances, not squared, in the surfaces' units. Points are drawn evenly by area with a
    fixed seed; the nearest is sought among the drawn points, so that equal surfaces stand apart by
    about ``0.5 * sqrt(area / points)`` and no less.
    """
    drawn = [
        trimesh.sample.sample_surface(
            trimesh.Trimesh(surface.vertices, surface.faces, process=False), points, seed=seed
        )[0]
        for seed, surface in enumerate((a, b))
    ]
    there, back = (cKDTree(to).query(of)[0].mean() for of, to in (drawn, drawn[::-1]))
    return float((there + back) / 2)


def volume_iou(a: Surface, b: Surface, resolution: int = 96) -> float:
    """Shared volume over joint volume, counted on a grid.

    A point is inside where the surface winds around it; so overlapping parts do no harm, but an
    open surface has no inside to speak of.

    Args:
        a: one surface.
        b: the other.
        resolution: points along the longest side of the joint box.

    Raises:
        ValueError: if neither holds any point of the grid.
    """
    both = np.concatenate([a.vertices[np.unique(a.faces)], b.vertices[np.unique(b.faces)]])
    low, high = both.min(axis=0), both.max(axis=0)
    step = float((high - low).max()) / resolution
    if step <= 0:
        raise ValueError("all vertices of both surfaces are one point")
    counts = tuple(math.ceil(side / step) + 1 for side in high - low)
    # off any round number, so that no line of points runs along an edge of a triangle
    start = low - step * np.array([0.4142, 0.7321, 0.2361])
    inside = [_inside(s.vertices, s.faces, start, step, np.array(counts)) for s in (a, b)]
    union = int((inside[0] | inside[1]).sum())
    if union == 0:
        raise ValueError("neither surface encloses any volume")
    return float((inside[0] & inside[1]).sum() / union)


def _inside(
    vertices: Float64[np.ndarray, "V 3"],
    faces: Int64[np.ndarray, "F 3"],
    start: Float64[np.ndarray, "3"],
    step: float,
    counts: Int64[np.ndarray, "3"],
) -> Bool[np.ndarray, "X Y Z"]:
    crossings = _crossings((vertices - start) / step, faces, counts)
    inside: Bool[np.ndarray, "X Y Z"] = np.cumsum(crossings, axis=2)[..., :-1] != 0
    return inside


@compiled
def _crossings(
    corners: Float64[np.ndarray, "V 3"],
    faces: Int64[np.ndarray, "F 3"],
    counts: Int64[np.ndarray, "3"],
) -> Int32[np.ndarray, "X Y Z1"]:
    """Where lines along z pierce the surface: +1 or -1 at the next grid point above, by its side.

    Corners are in steps of the grid, whose first point is (0, 0, 0).
    """
    crossings = np.zeros((counts[0], counts[1], counts[2] + 1), np.int32)
    for f in range(len(faces)):
        a, b, c = corners[faces[f, 0]], corners[faces[f, 1]], corners[faces[f, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0:
            continue
        first_x = max(int(np.ceil(min(a[0], b[0], c[0]))), 0)
        last_x = min(int(np.floor(max(a[0], b[0], c[0]))), counts[0] - 1)
        first_y = max(int(np.ceil(min(a[1], b[1], c[1]))), 0)
        last_y = min(int(np.floor(max(a[1], b[1], c[1]))), counts[1] - 1)
        for x in range(first_x, last_x + 1):
            for y in range(first_y, last_y + 1):
                at_a = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                at_b = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                at_c = 1 - at_a - at_b
                if at_a < 0 or at_b < 0 or at_c < 0:
                    continue
                z = at_a * a[2] + at_b * b[2] + at_c * c[2]
                above = min(max(int(np.ceil(z)), 0), counts[2])
                crossings[x, y, above] += 1 if area > 0 else -1
    return crossings
