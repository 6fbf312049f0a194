import itertools
import math

import numpy as np
import pytest

from zero123.data import Lighting, Part, join, procedural_mesh, render, sample_orbits
from zero123.data.meshes import Mesh, MeshError
from zero123.data.procedural import FAMILIES, Workbench
from zero123.data.procedural.solids import box, sphere
from zero123.geometry import Orbit


def same(one: Mesh, two: Mesh) -> bool:
    return (
        np.array_equal(one.vertices, two.vertices)
        and np.array_equal(one.colors, two.colors)
        and all(map(np.array_equal, one.textures, two.textures))
    )


def test_cameras_sit_where_the_originals_sat() -> None:
    orbits = sample_orbits(np.random.default_rng(0), 4000)
    radii = np.array([orbit.radius for orbit in orbits])
    assert radii.min() >= 1.5
    assert radii.max() <= 2.2
    assert radii.mean() == pytest.approx(1.85, abs=0.02)
    elevation = np.degrees([orbit.elevation for orbit in orbits])
    assert np.percentile(elevation, [5, 95]) == pytest.approx([-58, 58], abs=3)
    azimuth = [orbit.azimuth for orbit in orbits]
    assert np.mean(np.cos(azimuth)) == pytest.approx(0, abs=0.05)


def test_the_same_generator_seats_the_same_cameras() -> None:
    one, two = (sample_orbits(np.random.default_rng(4), 5) for _ in range(2))
    assert one == two
    assert one != sample_orbits(np.random.default_rng(5), 5)


def test_the_same_seed_makes_the_same_object() -> None:
    assert all(same(procedural_mesh(seed), procedural_mesh(seed)) for seed in range(20))


def test_other_seeds_make_other_objects() -> None:
    meshes = [procedural_mesh(seed) for seed in range(30)]
    assert not any(same(one, two) for one, two in itertools.pairwise(meshes))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_made_up_object_fits_and_has_unlike_sides(family) -> None:
    unlike = []
    for seed in range(6):
        mesh = join(family(Workbench.open(np.random.default_rng(seed))))
        size = np.ptp(mesh.vertices[mesh.faces].reshape(-1, 3), axis=0)
        assert size.max() == pytest.approx(1, abs=1e-5)
        assert np.abs(mesh.vertices).max() <= 0.5 + 1e-5
        assert mesh.colors.min() >= 0
        assert mesh.colors.max() <= 1
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=1e-4)
        seats = [Orbit(1.2, 0.3, 1.9), Orbit(1.2, 0.3 + math.pi, 1.9)]
        front, back = render(mesh, seats, 32, Lighting()).astype(int)
        unlike.append((np.abs(front - back).max(axis=-1) > 24).sum() > 12)
    assert np.mean(unlike) > 0.8


def test_families_make_their_objects_of_few_faces() -> None:
    assert max(len(procedural_mesh(seed).faces) for seed in range(60)) < 12_000


def test_smooth_surfaces_are_smooth_and_edges_sharp() -> None:
    def alone(solid) -> Mesh:
        return join([Part(solid.vertices, solid.faces, np.ones_like(solid.vertices))])

    ball, cube = alone(sphere(32)), alone(box())
    outward = ball.vertices[ball.faces]
    outward = outward / np.linalg.norm(outward, axis=-1, keepdims=True)
    assert (ball.normals * outward).sum(-1).min() > 0.99
    assert np.allclose(np.sort(np.abs(cube.normals), axis=-1), [0, 0, 1], atol=1e-6)
    assert ((cube.normals * cube.vertices[cube.faces]).sum(-1) > 0).all()


def test_an_object_is_centred_and_its_longest_side_is_one() -> None:
    solid = box().scaled(2, 6, 4).moved(10, 20, 30)
    mesh = join([Part(solid.vertices, solid.faces, np.ones_like(solid.vertices))])
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [1 / 6, 1 / 2, 1 / 3], atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-1 / 6, -1 / 2, -1 / 3], atol=1e-6)


def test_parts_that_share_a_picture_store_it_once() -> None:
    picture = np.full((4, 4, 4), 255, np.uint8)
    solid = box()
    parts = [
        Part(solid.vertices + 2 * i, solid.faces, np.ones_like(solid.vertices), solid.uv, picture)
        for i in range(3)
    ]
    mesh = join(parts)
    assert len(mesh.textures) == 1
    assert set(mesh.texture_of_face) == {0}


def test_no_parts_are_no_object() -> None:
    with pytest.raises(MeshError, match="no faces"):
        join([])
