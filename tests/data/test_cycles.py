import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from glb import SIDES, UPRIGHT, glb
from jaxtyping import UInt8

from zero123.data import Lighting, Mesh, MeshError, Part, join, procedural_mesh, sample_orbits
from zero123.data.cycles import Blender, CyclesRenderer, Quality, find_blender
from zero123.data.embree import trace
from zero123.data.mesh_files import load_mesh, write_glb
from zero123.data.procedural.solids import sphere
from zero123.data.raster import render
from zero123.data.studio import Studio
from zero123.geometry import Camera, Orbit

pytest.importorskip("bpy" if sys.version_info[:2] == (3, 11) else "no_bpy_for_this_python")

QUICK = Quality(samples=8, noise=0.0)
SEAT = Orbit(1.2, 0.4, 1.7)
COLORS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
CANARY_SCENE = """
import sys, bpy
mesh = bpy.data.meshes.new("tetrahedron")
corners = [(0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, 1)]
mesh.from_pydata(corners, [], [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)])
thing = bpy.data.objects.new("tetrahedron", mesh)
for old in list(bpy.data.objects):
    if old is not thing:
        bpy.data.objects.remove(old)
bpy.context.scene.collection.objects.link(thing)
text = bpy.data.texts.new("run.py")
text.write("open(%r, 'w')" % sys.argv[2])
text.use_module = True
driver = thing.driver_add("location", 0).driver
driver.type = "SCRIPTED"
driver.expression = "[open(%r, 'w'), 0][1]" % sys.argv[2]
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
"""

OPEN_TRUSTING = """
import sys, bpy
bpy.ops.wm.open_mainfile(filepath=sys.argv[1], use_scripts=True)
"""

EXPORT_RED_BOX = """
import sys, bpy
box = bpy.data.objects["Cube"]
box.scale = (1, 0.5, 0.25)
surface = box.data.materials[0].node_tree.nodes["Principled BSDF"]
surface.inputs["Base Color"].default_value = (0.8, 0.1, 0.1, 1)
bpy.ops.export_scene.fbx(filepath=sys.argv[1] + "/box.fbx")
bpy.ops.wm.usd_export(filepath=sys.argv[1] + "/box.usdc")
bpy.ops.wm.collada_export(filepath=sys.argv[1] + "/box.dae")
bpy.ops.wm.obj_export(filepath=sys.argv[1] + "/box.obj")
"""


