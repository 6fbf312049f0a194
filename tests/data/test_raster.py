import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import UInt8

from zero123.data import (
    Lamp,
    Lighting,
    Mesh,
    Part,
    join,
    procedural_mesh,
    render,
    sample_lighting,
    sample_orbits,
)
from zero123.data.embree import trace
from zero123.data.procedural.solids import Solid, box, sphere
from zero123.geometry import Camera, Orbit

FLAT = Lighting(sky=(0.7, 0.7, 0.7), ground=(0.7, 0.7, 0.7), lamps=())
EYE_LEVEL = math.pi / 2
Draw = Callable[[Mesh, Sequence[Orbit], int, Lighting, int], UInt8[np.ndarray, "n H W 4"]]
RED, GREEN, BLUE, WHITE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)


@pytest.fixture(params=[render, trace])
def draw(request: pytest.FixtureRequest) -> Draw:
    """Both of our renderers."""
    drawn: Draw = request.param
    return drawn


def painted(solid: Solid, color: tuple[float, float, float]) -> Part:
    return Part(solid.vertices, solid.faces, np.tile(color, (len(solid.vertices), 1)))


def moved(mesh: Mesh, angle: float) -> Mesh:
    sin, cos = math.sin(angle), math.cos(angle)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    return replace(mesh, vertices=mesh.vertices @ turn, normals=mesh.normals @ turn)


