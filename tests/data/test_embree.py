"""What rays see that the fast renderer, whose tests they share, does not."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Int, UInt8

from zero123.data import Lamp, Lighting, Mesh, Part, join, procedural_mesh, render, sample_orbits
from zero123.data.bench import Bench, RenderJob
from zero123.data.embree import trace
from zero123.data.procedural.solids import Solid, box, sphere
from zero123.data.sources import find_items
from zero123.geometry import Camera, Orbit

ABOVE = Orbit(0.3, 0.2, 2.0)
LAMP = Lamp(polar=0.9, azimuth=0.0, color=(0.6, 0.6, 0.6))
DIM = (0.05, 0.05, 0.05)
WHITE, RED = (0.8, 0.8, 0.8), (0.8, 0.02, 0.02)


def painted(solid: Solid, color: tuple[float, float, float]) -> Part:
    return Part(solid.vertices, solid.faces, np.tile(color, (len(solid.vertices), 1)))


def floor() -> Part:
    return painted(box().scaled(1, 1, 0.02).moved(0, 0, -0.25), WHITE)


def plate() -> Part:
    """Hangs over the middle of the floor, as far over it as it is wide."""
    return painted(box().scaled(0.3, 0.3, 0.01).moved(0, 0, 0.05), WHITE)


def seen_at(
    picture: UInt8[np.ndarray, "H W 4"], place: tuple[float, float, float]
) -> Int[np.ndarray, "4"]:
    camera = Camera(ABOVE.camera_from_world, len(picture))
    column, row = camera.project(torch.tensor(place, dtype=torch.float64))[0].long().tolist()
    return picture[row, column].astype(int)


@pytest.mark.parametrize("seed", range(4))
def test_rays_and_the_fast_renderer_see_the_same_outline(seed: int) -> None:
    mesh, orbits = procedural_mesh(seed), sample_orbits(np.random.default_rng(seed), 3)
    ours = render(mesh, orbits, 128, Lighting())[..., 3] > 127
    rays = trace(mesh, orbits, 128, Lighting())[..., 3] > 127
    assert (ours & rays).sum() >= 0.99 * (ours | rays).sum()


def test_an_object_that_hides_nothing_from_itself_looks_as_the_fast_renderer_draws_it() -> None:
    solid = box().scaled(1, 0.7, 0.4)
    checks = np.full((8, 8, 4), 255, np.uint8)
    checks[::2, 1::2, :3] = checks[1::2, ::2, :3] = 90
    mesh = join([replace(painted(solid, RED), uv=solid.uv, texture=checks)])
    light = Lighting(sky=(0.6, 0.5, 0.4), ground=(0.1, 0.2, 0.3), lamps=(LAMP,))
    orbits = sample_orbits(np.random.default_rng(0), 6)
    ours, rays = render(mesh, orbits, 64, light), trace(mesh, orbits, 64, light, gathered=6)
    assert np.abs(ours.astype(int) - rays).mean() < 0.2
    assert np.abs(ours.astype(int) - rays).max() < 40  # a sample on an edge


def test_the_object_throws_a_shadow_where_the_lamp_does_not_reach() -> None:
    mesh = join([floor(), plate()])
    light = Lighting(sky=DIM, ground=DIM, lamps=(LAMP,))
    top, ground = float(mesh.vertices[:, 2].max()), float(mesh.vertices[:, 2].min()) + 0.02
    away = float(LAMP.direction[0] / LAMP.direction[2]) * (top - ground)
    shadow, open_floor = (-away, 0.0, ground), (-away, 0.4, ground)
    rays, flat = trace(mesh, [ABOVE], 96, light)[0], render(mesh, [ABOVE], 96, light)[0]
    assert seen_at(rays, open_floor)[0] > 2 * seen_at(rays, shadow)[0]
    assert abs(seen_at(rays, open_floor)[0] - seen_at(flat, open_floor)[0]) <= 3
    assert seen_at(flat, shadow)[0] == seen_at(flat, open_floor)[0]


def test_a_corner_is_darker_than_an_open_place() -> None:
    wall = painted(box().scaled(0.02, 1, 0.5).moved(-0.49, 0, 0.01), (0.0, 0.0, 0.0))
    light = Lighting(sky=(0.7, 0.7, 0.7), ground=(0.7, 0.7, 0.7), lamps=())
    picture = trace(join([floor(), wall]), [ABOVE], 96, light, gathered=6)[0]
    row = [seen_at(picture, (x, 0.0, -0.25))[0] for x in (-0.45, -0.3, 0.4)]
    assert row[0] < row[1] < row[2]


def test_a_red_wall_lends_its_colour_to_the_floor() -> None:
    wall = painted(box().scaled(0.02, 1, 0.5).moved(-0.49, 0, 0.01), RED)
    light = Lighting(sky=DIM, ground=DIM, lamps=(LAMP,))
    picture = trace(join([floor(), wall]), [ABOVE], 96, light, gathered=6)[0]
    red, green, *_ = seen_at(picture, (-0.45, 0.0, -0.25))
    assert red > green + 5


def test_rays_go_through_holes() -> None:
    texture = np.full((4, 4, 4), 255, np.uint8)
    texture[..., 3] = 0
    pierced = replace(plate(), uv=box().uv, texture=texture)
    both = join([floor(), pierced])
    mine = both.texture_of_face < 0
    corners = ("faces", "normals", "colors", "uv", "texture_of_face")
    alone = Mesh(both.vertices, *(getattr(both, name)[mine] for name in corners))
    orbits = sample_orbits(np.random.default_rng(2), 4)
    light = Lighting(lamps=(LAMP,))
    there, gone = trace(both, orbits, 64, light), trace(alone, orbits, 64, light)
    assert (np.abs(there.astype(int) - gone).max(axis=-1) > 2).mean() < 1e-3


def test_the_seed_alone_decides_the_grain() -> None:
    mesh = procedural_mesh(3)
    one, again = (trace(mesh, [ABOVE], 48, Lighting()) for _ in range(2))
    other = trace(mesh, [ABOVE], 48, Lighting(), seed=1)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one[..., 3], other[..., 3])
    assert (one != other).any()
    assert np.abs(one.astype(int) - other).mean() < 3


def test_more_rays_around_leave_less_grain() -> None:
    ball = join([painted(sphere(24), WHITE)])
    light = Lighting(sky=(0.7, 0.7, 0.7), ground=(0.1, 0.1, 0.1), lamps=())
    smooth = render(ball, [ABOVE], 48, light).astype(int)
    grain = [
        np.abs(trace(ball, [ABOVE], 48, light, gathered=count) - smooth).mean() for count in (1, 4)
    ]
    assert grain[1] < grain[0] / 2


def test_what_no_ray_meets_leaves_the_picture_empty() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1e-6, 0]])
    hair = join([Part(corners, np.array([[0, 1, 2]]), np.ones((3, 3)))])
    picture = trace(hair, [Orbit(0.0, 0.0, 2.0)], 16, Lighting())[0]
    assert (picture == (255, 255, 255, 0)).all()


@pytest.mark.parametrize("wrong", ["supersample", "gathered"])
def test_no_rays_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong} must be at least 1, got 0"):
        trace(procedural_mesh(0), [ABOVE], 16, Lighting(), **{wrong: 0})


def test_a_data_set_says_what_traced_it(tmp_path: Path) -> None:
    job = RenderJob(views=2, size=32, renderer="embree", keep_grey=True)
    with Bench(job, job.drawn_by(), tmp_path / "views", tmp_path / "scratch") as bench:
        row = bench(find_items(["procedural:1"])[0])
    assert (row.status, row.renderer.split()[0]) == ("done", "Embree")
    assert len(list((tmp_path / "views").rglob("*.png"))) == 2


def test_without_embree_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'zero123\[data\]'"):
        RenderJob(renderer="embree").drawn_by()
