"""A mesh as compiled loops read it: which colour, normal and texture a point of a face has."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from zero123.data.color import linear_from_srgb, srgb_from_linear
from zero123.data.compiled import compiled
from zero123.data.meshes import Mesh
from zero123.geometry import Camera, Orbit

LINEAR = linear_from_srgb(np.arange(256) / 255).astype(np.float32)
"""Linear light of the 256 levels of sRGB."""
_NUM_CODES = 1 << 14
SRGB = np.rint(255 * srgb_from_linear(np.arange(_NUM_CODES) / (_NUM_CODES - 1))).astype(np.uint8)
"""sRGB levels of evenly spaced linear light in [0, 1]."""
_SHOULDER = 0.75
"""Linear light above this is compressed, so that nothing burns out to flat white."""
_NUM_LEVELS = 11
"""A texture of 1024 texels ends as one."""


def refuse_inside(mesh: Mesh, orbits: Sequence[Orbit]) -> None:
    """Refuse cameras that sit in the object.

    Raises:
        ValueError: if one is inside the object's bounding sphere.
    """
    reach = float(np.linalg.norm(mesh.vertices, axis=1).max())
    for orbit in orbits:
        if orbit.radius <= reach:
            raise ValueError(
                f"a camera at radius {orbit.radius:g} is inside the object, which reaches {reach:g}"
            )


def seen_by(camera: Camera, mesh: Mesh) -> Float64[np.ndarray, "V 3"]:
    """Column, row and inverse depth of each vertex, as ``Camera.project`` counts them."""
    return _projected(
        mesh.vertices,
        camera.camera_from_world.rotation.numpy(),
        camera.camera_from_world.translation.numpy(),
        camera.focal,
        camera.size / 2,
    )


class Surface(NamedTuple):
    """A mesh as the loops read it."""

    vertices: Float32[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    normals: Float32[np.ndarray, "F 3 3"]
    colors: Float32[np.ndarray, "F 3 3"]
    uv: Float32[np.ndarray, "F 3 2"]
    texture_of_face: Int32[np.ndarray, " F"]
    texels: UInt8[np.ndarray, "T 4"]
    """All textures and their halved copies, row after row."""
    levels: Int64[np.ndarray, "K L 3"]
    """By texture and number of halvings: the first texel, height, width."""
    has_holes: Bool[np.ndarray, " K"]


def packed(mesh: Mesh) -> Surface:
    """Lay an object out for the loops, its textures with their halved copies."""
    pictures: list[UInt8[np.ndarray, "_ _ 4"]] = []
    levels = np.ones((max(len(mesh.textures), 1), _NUM_LEVELS, 3), np.int64)
    offset = 0
    for index, texture in enumerate(mesh.textures):
        picture = texture
        for level in range(_NUM_LEVELS):
            levels[index, level] = offset, *picture.shape[:2]
            pictures.append(picture.reshape(-1, 4))
            offset += len(pictures[-1])
            picture = _halved(picture, LINEAR, SRGB)
    return Surface(
        mesh.vertices,
        mesh.faces,
        mesh.normals,
        mesh.colors,
        mesh.uv,
        mesh.texture_of_face,
        np.concatenate(pictures or [np.zeros((1, 4), np.uint8)]),
        levels,
        np.array([bool((t[..., 3] < 128).any()) for t in mesh.textures] or [False]),
    )


@compiled
def _halved(
    picture: UInt8[np.ndarray, "h w 4"],
    linear: Float32[np.ndarray, "256"],
    srgb: UInt8[np.ndarray, " codes"],
) -> UInt8[np.ndarray, "h2 w2 4"]:
    """Average 2×2 texels in linear light; holes lend no colour."""
    height, width = picture.shape[:2]
    half = np.empty((max(height // 2, 1), max(width // 2, 1), 4), np.uint8)
    for y in range(half.shape[0]):
        for x in range(half.shape[1]):
            red, green, blue, alpha = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for j in range(2):
                for i in range(2):
                    texel = picture[min(2 * y + j, height - 1), min(2 * x + i, width - 1)]
                    weight = np.float32(texel[3]) + np.float32(1e-3)
                    red += weight * linear[texel[0]]
                    green += weight * linear[texel[1]]
                    blue += weight * linear[texel[2]]
                    alpha += weight
            last = len(srgb) - 1
            half[y, x, 0] = srgb[int(red / alpha * last)]
            half[y, x, 1] = srgb[int(green / alpha * last)]
            half[y, x, 2] = srgb[int(blue / alpha * last)]
            half[y, x, 3] = int(alpha / 4)
    return half


@compiled
def _projected(
    vertices: Float32[np.ndarray, "V 3"],
    rotation: Float64[np.ndarray, "3 3"],
    translation: Float64[np.ndarray, "3"],
    focal: float,
    middle: float,
) -> Float64[np.ndarray, "V 3"]:
    seen = np.empty((len(vertices), 3), np.float64)
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        right = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
        up = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
        back = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
        seen[v, 0] = middle - focal * right / back
        seen[v, 1] = middle + focal * up / back
        seen[v, 2] = -1 / back
    return seen


@compiled
def twice_area(seen: Float64[np.ndarray, "V 3"], i: int, j: int, k: int) -> float:
    """Twice the area of a triangle on the picture, signed, square samples."""
    right_j, down_j = seen[j, 0] - seen[i, 0], seen[j, 1] - seen[i, 1]
    right_k, down_k = seen[k, 0] - seen[i, 0], seen[k, 1] - seen[i, 1]
    area: float = right_j * down_k - down_j * right_k
    return area


@compiled
def level_of(surface: Surface, f: int, twice_area: float) -> int:
    """How often to halve a face's texture, so that a texel is as large as a sample."""
    texture, uv = surface.texture_of_face[f], surface.uv[f]
    twice_texels = abs(
        (uv[1, 0] - uv[0, 0]) * (uv[2, 1] - uv[0, 1])
        - (uv[1, 1] - uv[0, 1]) * (uv[2, 0] - uv[0, 0])
    )
    twice_texels *= surface.levels[texture, 0, 1] * surface.levels[texture, 0, 2]
    level = 0
    while twice_texels > 2 * abs(twice_area) and level < surface.levels.shape[1] - 1:
        twice_texels /= 4
        level += 1
    return level


