"""Coloured triangle meshes in our world, and how parts become one object."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32, Int64, UInt8

from zero123.data.compiled import compiled

CREASE = math.radians(40)
"""Faces that meet at a sharper angle show an edge, radians."""
_GRID = 1 << 20
"""Corners that fall on the same point of this grid of the unit box share their normals."""


class MeshError(ValueError):
    """A mesh that cannot be drawn: unreadable, empty, not finite, or without area."""


@dataclass(frozen=True)
class Mesh:
    """A coloured object: z-up, centred on its bounding box, the longest side of the box = 1."""

    vertices: Float32[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    normals: Float32[np.ndarray, "F 3 3"]
    """Unit normal of each corner of each face."""
    colors: Float32[np.ndarray, "F 3 3"]
    """Linear RGB of each corner of each face, in [0, 1]; multiplies the texture."""
    uv: Float32[np.ndarray, "F 3 2"]
    """Where each corner lies in its texture: (0, 0) is the top left, it repeats beyond (1, 1)."""
    texture_of_face: Int32[np.ndarray, " F"]
    """Index into ``textures``, −1 for a face without one."""
    textures: tuple[UInt8[np.ndarray, "_ _ 4"], ...] = field(default=(), repr=False)
    """sRGB with alpha; texels with alpha below 128 are holes."""

    def __post_init__(self) -> None:
        if len(self.faces) == 0:
            raise MeshError("the mesh has no face with an area")
        for name in ("vertices", "normals", "colors", "uv"):
            if not np.isfinite(getattr(self, name)).all():
                raise MeshError(f"the mesh has {name} that are NaN or infinite")
        _refuse_strangers("vertex", self.faces, len(self.vertices))
        _refuse_strangers("texture", np.maximum(self.texture_of_face, 0), len(self.textures) or 1)


@dataclass(frozen=True)
class Part:
    """A piece of an object in one material, of any size, anywhere."""

    vertices: Float[np.ndarray, "V 3"]
    """z-up."""
    faces: Int[np.ndarray, "F 3"]
    colors: Float[np.ndarray, "V 3"]
    """Linear RGB in [0, 1]; multiplies the texture."""
    uv: Float[np.ndarray, "V 2"] | None = None
    """(0, 0) is the top left of the texture."""
    texture: UInt8[np.ndarray, "h w 4"] | None = field(default=None, repr=False)
    """sRGB with alpha; texels with alpha below 128 are holes."""
    normals: Float[np.ndarray, "V 3"] | None = None
    """None, or where one is no direction: from the faces, with edges sharper than ``CREASE``."""


def join(parts: Sequence[Part]) -> Mesh:
    """Make one object of its parts, centred and scaled; faces without area are left out.

    Raises:
        MeshError: if no face has an area, a vertex is not finite, or a face names a missing one.
    """
    for part in parts:
        _refuse_strangers("vertex", part.faces, len(part.vertices))
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = np.concatenate(
        [np.zeros((0, 3), np.int64)]
        + [part.faces + start for part, start in zip(parts, starts[:-1], strict=True)]
    ).astype(np.int32)
    if len(faces) == 0:
        raise MeshError("the mesh has no faces")
    vertices = _fitted(np.concatenate([part.vertices for part in parts]).astype(np.float64), faces)

    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    kept = np.flatnonzero((area**2).sum(axis=1) > 1e-20)  # slivers of a millionth of the box
    if len(kept) == 0:
        raise MeshError("the mesh has no face with an area")
    normals = _crease_normals(area[kept], _same_places(corners[kept]), math.cos(CREASE))
    owner = np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])[kept]
    local = faces[kept] - starts[owner][:, None]

    colors = np.empty((len(kept), 3, 3), np.float32)
    uv = np.zeros((len(kept), 3, 2), np.float32)
    texture_of_face = np.full(len(kept), -1, np.int32)
    textures: list[UInt8[np.ndarray, "_ _ 4"]] = []
    seen: dict[int, int] = {}
    ends = np.searchsorted(owner, np.arange(len(parts) + 1))
    for part, begin, end in zip(parts, ends[:-1], ends[1:], strict=True):
        mine = slice(begin, end)
        colors[mine] = part.colors[local[mine]]
        if part.normals is not None:
            normals[mine] = _mended(part.normals[local[mine]], normals[mine])
        if part.uv is not None and part.texture is not None:
            uv[mine] = part.uv[local[mine]]
            if id(part.texture) not in seen:
                seen[id(part.texture)] = len(textures)
                textures.append(part.texture)
            texture_of_face[mine] = seen[id(part.texture)]
    return Mesh(
        vertices.astype(np.float32),
        faces[kept],
        normals,
        colors,
        uv,
        texture_of_face,
        tuple(textures),
    )


def _refuse_strangers(what: str, indices: Int[np.ndarray, "*n"], count: int) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        worst = indices.min() if indices.min() < 0 else indices.max()
        raise MeshError(f"a face names {what} {worst}, there are {count}")


def _fitted(
    vertices: Float64[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"]
) -> Float64[np.ndarray, "V 3"]:
    """Centre the box of the vertices that faces use, and make its longest side 1."""
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    low, high = vertices[used].min(axis=0), vertices[used].max(axis=0)
    side = float((high - low).max())
    if not math.isfinite(side):
        raise MeshError("the mesh has vertices that are NaN or infinite")
    if side <= 0:
        raise MeshError("all vertices of the mesh are one point")
    return np.where(used[:, None], (vertices - (low + high) / 2) / side, 0.0)


def _same_places(corners: Float64[np.ndarray, "F 3 3"]) -> Int64[np.ndarray, "F 3"]:
    """Number the places of the unit box where corners are."""
    x, y, z = np.moveaxis(np.rint((corners + 0.5) * (_GRID - 2)).astype(np.int64), -1, 0)
    _, place = np.unique((x * _GRID + y) * _GRID + z, return_inverse=True)
    return place.reshape(corners.shape[:2])


def _mended(
    given: Float[np.ndarray, "F 3 3"], derived: Float32[np.ndarray, "F 3 3"]
) -> Float32[np.ndarray, "F 3 3"]:
    """Make given normals unit length, with derived ones where they are no direction."""
    length = np.linalg.norm(given, axis=-1, keepdims=True)
    usable = np.isfinite(length) & (length > 1e-6)
    return np.where(usable, given / np.where(usable, length, 1), derived).astype(np.float32)


@compiled
def _crease_normals(
    area: Float64[np.ndarray, "F 3"], place: Int64[np.ndarray, "F 3"], cos_crease: float
) -> Float32[np.ndarray, "F 3 3"]:
    """Average the faces around each corner that make no edge with its own face."""
    num_faces = len(area)
    start = np.zeros(place.max() + 2, np.int64)
    for f in range(num_faces):
        for c in range(3):
            start[place[f, c] + 1] += 1
    start = np.cumsum(start)
    around = np.empty(3 * num_faces, np.int64)
    free = start.copy()
    unit = np.empty_like(area)
    for f in range(num_faces):
        unit[f] = area[f] / np.sqrt((area[f] ** 2).sum())
        for c in range(3):
            around[free[place[f, c]]] = f
            free[place[f, c]] += 1
    normals = np.empty((num_faces, 3, 3), np.float32)
    for f in range(num_faces):
        for c in range(3):
            x, y, z = 0.0, 0.0, 0.0
            for k in range(start[place[f, c]], start[place[f, c] + 1]):
                g = around[k]
                cos = unit[f, 0] * unit[g, 0] + unit[f, 1] * unit[g, 1] + unit[f, 2] * unit[g, 2]
                if cos >= cos_crease or g == f:
                    x, y, z = x + area[g, 0], y + area[g, 1], z + area[g, 2]
            length = np.sqrt(x * x + y * y + z * z)
            normals[f, c, 0], normals[f, c, 1], normals[f, c, 2] = (
                x / length,
                y / length,
                z / length,
            )
    return normals