def in_blender(folder: Path, script: str, *arguments: Path) -> None:
    file = folder / "script.py"
    file.write_text(script + "import os\nos._exit(0)\n")  # drivers crash bpy while it is torn down
    command = [sys.executable, "-P", str(file), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def cycles() -> Iterator[CyclesRenderer]:
    with CyclesRenderer(quality=QUICK) as renderer:
        yield renderer


@pytest.fixture
def object_file(tmp_path: Path) -> Path:
    path = tmp_path / "object.glb"
    write_glb(procedural_mesh(1), path)
    return path


def markers() -> Mesh:
    places = [(0.5, 0.1, 0.3), (-0.2, -0.4, 0.5), (0.0, 0.5, -0.5)]
    dots = [sphere(12).scaled(0.04, 0.04, 0.04).moved(*place) for place in places]
    return join(
        [
            Part(dot.vertices, dot.faces, np.tile(color, (len(dot.vertices), 1)))
            for dot, color in zip(dots, COLORS, strict=True)
        ]
    )


def overlap(a: UInt8[np.ndarray, "H W 4"], b: UInt8[np.ndarray, "H W 4"]) -> float:
    there, here = a[..., 3] > 127, b[..., 3] > 127
    return float((there & here).sum() / (there | here).sum())


def test_markers_appear_where_the_camera_projects_them(
    cycles: CyclesRenderer, tmp_path: Path
) -> None:
    mesh, path = markers(), tmp_path / "markers.glb"
    write_glb(mesh, path)
    orbits, size = sample_orbits(np.random.default_rng(3), 4), 256
    owner = np.repeat(np.arange(3), len(mesh.vertices) // 3)
    light = Studio().lighting()
    theirs = cycles.render(path, orbits, size, Studio())
    for pictures in (render(mesh, orbits, size, light), trace(mesh, orbits, size, light), theirs):
        for picture, orbit in zip(pictures.astype(np.float64), orbits, strict=True):
            for color in range(3):
                centre = mesh.vertices[owner == color].mean(axis=0, dtype=np.float64)
                pixel, _ = Camera(orbit.camera_from_world, size).project(torch.from_numpy(centre))
                others = np.delete(picture[..., :3], color, axis=-1).max(axis=-1)
                share = picture[..., 3] * (picture[..., color] > others + 10)
                rows, columns = np.indices(share.shape) + 0.5
                found = [(columns * share).sum() / share.sum(), (rows * share).sum() / share.sum()]
                np.testing.assert_allclose(found, pixel.numpy(), atol=0.5)


@pytest.mark.parametrize(
    ("seed", "size"),
    [(2, 64), *(pytest.param(seed, 256, marks=pytest.mark.slow) for seed in (0, 1, 3))],
)
def test_all_renderers_see_the_same_outline_and_colours(
    cycles: CyclesRenderer, tmp_path: Path, seed: int, size: int
) -> None:
    mesh, path = procedural_mesh(seed), tmp_path / "object.glb"
    write_glb(mesh, path)
    orbits = sample_orbits(np.random.default_rng(seed), 2)
    theirs = cycles.render(path, orbits, size, Studio())
    for draw in (render, trace):
        ours = draw(mesh, orbits, size, Studio().lighting(), supersample=1)
        for a, b in zip(theirs, ours, strict=True):
            assert overlap(a, b) >= 0.98
            inside = (a[..., 3] == 255) & (b[..., 3] == 255)
            assert np.abs(a[inside].astype(int) - b[inside]).mean() < 20
            assert (a[a[..., 3] == 0, :3] == 255).all()


def test_the_same_request_gives_the_same_bytes_in_any_process(
    cycles: CyclesRenderer, object_file: Path
) -> None:
    once = cycles.render(object_file, [SEAT], 48, Studio())
    with CyclesRenderer(quality=QUICK) as another:
        again = another.render(object_file, [SEAT.moved(0.0, 1.0), SEAT], 48, Studio())
    np.testing.assert_array_equal(once[0], again[1])
    assert once[..., 3].any()


def test_scripts_in_a_blend_file_never_run(cycles: CyclesRenderer, tmp_path: Path) -> None:
    scene, canary = tmp_path / "scene.blend", tmp_path / "canary"
    in_blender(tmp_path, CANARY_SCENE, scene, canary)
    pictures = cycles.render(scene, [SEAT], 16, Studio())
    assert pictures[..., 3].any()
    assert len(cycles.read(scene).faces) == 4
    assert not canary.exists()
    in_blender(tmp_path, OPEN_TRUSTING, scene)
    assert canary.exists()


def test_a_killed_process_is_told_and_replaced(object_file: Path) -> None:
    with CyclesRenderer(quality=Quality(samples=4096, noise=0.0)) as renderer:

        def kill() -> None:
            while renderer.pid is None:
                time.sleep(0.01)
            time.sleep(0.5)
            os.kill(renderer.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(MeshError, match=r"object\.glb: Blender was ended by SIGKILL"):
            renderer.render(object_file, [SEAT], 512, Studio())
        killer.join()
        renderer.quality = QUICK
        assert renderer.render(object_file, [SEAT], 16, Studio())[..., 3].any()


@pytest.mark.parametrize(
    ("max_memory", "timeout", "reason"),
    [(3 * 2**29, 0.2, "timed out after 0.2 s"), (2**26, 60.0, "out of memory: more than 0.0625")],
)
def test_too_much_is_bounded(
    object_file: Path, max_memory: int, timeout: float, reason: str
) -> None:
    with CyclesRenderer(quality=Quality(4096, 0.0), max_memory=max_memory) as renderer:
        with pytest.raises(MeshError, match=reason):
            renderer.render(object_file, [SEAT], 512, Studio(), timeout)
        assert renderer.pid is None


BAD = {
    "text.glb": b"a shopping list",
    "nan.glb": glb(vertices=UPRIGHT * np.array([1, np.nan, 1], np.float32)),
    "point.obj": b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n",
    "far.glb": glb(header={"images": [{"uri": "../../secret.png"}]}),
    "wrong.stl": glb(),
    "list.xyz": b"0 0 0",
    "empty.blend": b"",
    "pink.obj": b"mtllib pink.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n",
}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text.glb", "not readable as glTF"),
        ("nan.glb", "NaN"),
        ("point.obj", "one point"),
        ("far.glb", "outside its folder"),
        ("wrong.stl", ""),
        ("list.xyz", "no format that is read"),
        ("empty.blend", ""),
        ("pink.obj", "texture is missing"),
    ],
)
def test_unfit_files_are_refused_with_a_reason(
    cycles: CyclesRenderer, tmp_path: Path, name: str, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name])
    (tmp_path / "pink.mtl").write_text("newmtl a\nmap_Kd nowhere.png\n")
    with pytest.raises(MeshError, match=f"{name}: .*{reason}"):
        cycles.render(path, [SEAT], 16, Studio())


