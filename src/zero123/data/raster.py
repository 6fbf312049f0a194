"""A fast picture of a mesh on the CPU: z-buffer, soft light from a few lamps, smooth edges."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from zero123.data.compiled import compiled
from zero123.data.lighting import Lighting
from zero123.data.meshes import Mesh
from zero123.data.surface import (
    LINEAR,
    SRGB,
    Surface,
    blended,
    face_towards,
    level_of,
    normal_at,
    packed,
    refuse_inside,
    resolve,
    seen_by,
    texel_at,
    toned,
    twice_area,
)
from zero123.geometry import Camera, Orbit


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
    refuse_inside(mesh, orbits)
    surface = packed(mesh)
    sky, ground = np.array(lighting.sky, np.float32), np.array(lighting.ground, np.float32)
    directions = np.array([lamp.direction for lamp in lighting.lamps], np.float32).reshape(-1, 3)
    lamps = np.array([lamp.color for lamp in lighting.lamps], np.float32).reshape(-1, 3)
    pictures = np.empty((len(orbits), size, size, 4), np.uint8)
    for picture, orbit in zip(pictures, orbits, strict=True):
        camera = Camera(orbit.camera_from_world, size * supersample)
        eye = orbit.position.numpy().astype(np.float32)
        seen = seen_by(camera, mesh)
        face_of = _nearest_faces(surface, seen, camera.size, LINEAR)
        light = _shaded(surface, seen, face_of, eye, sky, ground, directions, lamps, LINEAR)
        resolve(light, face_of, supersample, SRGB, picture)
    return pictures


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
    surface: Surface,
    seen: Float64[np.ndarray, "V 3"],
    size: int,
    linear: Float32[np.ndarray, "256"],
) -> Int32[np.ndarray, "S S"]:
    """The face that each sample shows, −1 for none."""
    face_of = np.full((size, size), -1, np.int32)
    nearest = np.zeros((size, size), np.float32)
    for f in range(len(surface.faces)):
        i, j, k = surface.faces[f]
        area = twice_area(seen, i, j, k)
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
        texture = surface.texture_of_face[f]
        pierced = texture >= 0 and surface.has_holes[texture]
        level = level_of(surface, f, area) if pierced else 0
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
                        if texel_at(surface, f, level, shares, linear)[3] < 128:
                            continue
                    nearest[row, column] = depth
                    face_of[row, column] = f
    return face_of


@compiled
def _shaded(
    surface: Surface,
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
            i, j, k = surface.faces[f]
            shares = _weights(seen, i, j, k, column + 0.5, row + 0.5)
            p = surface.vertices[i]
            side = face_towards(surface, f, eye[0] - p[0], eye[1] - p[1], eye[2] - p[2])
            x, y, z = normal_at(surface, f, shares, side)
            red, green, blue = blended(surface.colors[f], shares)
            if surface.texture_of_face[f] >= 0:
                level = level_of(surface, f, twice_area(seen, i, j, k))
                texel = texel_at(surface, f, level, shares, linear)
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
            light[row, column, 0] = toned(red * light_red)
            light[row, column, 1] = toned(green * light_green)
            light[row, column, 2] = toned(blue * light_blue)
    return light