@compiled
def texel_at(
    surface: Surface,
    f: int,
    level: int,
    shares: tuple[float, float, float],
    linear: Float32[np.ndarray, "256"],
) -> tuple[float, float, float, float]:
    """Linear RGB in [0, 1] and alpha in [0, 255] of a face's texture, blended between texels."""
    levels, texture, uv = surface.levels, surface.texture_of_face[f], surface.uv
    offset, height = levels[texture, level, 0], levels[texture, level, 1]
    width = levels[texture, level, 2]
    a, b, c = shares
    u = a * uv[f, 0, 0] + b * uv[f, 1, 0] + c * uv[f, 2, 0]
    v = a * uv[f, 0, 1] + b * uv[f, 1, 1] + c * uv[f, 2, 1]
    x, y = (u - np.floor(u)) * width - 0.5, (v - np.floor(v)) * height - 0.5
    column, row = int(np.floor(x)), int(np.floor(y))
    right, down = x - column, y - row
    red, green, blue, alpha = 0.0, 0.0, 0.0, 0.0
    for j in range(2):
        # a division by the height would cost more than all the rest
        line = row + j + (height if row + j < 0 else 0) - (height if row + j >= height else 0)
        for i in range(2):
            dot = column + i
            dot += (width if dot < 0 else 0) - (width if dot >= width else 0)
            share = (right if i else 1 - right) * (down if j else 1 - down)
            at = offset + line * width + dot
            red += share * linear[surface.texels[at, 0]]
            green += share * linear[surface.texels[at, 1]]
            blue += share * linear[surface.texels[at, 2]]
            alpha += share * surface.texels[at, 3]
    return red, green, blue, alpha


@compiled
def blended(
    corners: Float32[np.ndarray, "3 3"], shares: tuple[float, float, float]
) -> tuple[float, float, float]:
    """What three corners of a face have, in a point of it."""
    a, b, c = shares
    return (
        a * corners[0, 0] + b * corners[1, 0] + c * corners[2, 0],
        a * corners[0, 1] + b * corners[1, 1] + c * corners[2, 1],
        a * corners[0, 2] + b * corners[1, 2] + c * corners[2, 2],
    )


@compiled
def face_towards(
    surface: Surface, f: int, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Normal of a face, of any length, on the side of a direction, however it was wound."""
    p = surface.vertices
    i, j, k = surface.faces[f]
    e0, e1, e2 = p[j, 0] - p[i, 0], p[j, 1] - p[i, 1], p[j, 2] - p[i, 2]
    g0, g1, g2 = p[k, 0] - p[i, 0], p[k, 1] - p[i, 1], p[k, 2] - p[i, 2]
    f0, f1, f2 = e1 * g2 - e2 * g1, e2 * g0 - e0 * g2, e0 * g1 - e1 * g0
    if f0 * x + f1 * y + f2 * z < 0:
        return -f0, -f1, -f2
    return f0, f1, f2


@compiled
def normal_at(
    surface: Surface, f: int, shares: tuple[float, float, float], side: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Smooth unit normal of a point of a face, on the side of the normal ``side``."""
    x, y, z = blended(surface.normals[f], shares)
    length = math.sqrt(x * x + y * y + z * z) + 1e-12
    if side[0] * x + side[1] * y + side[2] * z < 0:
        length = -length
    return x / length, y / length, z / length


@compiled
def toned(light: float) -> float:
    """Bend bright light toward 1, as film does; leave the rest as it is."""
    if light <= _SHOULDER:
        return light
    room = 1 - _SHOULDER
    return _SHOULDER + room * (1 - math.exp((_SHOULDER - light) / room))


@compiled
def resolve(
    light: Float32[np.ndarray, "rows columns 3"],
    face_of: Int32[np.ndarray, "rows columns"],
    supersample: int,
    srgb: UInt8[np.ndarray, " codes"],
    picture: UInt8[np.ndarray, "H W 4"],
) -> None:
    """Average the covered samples of each pixel into ``picture``."""
    last = len(srgb) - 1
    for row in range(len(picture)):
        for column in range(picture.shape[1]):
            red, green, blue, covered = 0.0, 0.0, 0.0, 0
            for y in range(row * supersample, (row + 1) * supersample):
                for x in range(column * supersample, (column + 1) * supersample):
                    if face_of[y, x] >= 0:
                        red += light[y, x, 0]
                        green += light[y, x, 1]
                        blue += light[y, x, 2]
                        covered += 1
            if covered == 0:
                picture[row, column, :3] = 255
                picture[row, column, 3] = 0
            else:
                picture[row, column, 0] = srgb[int(red / covered * last)]
                picture[row, column, 1] = srgb[int(green / covered * last)]
                picture[row, column, 2] = srgb[int(blue / covered * last)]
                picture[row, column, 3] = int(255 * covered / supersample**2 + 0.5)