def test_vertex_colours_of_a_ply_show(cycles: CyclesRenderer, tmp_path: Path) -> None:
    corners = "\n".join(f"{x} {y} {z} 255 0 0" for x, y, z in UPRIGHT.tolist())
    faces = "\n".join(f"3 {a} {b} {c}" for a, b, c in SIDES.tolist())
    path = tmp_path / "red.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face 4\nproperty list uchar int vertex_indices\nend_header\n{corners}\n{faces}\n"
    )
    (picture,) = cycles.render(path, [SEAT], 64, Studio())
    shown = picture[picture[..., 3] > 0].astype(int)
    assert (shown[:, 0] > shown[:, 1:3].max(axis=1) + 20).all()
    ours = render(load_mesh(path), [SEAT], 64, Lighting(), supersample=1)[0]
    assert overlap(picture, ours) >= 0.98


def test_all_formats_show_the_same_box(cycles: CyclesRenderer, tmp_path: Path) -> None:
    in_blender(tmp_path, EXPORT_RED_BOX, tmp_path)
    pictures = []
    for name in ("box.fbx", "box.usdc", "box.dae", "box.obj"):
        box = cycles.read(tmp_path / name)
        np.testing.assert_allclose(np.ptp(box.vertices, axis=0), (1, 0.5, 0.25), atol=1e-5)
        np.testing.assert_allclose(box.colors.reshape(-1, 3).mean(0), (0.8, 0.1, 0.1), atol=1e-4)
        pictures.append(cycles.render(tmp_path / name, [SEAT], 32, Studio())[0].astype(int))
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture[..., 3], pictures[0][..., 3])
        np.testing.assert_allclose(picture, pictures[0], atol=30)  # each format's own gloss


def test_a_blender_that_does_not_start_says_why(object_file: Path) -> None:
    broken = Blender("program", "0", (sys.executable, "-c", "raise SystemExit('no display')"))
    with CyclesRenderer(broken) as renderer, pytest.raises(RuntimeError, match="no display"):
        renderer.render(object_file, [SEAT], 16, Studio())


def test_the_program_is_found_where_the_module_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'zero123\[render\]'"):
        find_blender()
    program = tmp_path / "blender"
    program.write_text("#!/bin/sh\necho Blender 3.4.1\n")
    program.chmod(0o755)
    assert str(find_blender()) == f"Blender 3.4.1 (program {program})"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    mesh, path = procedural_mesh(0), tmp_path / "object.glb"
    write_glb(mesh, path)
    back = load_mesh(path)
    order = np.argsort(mesh.texture_of_face, kind="stable")
    np.testing.assert_array_equal(back.texture_of_face, mesh.texture_of_face[order])
    np.testing.assert_array_equal(back.vertices[back.faces], mesh.vertices[mesh.faces][order])
    np.testing.assert_array_equal(back.colors, mesh.colors[order])
    np.testing.assert_allclose(back.normals, mesh.normals[order], atol=1e-6)
    np.testing.assert_allclose(back.uv, mesh.uv[order], atol=1e-6)
    for ours, theirs in zip(mesh.textures, back.textures, strict=True):
        np.testing.assert_array_equal(ours, theirs)
