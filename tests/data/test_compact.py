from dataclasses import replace

import numpy as np
import pytest

from zero123.data import Lighting, Mesh, MeshError, Part, join, procedural_mesh, render
from zero123.data.compact import MAX_TEXTURE, compact, decimated, expanded
from zero123.data.views import ViewSet
from zero123.evaluation.metrics import psnr
from zero123.geometry import Orbit

SEATS = [Orbit(1.2, azimuth, 1.8) for azimuth in (0.4, 2.5, 4.6)]


def likeness(first: Mesh, second: Mesh) -> float:
    """PSNR of the views that differ most, dB."""
    views = [ViewSet.on_white(render(mesh, SEATS, 128, Lighting())) for mesh in (first, second)]
    return min(psnr(one, other) for one, other in zip(*views, strict=True))


def wavy(side: int) -> Mesh:
    """A textured sheet of 2 side² faces; its texture is larger than is kept, and repeats."""
    x, y = (
        axis.ravel()
        for axis in np.meshgrid(np.linspace(0, 1, side + 1), np.linspace(0, 1, side + 1))
    )
    corner = np.arange((side + 1) ** 2).reshape(side + 1, side + 1)
    a, b, c, d = (
        part.ravel()
        for part in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1])
    )
    u, v = np.meshgrid(*[np.linspace(0, 2 * np.pi, 2 * MAX_TEXTURE)] * 2)
    waves = [
        np.sin(u + v),
        np.cos(u - 2 * v),
        np.sin(3 * u) * np.cos(v),
        np.full_like(u, 127 / 120),
    ]
    return join(
        [
            Part(
                vertices=np.stack([x, y, 0.1 * np.sin(6 * x)], axis=1),
                faces=np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]),
                colors=np.ones((len(x), 3)),
                uv=np.stack([x, y], axis=1) * 0.9 + 3.05,
                texture=np.rint(128 + 120 * np.stack(waves, axis=-1)).astype(np.uint8),
            )
        ]
    )


@pytest.mark.parametrize("seed", [1, 5, 23])
def test_a_packed_object_looks_the_same_within_40_db_in_a_quarter_of_the_bytes(seed):
    mesh = procedural_mesh(seed)
    data = compact(mesh)
    assert likeness(mesh, expanded(data)) > 40
    arrays = (mesh.vertices, mesh.faces, mesh.normals, mesh.colors, mesh.uv, *mesh.textures)
    assert len(data) < sum(array.nbytes for array in arrays) / 4


def test_a_packed_texture_is_small_and_where_it_was():
    mesh = wavy(8)
    (texture,) = expanded(compact(mesh)).textures
    assert texture.shape == (MAX_TEXTURE, MAX_TEXTURE, 4)
    assert likeness(mesh, expanded(compact(mesh))) > 35


def test_a_small_palette_can_be_kept_to_the_colour():
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    colours[..., 3] = 255
    palette = np.kron(colours, np.ones((16, 16, 1), np.uint8))
    (texture,) = expanded(compact(replace(wavy(2), textures=(palette,)), lossless=True)).textures
    np.testing.assert_array_equal(texture, palette)


def test_packing_again_changes_nothing():
    once = compact(procedural_mesh(3))
    again = expanded(compact(expanded(once)))
    for name in ("vertices", "faces", "texture_of_face"):
        np.testing.assert_array_equal(getattr(again, name), getattr(expanded(once), name))


def test_a_textured_surface_of_a_fifth_of_the_faces_looks_the_same():
    mesh = wavy(40)
    fewer = decimated(mesh, 640)
    assert 500 < len(fewer.faces) <= 700
    assert likeness(mesh, fewer) > 30


def test_a_texture_repeated_without_end_is_refused():
    mesh = wavy(2)
    with pytest.raises(MeshError, match="repeats its texture"):
        compact(replace(mesh, uv=mesh.uv * np.float32(1e6)))


def test_few_faces_stay_as_they_are():
    mesh = wavy(4)
    assert decimated(mesh, 32) is mesh


@pytest.mark.parametrize("data", [b"", b"glTF", compact(wavy(2))[:-9]])
def test_what_is_no_packed_mesh_is_refused(data):
    with pytest.raises(MeshError, match="no compact mesh"):
        expanded(data)
