"""A fast picture of a mesh on the CPU: z-buffer, soft light from a few lamps, smooth edges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from zero123.data.color import linear_from_srgb, srgb_from_linear
from zero123.data.compiled import compiled
from zero123.data.meshes import Mesh
from zero123.geometry import Camera, Orbit

Rgb = tuple[float, float, float]
"""Linear light; (1, 1, 1) shows a white surface as white."""

_SHOULDER = 0.75
"""Linear light above this is compressed, so that nothing burns out to flat white."""
_LINEAR = linear_from_srgb(np.arange(256) / 255).astype(np.float32)
_NUM_LEVELS = 11
"""A texture of 1024 texels ends as one."""
_NUM_CODES = 1 << 14
_SRGB = np.rint(255 * srgb_from_linear(np.arange(_NUM_CODES) / (_NUM_CODES - 1))).astype(np.uint8)


@dataclass(frozen=True)
class Lamp:
    """A light so far away that it comes from one direction."""

    polar: float
    """Angle of the direction it comes from, from +z, radians."""
    azimuth: float
    """Angle of the direction it comes from, around +z from +x, radians."""
    color: Rgb
    """What a white surface that faces it sends back."""

    @property
    def direction(self) -> Float32[np.ndarray, "3"]:
        """Unit vector from the object to the lamp."""
        flat = math.sin(self.polar)
        x, y = flat * math.cos(self.azimuth), flat * math.sin(self.azimuth)
        return np.array([x, y, math.cos(self.polar)], np.float32)


@dataclass(frozen=True)
class Lighting:
    """Light from all around, and lamps. The default is the lamp of the original's renders."""

    sky: Rgb = (0.62, 0.62, 0.62)
    """What a white surface that looks up receives from all around."""
    ground: Rgb = (0.36, 0.36, 0.36)
    """What a white surface that looks down receives from all around."""
    lamps: tuple[Lamp, ...] = (Lamp(polar=0.619, azimuth=0.240, color=(0.55, 0.55, 0.55)),)


def sample_lighting(rng: np.random.Generator) -> Lighting:
    """Draw soft light with a key lamp from above, a weak fill opposite, and slight tints."""

    def tinted(strength: float, spread: float) -> Rgb:
        warm = float(rng.normal(0, spread))
        return strength * (1 + warm), strength, strength * (1 - warm)

    key_azimuth = float(rng.uniform(-math.pi, math.pi))
    key = Lamp(
        polar=float(rng.uniform(0.3, 1.25)),
        azimuth=key_azimuth,
        color=tinted(float(rng.uniform(0.35, 0.75)), 0.05),
    )
    fill = Lamp(
        polar=float(rng.uniform(0.8, 1.8)),
        azimuth=key_azimuth + math.pi + float(rng.uniform(-1, 1)),
        color=tinted(float(rng.uniform(0.0, 0.25)), 0.05),
    )
    sky = float(rng.uniform(0.5, 0.7))
    return Lighting(
        sky=tinted(sky, 0.03),
        ground=tinted(sky * float(rng.uniform(0.5, 0.75)), 0.03),
        lamps=(key, fill),
    )


