import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scenes import LEVEL, RADIUS, ball

from zero123.data import load_mesh
from zero123.images import FramedPhoto
from zero123.reconstruct import ReconstructionError, write_object
from zero123.reconstruct.field import VoxelField
from zero123.reconstruct.files import SUFFIXES
from zero123.reconstruct.mesh import extract_surface
from zero123.reconstruct.texture import field_paint, paint_surface, views_paint
from zero123.reconstruct.views import photo_view


@pytest.fixture(scope="module")
def painted():
    field = ball(40)
    vertices, faces = extract_surface(field, 2000)
    return paint_surface(vertices, faces, [field_paint(field)], 256)


def test_a_ball_has_a_closed_surface_that_faces_outward():
    vertices, faces = extract_surface(ball(40), 2000)
    shell = trimesh.Trimesh(vertices, faces, process=False)
    assert shell.is_watertight
    assert len(faces) <= 2000
    # a rim of half the density stops more than half the light: the surface is a little outside
    assert 1 < shell.volume / (4 / 3 * np.pi * RADIUS**3) < 1.1
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(RADIUS, abs=0.02)


def test_what_floats_beside_and_hides_inside_is_left_out():
    field = ball(40)
    density = field.densities()
    density[2:6, 2:6, 2:6] = 400.0  # beside
    density[18:22, 18:22, 18:22] = 0.0  # inside
    field.start_from(density)
    vertices, faces = extract_surface(field, 10_000)
    assert trimesh.Trimesh(vertices, faces).body_count == 1
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(RADIUS, abs=0.03)


def test_a_faint_object_is_cut_where_it_changes():
    vertices, _ = extract_surface(ball(40, density=8.0), 2000)
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(RADIUS, abs=0.03)


def test_an_empty_field_has_no_surface():
    field = VoxelField(16, 0.5, density_scale=1e-3)
    with pytest.raises(ReconstructionError, match="there is no surface"):
        extract_surface(field, 1000)


def test_an_object_that_fills_its_box_is_closed_too():
    field = VoxelField(12, 0.5, density_scale=400.0)
    density = torch.zeros(12, 12, 12)
    density[:, 3:9, 3:9] = 400.0  # out to both ends
    field.start_from(density)
    vertices, faces = extract_surface(field, 5000)
    assert trimesh.Trimesh(vertices, faces).is_watertight


def test_every_texel_that_is_seen_has_the_colour_of_its_place(painted):
    centres = painted.vertices[painted.faces].mean(axis=1)
    uv = painted.uv[painted.faces].mean(axis=1)
    column, row = (uv * 256).astype(int).clip(0, 255).T
    shown = painted.texture[row, column] / 255
    above, below = centres[:, 2] > 0.05, centres[:, 2] < -0.05
    assert (shown[above, 1] > 0.8).mean() > 0.98
    assert (shown[below, 0] > 0.8).mean() > 0.98
    assert np.linalg.norm(painted.normals, axis=1) == pytest.approx(1, abs=1e-3)
    assert ((painted.normals * painted.vertices).sum(axis=1) > 0).all()


def test_a_photo_is_painted_on_the_side_that_it_shows_and_no_other():
    field = ball(40)
    blue = torch.zeros(3, 64, 64)
    blue[2] = 1
    photo = FramedPhoto(blue, torch.ones(1, 64, 64))
    paint = views_paint(field, photo_view(photo, 64, LEVEL, 1.0))
    ways = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.manual_seed(0)), dim=1)
    color, share = paint(RADIUS * ways, ways)
    facing = ways @ (LEVEL.position / LEVEL.position.norm()).float()
    assert float(share[facing > 0.85].min()) > 0.9
    assert not share[facing < 0.1].any()
    assert torch.allclose(color[share > 0], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_hold_the_same_object(painted, tmp_path, suffix):
    out = tmp_path / f"ball{suffix}"
    write_object(painted, out)
    read = trimesh.load_mesh(out, process=False)
    assert len(read.faces) == len(painted.faces)
    # y up: green on top
    assert np.abs(read.vertices).max() == pytest.approx(RADIUS, abs=0.02)
    mesh = load_mesh(out, up="y")
    assert len(mesh.faces) > 0.99 * len(painted.faces)
    colors = mesh.colors.mean(axis=1)
    if suffix == ".ply":
        top = mesh.vertices[mesh.faces].mean(axis=1)[:, 2] > 0.2
        assert colors[top, 1].mean() > 0.8
    else:
        assert len(mesh.textures) == 1
    assert {path.suffix for path in tmp_path.iterdir()} == (
        {".obj", ".mtl", ".png"} if suffix == ".obj" else {suffix}
    )


def test_a_glb_is_shown_as_it_is_and_its_front_faces_the_viewer(painted, tmp_path):
    out = tmp_path / "ball.glb"
    moved = painted.vertices + np.float32([0.0, -0.5, 0.0])  # toward the photo's camera
    write_object(type(painted)(**{**vars(painted), "vertices": moved}), out)
    data = out.read_bytes()
    assert b"KHR_materials_unlit" in data
    scene = trimesh.load_scene(out)
    assert scene.bounds.mean(axis=0) == pytest.approx([0, 0, 0.5], abs=0.01)


def test_other_files_are_refused(painted, tmp_path):
    with pytest.raises(ValueError, match=r"\.glb, \.obj, \.ply"):
        write_object(painted, tmp_path / "ball.stl")
    folder = tmp_path / "ball.glb"
    folder.mkdir()
    with pytest.raises(ValueError, match="name a file"):
        write_object(painted, folder)


def test_a_texture_is_a_picture_without_holes(painted):
    assert Image.fromarray(painted.texture).size == (256, 256)
    assert (painted.texture.reshape(-1, 3).max(axis=1) > 0).all()