@pytest.mark.parametrize("size", [64, 256])
def test_markers_appear_where_the_camera_projects_them(draw: Draw, size: int) -> None:
    places = [(0.5, 0.1, 0.3), (-0.2, -0.4, 0.5), (0.0, 0.5, -0.5)]
    dots = [sphere(12).scaled(0.04, 0.04, 0.04).moved(*place) for place in places]
    mesh = join([painted(d, c) for d, c in zip(dots, (RED, GREEN, BLUE), strict=True)])
    owner = np.repeat(np.arange(3), len(mesh.vertices) // 3)
    for orbit in sample_orbits(np.random.default_rng(3), 12):
        picture = draw(mesh, [orbit], size, FLAT, 4)[0].astype(np.float64)
        for color in range(3):
            centre = mesh.vertices[owner == color].mean(axis=0, dtype=np.float64)
            pixel, _ = Camera(orbit.camera_from_world, size).project(torch.from_numpy(centre))
            share = picture[..., 3] * (picture[..., color] > 200)
            share *= np.delete(picture[..., :3], color, axis=-1).max(axis=-1) < 60
            rows, columns = np.indices(share.shape) + 0.5
            found = [(columns * share).sum() / share.sum(), (rows * share).sum() / share.sum()]
            np.testing.assert_allclose(found, pixel.numpy(), atol=0.5)


def test_the_pictures_show_what_the_rays_hit(draw: Draw) -> None:
    size, orbit = 40, Orbit(1.2, 0.4, 1.7)
    mesh = procedural_mesh(1)
    origin, rays = Camera(orbit.camera_from_world, size).rays()
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(np.float64), 1, 0)
    ray, start = rays.numpy().reshape(-1, 1, 3), origin.numpy()
    across = np.cross(ray, c - a)  # Möller and Trumbore, 1997
    determinant = (across * (b - a)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = ((start - a) * across).sum(-1) / determinant
        over = np.cross(start - a, b - a)
        v = (ray * over).sum(-1) / determinant
    hit = ((u >= 0) & (v >= 0) & (u + v <= 1)).any(axis=1).reshape(size, size)
    drawn = draw(mesh, [orbit], size, FLAT, 1)[0, ..., 3] == 255
    assert hit.any()
    assert (hit != drawn).sum() <= 2  # rays along an edge


def test_the_nearer_side_hides_the_farther(draw: Draw) -> None:
    mesh = join(
        [
            painted(box().scaled(0.1, 1, 1).moved(0.5, 0, 0), RED),
            painted(box().scaled(0.1, 1, 1).moved(-0.5, 0, 0), BLUE),
        ]
    )
    before, behind = draw(
        mesh, [Orbit(EYE_LEVEL, 0.0, 2.0), Orbit(EYE_LEVEL, math.pi, 2.0)], 32, FLAT, 2
    )
    assert before[16, 16, :3].argmax() == 0
    assert behind[16, 16, :3].argmax() == 2


def test_alpha_is_the_covered_share_of_a_pixel(draw: Draw) -> None:
    mesh = join([painted(box().scaled(1, 1, 1e-3), WHITE)])
    alpha = draw(mesh, [Orbit(0.0, 0.7, 2.0)], 96, FLAT, 4)[0, ..., 3]
    side = Camera(Orbit(0.0, 0.7, 2.0).camera_from_world, 96).focal / 2.0
    assert alpha.sum() / 255 == pytest.approx(side**2, rel=0.005)
    assert len(np.unique(alpha)) > 8


def test_nothing_is_white_and_transparent(draw: Draw) -> None:
    corner = draw(procedural_mesh(0), [Orbit(1.0, 0.0, 2.2)], 32, FLAT, 2)[0, 0, 0]
    assert corner.tolist() == [255, 255, 255, 0]


def test_turning_object_lamps_and_camera_together_changes_nothing() -> None:
    angle, mesh = 0.9, procedural_mesh(5)
    lamp = Lamp(polar=0.8, azimuth=0.3, color=(0.6, 0.5, 0.4))
    there = replace(lamp, azimuth=lamp.azimuth + angle)
    plain = render(mesh, [Orbit(1.1, 0.2, 1.8)], 64, Lighting(lamps=(lamp,)))
    turned = render(
        moved(mesh, angle), [Orbit(1.1, 0.2 + angle, 1.8)], 64, Lighting(lamps=(there,))
    )
    different = np.abs(plain.astype(int) - turned.astype(int)).max(axis=-1) > 2
    assert different.mean() < 2e-3  # samples exactly on an edge


def test_faces_show_from_both_sides(draw: Draw) -> None:
    mesh = procedural_mesh(2)
    mirrored = replace(
        mesh,
        faces=np.ascontiguousarray(mesh.faces[:, ::-1]),
        normals=np.ascontiguousarray(-mesh.normals[:, ::-1]),
        colors=np.ascontiguousarray(mesh.colors[:, ::-1]),
        uv=np.ascontiguousarray(mesh.uv[:, ::-1]),
    )
    orbits = [Orbit(1.1, 0.2, 1.8)]
    one, two = draw(mesh, orbits, 64, Lighting(), 2), draw(mirrored, orbits, 64, Lighting(), 2)
    assert (np.abs(one.astype(int) - two.astype(int)).max(axis=-1) > 2).mean() < 2e-3


def test_the_side_toward_the_lamp_is_brighter(draw: Draw) -> None:
    mesh = join([painted(sphere(), (0.5, 0.5, 0.5))])
    left = Lighting(lamps=(Lamp(polar=EYE_LEVEL, azimuth=-EYE_LEVEL, color=(0.5, 0.5, 0.5)),))
    row = draw(mesh, [Orbit(EYE_LEVEL, 0.0, 2.0)], 64, left, 2)[0, 32, :, 0]
    assert row[20] > row[28] > row[40]


def test_drawn_light_neither_burns_out_nor_drowns() -> None:
    mesh = join([painted(sphere(), (0.8, 0.8, 0.8))])
    orbits = sample_orbits(np.random.default_rng(0), 4)
    for seed in range(20):
        lighting = sample_lighting(np.random.default_rng(seed))
        pictures = render(mesh, orbits, 32, lighting)
        value = pictures[pictures[..., 3] == 255][:, :3]
        assert 150 < value.mean() < 245
        assert (value == 255).mean() < 0.01
        assert value.min() > 80


def test_a_picture_does_not_depend_on_its_batch(draw: Draw) -> None:
    mesh, orbits = procedural_mesh(7), sample_orbits(np.random.default_rng(1), 3)
    together = draw(mesh, orbits, 32, Lighting(), 2)
    alone = np.concatenate([draw(mesh, [orbit], 32, Lighting(), 2) for orbit in orbits])
    np.testing.assert_array_equal(together, alone)


def test_large_textures_do_not_flicker_from_afar(draw: Draw) -> None:
    checks = np.full((512, 512, 4), 255, np.uint8)
    checks[::2, 1::2, :3] = checks[1::2, ::2, :3] = 0
    solid = box()
    part = replace(painted(solid, WHITE), uv=solid.uv, texture=checks)
    light = Lighting(sky=(0.7, 0.7, 0.7), ground=(0.7, 0.7, 0.7), lamps=())
    seen = draw(join([part]), [Orbit(EYE_LEVEL, 0.0, 2.2)], 32, light, 2)[0, 12:20, 12:20, 0]
    assert np.ptp(seen.astype(int)) <= 2
    assert seen.mean() == pytest.approx(160, abs=2)  # sRGB of 0.35: averaged as light


def test_a_camera_inside_the_object_is_refused(draw: Draw) -> None:
    with pytest.raises(ValueError, match="inside the object"):
        draw(procedural_mesh(0), [Orbit(1.0, 0.0, 0.3)], 16, FLAT, 2)


def test_no_orbits_make_no_pictures(draw: Draw) -> None:
    assert draw(procedural_mesh(0), [], 16, FLAT, 2).shape == (0, 16, 16, 4)