def render(
    mesh: Mesh,
    orbits: Sequence[Orbit],
    size: int,
    lighting: Lighting,
    supersample: int = 2,
) -> UInt8[np.ndarray, "n H W 4"]:
    """Draw an object from each seat.

    Args:
        mesh: what to draw; both sides of its faces show.
        orbits: where the cameras sit, outside the object.
        size: side of the pictures, pixels.
        lighting: in the object's world: it stays when the camera moves.
        supersample: rays per pixel and direction.

    Returns:
        Straight sRGB and alpha, the covered share of each pixel; white where nothing is.

    Raises:
        ValueError: if a camera is inside the object's bounding sphere.
    """
    if supersample < 1:
        raise ValueError(f"supersample must be at least 1, got {supersample}")
    reach = float(np.linalg.norm(mesh.vertices, axis=1).max())
    scene = _packed(mesh)
    sky, ground = np.array(lighting.sky, np.float32), np.array(lighting.ground, np.float32)
    directions = np.array([lamp.direction for lamp in lighting.lamps], np.float32).reshape(-1, 3)
    lamps = np.array([lamp.color for lamp in lighting.lamps], np.float32).reshape(-1, 3)
    pictures = np.empty((len(orbits), size, size, 4), np.uint8)
    for picture, orbit in zip(pictures, orbits, strict=True):
        if orbit.radius <= reach:
            raise ValueError(
                f"a camera at radius {orbit.radius:g} is inside the object, which reaches {reach:g}"
            )
        camera = Camera(orbit.camera_from_world, size * supersample)
        eye = orbit.position.numpy().astype(np.float32)
        seen = _projected(
            mesh.vertices,
            camera.camera_from_world.rotation.numpy(),
            camera.camera_from_world.translation.numpy(),
            camera.focal,
            camera.size / 2,
        )
        face_of = _nearest_faces(scene, seen, camera.size, _LINEAR)
        light = _shaded(scene, seen, face_of, eye, sky, ground, directions, lamps, _LINEAR)
        _resolve(light, face_of, supersample, _SRGB, picture)
    return pictures


class _Scene(NamedTuple):
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


