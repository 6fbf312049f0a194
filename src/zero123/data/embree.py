"""A ray tracer on Embree: sharp shadows of the lamps, light from all around, one bounce."""

import importlib.metadata
import importlib.util
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

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

_STEP = 1e-4
"""How far from a surface the next ray starts, scene units."""
_SAMPLES_AT_ONCE = 1 << 18
"""Bounds the memory: some 110 MiB."""


def find_embree() -> str:
    """Name the Embree that is here, with its version.

    Raises:
        ModuleNotFoundError: if there is none.
    """
    if importlib.util.find_spec("embreex") is None:
        raise ModuleNotFoundError(
            "this ray tracer needs embreex: pip install 'zero123[data]'; "
            "there is none for Linux on ARM: use the fast renderer"
        )
    return f"Embree (Python module embreex {importlib.metadata.version('embreex')})"


def trace(
    mesh: Mesh,
    orbits: Sequence[Orbit],
    size: int,
    lighting: Lighting,
    supersample: int = 2,
    gathered: int = 2,
    seed: int = 0,
) -> UInt8[np.ndarray, "n H W 4"]:
    """Draw an object from each seat, by rays.

    A point sends on the light of the lamps that it sees, and what reaches it from all around: from
    the sky, from the ground, or from another point of the object.

    Args:
        mesh: what to draw; both sides of its faces show.
        orbits: where the cameras sit, outside the object.
        size: side of the pictures, pixels.
        lighting: in the object's world: it stays when the camera moves.
        supersample: rays per pixel and direction, each through the middle of its part of the pixel.
        gathered: as many rays, squared, look around from each point, each somewhere in its own
            part of the half sphere.
        seed: of where those look; a picture does not depend on the others.

    Returns:
        Straight sRGB and alpha, the covered share of each pixel; white where nothing is.

    Raises:
        ValueError: if a camera is inside the object's bounding sphere.
        ModuleNotFoundError: if there is no Embree.
    """
    for name, count in (("supersample", supersample), ("gathered", gathered)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    refuse_inside(mesh, orbits)
    tracer = _Tracer(mesh, lighting)
    pictures = np.full((len(orbits), size, size, 4), (255, 255, 255, 0), np.uint8)
    for picture, orbit in zip(pictures, orbits, strict=True):
        tracer.draw(orbit, supersample, gathered, np.random.default_rng(seed), picture)
    return pictures


class _Hits(NamedTuple):
    """Where rays first meet the object."""

    face: Int32[np.ndarray, " rays"]
    """−1 for none."""
    u: Float32[np.ndarray, " rays"]
    """Share of the face's second corner."""
    v: Float32[np.ndarray, " rays"]
    """Share of its third corner."""


class _Points(NamedTuple):
    """Points of the object, as light finds them."""

    places: Float32[np.ndarray, "n 3"]
    """A step before the surface."""
    normals: Float32[np.ndarray, "n 3"]
    colors: Float32[np.ndarray, "n 3"]
    """Linear RGB in [0, 1]."""


class _Tracer:
    """An object in its light; the search tree for its faces is made once."""

    def __init__(self, mesh: Mesh, lighting: Lighting) -> None:
        find_embree()
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene(robust=True)  # no ray slips between neighbours
        TriangleMesh(self._scene, mesh.vertices, mesh.faces)
        self._mesh = mesh
        self._surface = packed(mesh)
        self._finest = np.zeros(len(mesh.faces), np.int64)
        self._sky = np.array(lighting.sky, np.float32)
        self._ground = np.array(lighting.ground, np.float32)
        self._lamps = [
            (lamp.direction, np.array(lamp.color, np.float32)) for lamp in lighting.lamps
        ]

    def draw(
        self,
        orbit: Orbit,
        supersample: int,
        gathered: int,
        rng: np.random.Generator,
        picture: UInt8[np.ndarray, "H W 4"],
    ) -> None:
        """Draw what is seen from a seat into an empty picture, some rows at a time."""
        camera = Camera(orbit.camera_from_world, len(picture) * supersample)
        seen = seen_by(camera, self._mesh)
        levels = _levels(self._surface, seen)
        first, last, left, right = _window(seen, len(picture), supersample)
        at_once = max(_SAMPLES_AT_ONCE // (supersample**2 * max(right - left, 1)), 1)
        for top in range(first, last, at_once):
            part = picture[top : min(top + at_once, last), left:right]
            self._draw_part(camera, (left, top), levels, supersample, gathered, rng, part)

    def _draw_part(
        self,
        camera: Camera,
        corner: tuple[int, int],
        levels: Int64[np.ndarray, " F"],
        supersample: int,
        gathered: int,
        rng: np.random.Generator,
        part: UInt8[np.ndarray, "rows columns 4"],
    ) -> None:
        # 1. one ray through the middle of each part of each pixel
        shape = part.shape[0] * supersample, part.shape[1] * supersample
        start = corner[0] * supersample, corner[1] * supersample
        rotation = camera.camera_from_world.rotation.numpy()
        rays = _camera_rays(shape, start, rotation, camera.focal, camera.size / 2)
        # 2. what they meet
        origins = np.broadcast_to(camera.centre.numpy().astype(np.float32), rays.shape)
        hits = self._hits(origins, rays, levels)
        met = np.flatnonzero(hits.face >= 0)
        points = _points(self._surface, hits, rays, met, levels, LINEAR, _STEP)
        # 3. the light that falls there
        row, column = np.divmod(met, shape[1])
        parts = np.stack([column % supersample, row % supersample], axis=1)
        light = self._from_lamps(points)
        light += self._from_around(points, parts, supersample, gathered, rng)
        # 4. the film
        samples = np.empty((*shape, 3), np.float32)
        samples.reshape(-1, 3)[met] = _toned(points.colors * light)
        resolve(samples, hits.face.reshape(shape), supersample, SRGB, part)

    def _hits(
        self,
        origins: Float32[np.ndarray, "rays 3"],
        directions: Float32[np.ndarray, "rays 3"],
        levels: Int64[np.ndarray, " F"],
    ) -> _Hits:
        """Follow rays to the object, through the holes in its textures."""

        def followed(starts: Float32[np.ndarray, "r 3"], on: Float32[np.ndarray, "r 3"]) -> _Hits:
            found = self._scene.run(starts, on, output=True)
            return _Hits(found["primID"], found["u"], found["v"])

        hits = followed(origins, directions)
        if self._surface.has_holes.any():
            left = np.arange(len(hits.face))
            while len(left := _in_holes(self._surface, hits, left, levels, LINEAR)):
                onward = directions[left]
                beyond = followed(_places(self._surface, hits, left) + _STEP * onward, onward)
                for mine, further in zip(hits, beyond, strict=True):
                    mine[left] = further
        return hits

    def _from_lamps(self, points: _Points) -> Float32[np.ndarray, "n 3"]:
        """What a white surface there would send back of the lamps that it sees."""
        light = np.zeros_like(points.places)
        for direction, color in self._lamps:
            facing = points.normals @ direction
            turned = np.flatnonzero(facing > 0)
            free = turned[~self._is_blocked(points.places[turned], direction)]
            light[free] += facing[free, None] * color
        return light

    def _is_blocked(
        self, origins: Float32[np.ndarray, "rays 3"], direction: Float32[np.ndarray, "3"]
    ) -> Bool[np.ndarray, " rays"]:
        """Whether the object is in the way."""
        directions = np.broadcast_to(direction, origins.shape)
        if self._surface.has_holes.any():
            return self._hits(origins, directions, self._finest).face >= 0
        blocked: Bool[np.ndarray, " rays"] = (
            self._scene.run(origins, directions, query="OCCLUDED") >= 0
        )
        return blocked

    def _from_around(
        self,
        points: _Points,
        parts: Int64[np.ndarray, "n 2"],
        supersample: int,
        gathered: int,
        rng: np.random.Generator,
    ) -> Float32[np.ndarray, "n 3"]:
        """What a white surface there would send back of the sky, the ground, and the object.

        Args:
            points: where.
            parts: column and row in its pixel of the ray that found each.
            supersample: parts per pixel and direction.
            gathered: rays a point, per direction.
            rng: of where they go.
        """
        within = rng.random((len(parts), gathered, gathered, 2), dtype=np.float32)
        rays = _around(points.normals, parts, within, supersample)
        light = np.where(rays[:, 2:] > 0, self._sky, self._ground)
        hits = self._hits(points.places.repeat(gathered**2, axis=0), rays, self._finest)
        met = np.flatnonzero(hits.face >= 0)
        others = _points(self._surface, hits, rays, met, self._finest, LINEAR, _STEP)
        up = 0.5 + 0.5 * others.normals[:, 2:]
        theirs = self._ground + up * (self._sky - self._ground) + self._from_lamps(others)
        light[met] = others.colors * theirs
        mean: Float32[np.ndarray, "n 3"] = light.reshape(-1, gathered**2, 3).mean(axis=1)
        return mean


def _window(
    seen: Float64[np.ndarray, "V 3"], size: int, supersample: int
) -> tuple[int, int, int, int]:
    """First row, last, first column, last of the pixels that the object can be in, the last not."""
    low = np.clip(np.floor(seen[:, :2].min(axis=0) / supersample), 0, size).astype(int)
    high = np.clip(np.ceil(seen[:, :2].max(axis=0) / supersample), 0, size).astype(int)
    return int(low[1]), int(high[1]), int(low[0]), int(high[0])


@compiled
def _levels(surface: Surface, seen: Float64[np.ndarray, "V 3"]) -> Int64[np.ndarray, " F"]:
    """How often to halve each face's texture for a camera."""
    levels = np.zeros(len(surface.faces), np.int64)
    for f in range(len(levels)):
        if surface.texture_of_face[f] >= 0:
            i, j, k = surface.faces[f]
            levels[f] = level_of(surface, f, twice_area(seen, i, j, k))
    return levels


@compiled
def _camera_rays(
    shape: tuple[int, int],
    corner: tuple[int, int],
    rotation: Float64[np.ndarray, "3 3"],
    focal: float,
    middle: float,
) -> Float32[np.ndarray, "rays 3"]:
    """Unit directions in the world through the middles of samples.

    Args:
        shape: rows and columns of samples.
        corner: column and row of the first sample.
        rotation: camera_from_world.
        focal: focal length, samples.
        middle: of the picture, samples.
    """
    height, width = shape
    rays = np.empty((height * width, 3), np.float32)
    for row in range(height):
        for column in range(width):
            x = corner[0] + column + 0.5 - middle
            y = middle - corner[1] - row - 0.5
            length = math.sqrt(x * x + y * y + focal * focal)
            for axis in range(3):
                along = rotation[0, axis] * x + rotation[1, axis] * y - rotation[2, axis] * focal
                rays[row * width + column, axis] = along / length
    return rays


@compiled
def _in_holes(
    surface: Surface,
    hits: _Hits,
    rays: Int64[np.ndarray, " some"],
    levels: Int64[np.ndarray, " F"],
    linear: Float32[np.ndarray, "256"],
) -> Int64[np.ndarray, " fewer"]:
    """Those of some rays that met a hole."""
    through = np.empty_like(rays)
    count = 0
    for ray in rays:
        f = hits.face[ray]
        if f >= 0 and surface.texture_of_face[f] >= 0:
            u, v = hits.u[ray], hits.v[ray]
            if texel_at(surface, f, levels[f], (1 - u - v, u, v), linear)[3] < 128:
                through[count] = ray
                count += 1
    return through[:count]


@compiled
def _places(
    surface: Surface, hits: _Hits, rays: Int64[np.ndarray, " some"]
) -> Float32[np.ndarray, "some 3"]:
    """Where some rays met the object."""
    places = np.empty((len(rays), 3), np.float32)
    for n in range(len(rays)):
        i, j, k = surface.faces[hits.face[rays[n]]]
        u, v = hits.u[rays[n]], hits.v[rays[n]]
        for axis in range(3):
            p = surface.vertices[:, axis]
            places[n, axis] = (1 - u - v) * p[i] + u * p[j] + v * p[k]
    return places


@compiled
def _points(
    surface: Surface,
    hits: _Hits,
    directions: Float32[np.ndarray, "rays 3"],
    rays: Int64[np.ndarray, " n"],
    levels: Int64[np.ndarray, " F"],
    linear: Float32[np.ndarray, "256"],
    step: float,
) -> _Points:
    """What some rays met, on the side that they came from."""
    places = _places(surface, hits, rays)
    normals, colors = np.empty_like(places), np.empty_like(places)
    for n in range(len(rays)):
        ray = rays[n]
        f, u, v = hits.face[ray], hits.u[ray], hits.v[ray]
        shares = 1 - u - v, u, v
        x, y, z = directions[ray]
        x, y, z = face_towards(surface, f, -x, -y, -z)
        away = step / math.sqrt(x * x + y * y + z * z)
        places[n, 0] += away * x
        places[n, 1] += away * y
        places[n, 2] += away * z
        normals[n, 0], normals[n, 1], normals[n, 2] = normal_at(surface, f, shares, (x, y, z))
        red, green, blue = blended(surface.colors[f], shares)
        if surface.texture_of_face[f] >= 0:
            texel = texel_at(surface, f, levels[f], shares, linear)
            red, green, blue = red * texel[0], green * texel[1], blue * texel[2]
        colors[n, 0], colors[n, 1], colors[n, 2] = red, green, blue
    return _Points(places, normals, colors)


@compiled
def _around(
    normals: Float32[np.ndarray, "n 3"],
    parts: Int64[np.ndarray, "n 2"],
    within: Float32[np.ndarray, "n g g 2"],
    supersample: int,
) -> Float32[np.ndarray, "rays 3"]:
    """Unit directions around normals, as often as a surface there takes light from them.

    The rays of a point are spread over its half sphere, and those of a pixel too.
    """
    gathered = within.shape[1]
    strata = gathered * supersample
    rays = np.empty((len(normals) * gathered**2, 3), np.float32)
    for n in range(len(normals)):
        x, y, z = normals[n]
        # two directions at right angles to the normal: Duff et al., 2017
        sign = 1.0 if z >= 0 else -1.0
        a = -1 / (sign + z)
        b = x * y * a
        for i in range(gathered):
            for j in range(gathered):
                first = (i * supersample + parts[n, 0] + within[n, i, j, 0]) / strata
                second = (j * supersample + parts[n, 1] + within[n, i, j, 1]) / strata
                radius, turn = math.sqrt(first), 2 * math.pi * second
                c, d = radius * math.cos(turn), radius * math.sin(turn)
                e = math.sqrt(max(1 - first, 0.0))
                ray = rays[(n * gathered + i) * gathered + j]
                ray[0] = c * (1 + sign * x * x * a) + d * b + e * x
                ray[1] = c * sign * b + d * (sign + y * y * a) + e * y
                ray[2] = -c * sign * x - d * y + e * z
    return rays


@compiled
def _toned(light: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    film = np.empty_like(light)
    for n in range(len(light)):
        for channel in range(3):
            film[n, channel] = toned(light[n, channel])
    return film