def _packed(mesh: Mesh) -> _Scene:
    pictures: list[UInt8[np.ndarray, "_ _ 4"]] = []
    levels = np.ones((max(len(mesh.textures), 1), _NUM_LEVELS, 3), np.int64)
    offset = 0
    for index, texture in enumerate(mesh.textures):
        picture = texture
        for level in range(_NUM_LEVELS):
            levels[index, level] = offset, *picture.shape[:2]
            pictures.append(picture.reshape(-1, 4))
            offset += len(pictures[-1])
            picture = _halved(picture, _LINEAR, _SRGB)
    return _Scene(
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
    """Column, row and inverse depth of each vertex, as ``Camera.project`` counts them."""
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
def _twice_area(seen: Float64[np.ndarray, "V 3"], i: int, j: int, k: int) -> float:
    """Twice the area of a triangle on the picture, signed, square samples."""
    right_j, down_j = seen[j, 0] - seen[i, 0], seen[j, 1] - seen[i, 1]
    right_k, down_k = seen[k, 0] - seen[i, 0], seen[k, 1] - seen[i, 1]
    area: float = right_j * down_k - down_j * right_k
    return area


@compiled
def _level(scene: _Scene, f: int, twice_area: float) -> int:
    """How often to halve a face's texture, so that a texel is as large as a sample."""
    texture, uv = scene.texture_of_face[f], scene.uv[f]
    twice_texels = abs(
        (uv[1, 0] - uv[0, 0]) * (uv[2, 1] - uv[0, 1])
        - (uv[1, 1] - uv[0, 1]) * (uv[2, 0] - uv[0, 0])
    )
    twice_texels *= scene.levels[texture, 0, 1] * scene.levels[texture, 0, 2]
    level = 0
    while twice_texels > 2 * abs(twice_area) and level < scene.levels.shape[1] - 1:
        twice_texels /= 4
        level += 1
    return level


@compiled
def _weights(
    seen: Float64[np.ndarray, "V 3"], i: int, j: int, k: int, x: float, y: float
) -> tuple[float, float, float]:
    """Shares of three corners in the point of their triangle seen at (x, y), in space."""
    a = (seen[k, 0] - seen[j, 0]) * (y - seen[j, 1]) - (seen[k, 1] - seen[j, 1]) * (x - seen[j, 0])
    b = (seen[i, 0] - seen[k, 0]) * (y - seen[k, 1]) - (seen[i, 1] - seen[k, 1]) * (x - seen[k, 0])
    c = (seen[j, 0] - seen[i, 0]) * (y - seen[i, 1]) - (seen[j, 1] - seen[i, 1]) * (x - seen[i, 0])
    a, b, c = a * seen[i, 2], b * seen[j, 2], c * seen[k, 2]
    total = a + b + c
    return a / total, b / total, c / total


@compiled
def _texel(
    scene: _Scene,
    f: int,
    level: int,
    shares: tuple[float, float, float],
    linear: Float32[np.ndarray, "256"],
) -> tuple[float, float, float, float]:
    """Linear RGB in [0, 1] and alpha in [0, 255] of a face's texture, blended between texels."""
    levels, texture, uv = scene.levels, scene.texture_of_face[f], scene.uv
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
            red += share * linear[scene.texels[at, 0]]
            green += share * linear[scene.texels[at, 1]]
            blue += share * linear[scene.texels[at, 2]]
            alpha += share * scene.texels[at, 3]
    return red, green, blue, alpha


@compiled
def _clipped(share: float, step: float, begin: float, end: float) -> tuple[float, float]:
    """Narrow a span of columns to where a share that grows by ``step`` is not negative."""
    share += 1e-9  # a hair beyond the edge: rounding must leave no crack between neighbours
    if step > 0:
        return max(begin, -share / step), end
    if step < 0:
        return begin, min(end, -share / step)
    return begin, end if share >= 0 else begin - 1


@compiled
def _nearest_faces(
    scene: _Scene,
    seen: Float64[np.ndarray, "V 3"],
    size: int,
    linear: Float32[np.ndarray, "256"],
) -> Int32[np.ndarray, "S S"]:
    """The face that each sample shows, −1 for none."""
    face_of = np.full((size, size), -1, np.int32)
    nearest = np.zeros((size, size), np.float32)
    for f in range(len(scene.faces)):
        i, j, k = scene.faces[f]
        area = _twice_area(seen, i, j, k)
        if area == 0:
            continue
        left = min(seen[i, 0], seen[j, 0], seen[k, 0])
        right = max(seen[i, 0], seen[j, 0], seen[k, 0])
        top = min(seen[i, 1], seen[j, 1], seen[k, 1])
        bottom = max(seen[i, 1], seen[j, 1], seen[k, 1])
        first, last = max(int(np.ceil(left - 0.5)), 0), min(int(np.floor(right - 0.5)), size - 1)
        highest = max(int(np.ceil(top - 0.5)), 0)
        lowest = min(int(np.floor(bottom - 0.5)), size - 1)
        if first > last or highest > lowest:
            continue
        texture = scene.texture_of_face[f]
        pierced = texture >= 0 and scene.has_holes[texture]
        level = _level(scene, f, area) if pierced else 0
        ax, ay = -(seen[k, 1] - seen[j, 1]) / area, (seen[k, 0] - seen[j, 0]) / area
        bx, by = -(seen[i, 1] - seen[k, 1]) / area, (seen[i, 0] - seen[k, 0]) / area
        near_i, near_j, near_k = seen[i, 2], seen[j, 2], seen[k, 2]
        for row in range(highest, lowest + 1):
            y = row + 0.5
            a = ax * (first + 0.5 - seen[j, 0]) + ay * (y - seen[j, 1])
            b = bx * (first + 0.5 - seen[k, 0]) + by * (y - seen[k, 1])
            begin, end = 0.0, float(last - first)
            begin, end = _clipped(a, ax, begin, end)
            begin, end = _clipped(b, bx, begin, end)
            begin, end = _clipped(1 - a - b, -ax - bx, begin, end)
            near = a * near_i + b * near_j + (1 - a - b) * near_k
            step = ax * (near_i - near_k) + bx * (near_j - near_k)
            for n in range(int(np.ceil(begin)), int(np.floor(end)) + 1):
                column = first + n
                depth = np.float32(near + n * step)
                if depth > nearest[row, column]:
                    if pierced:
                        shares = _weights(seen, i, j, k, column + 0.5, y)
                        if _texel(scene, f, level, shares, linear)[3] < 128:
                            continue
                    nearest[row, column] = depth
                    face_of[row, column] = f
    return face_of


@compiled
def _shaded(
    scene: _Scene,
    seen: Float64[np.ndarray, "V 3"],
    face_of: Int32[np.ndarray, "S S"],
    eye: Float32[np.ndarray, "3"],
    sky: Float32[np.ndarray, "3"],
    ground: Float32[np.ndarray, "3"],
    directions: Float32[np.ndarray, "lamps 3"],
    lamps: Float32[np.ndarray, "lamps 3"],
    linear: Float32[np.ndarray, "256"],
) -> Float32[np.ndarray, "S S 3"]:
    """Linear light in [0, 1) that each covered sample sends to the camera."""
    size = len(face_of)
    light = np.empty((size, size, 3), np.float32)
    for row in range(size):
        for column in range(size):
            f = face_of[row, column]
            if f < 0:
                continue
            i, j, k = scene.faces[f]
            shares = _weights(seen, i, j, k, column + 0.5, row + 0.5)
            a, b, c = shares

            n, p = scene.normals[f], scene.vertices
            x = a * n[0, 0] + b * n[1, 0] + c * n[2, 0]
            y = a * n[0, 1] + b * n[1, 1] + c * n[2, 1]
            z = a * n[0, 2] + b * n[1, 2] + c * n[2, 2]
            # the side of the face that shows, whichever way it was wound
            e0, e1, e2 = p[j, 0] - p[i, 0], p[j, 1] - p[i, 1], p[j, 2] - p[i, 2]
            g0, g1, g2 = p[k, 0] - p[i, 0], p[k, 1] - p[i, 1], p[k, 2] - p[i, 2]
            f0, f1, f2 = e1 * g2 - e2 * g1, e2 * g0 - e0 * g2, e0 * g1 - e1 * g0
            towards = f0 * (eye[0] - p[i, 0]) + f1 * (eye[1] - p[i, 1]) + f2 * (eye[2] - p[i, 2])
            length = np.sqrt(x * x + y * y + z * z) + 1e-12
            if (f0 * x + f1 * y + f2 * z) * towards < 0:
                length = -length
            x, y, z = x / length, y / length, z / length

            red = a * scene.colors[f, 0, 0] + b * scene.colors[f, 1, 0] + c * scene.colors[f, 2, 0]
            green = (
                a * scene.colors[f, 0, 1] + b * scene.colors[f, 1, 1] + c * scene.colors[f, 2, 1]
            )
            blue = a * scene.colors[f, 0, 2] + b * scene.colors[f, 1, 2] + c * scene.colors[f, 2, 2]
            if scene.texture_of_face[f] >= 0:
                level = _level(scene, f, _twice_area(seen, i, j, k))
                texel = _texel(scene, f, level, shares, linear)
                red, green, blue = red * texel[0], green * texel[1], blue * texel[2]

            up = 0.5 + 0.5 * z
            light_red = ground[0] + up * (sky[0] - ground[0])
            light_green = ground[1] + up * (sky[1] - ground[1])
            light_blue = ground[2] + up * (sky[2] - ground[2])
            for lamp in range(len(lamps)):
                facing = x * directions[lamp, 0] + y * directions[lamp, 1] + z * directions[lamp, 2]
                if facing > 0:
                    light_red += facing * lamps[lamp, 0]
                    light_green += facing * lamps[lamp, 1]
                    light_blue += facing * lamps[lamp, 2]
            light[row, column, 0] = _toned(red * light_red)
            light[row, column, 1] = _toned(green * light_green)
            light[row, column, 2] = _toned(blue * light_blue)
    return light


@compiled
def _toned(light: float) -> float:
    """Bend bright light toward 1, as film does; leave the rest as it is."""
    if light <= _SHOULDER:
        return light
    room = 1 - _SHOULDER
    return _SHOULDER + room * (1 - math.exp((_SHOULDER - light) / room))


@compiled
def _resolve(
    light: Float32[np.ndarray, "S S 3"],
    face_of: Int32[np.ndarray, "S S"],
    supersample: int,
    srgb: UInt8[np.ndarray, " codes"],
    picture: UInt8[np.ndarray, "H W 4"],
) -> None:
    """Average the covered samples of each pixel into ``picture``."""
    last = len(srgb) - 1
    for row in range(len(picture)):
        for column in range(len(picture)):
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
