"""A folder of strangers' files: what can be drawn is drawn, and what cannot is explained."""

import importlib.util
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from glb import UPRIGHT, glb, png
from PIL import Image

from zero123.data import procedural_mesh
from zero123.data.bench import RenderJob
from zero123.data.check import check
from zero123.data.jobs import run_job
from zero123.data.mesh_files import write_glb
from zero123.data.report import Report
from zero123.data.sources import find_items

JOB = RenderJob(views=2, size=32, renderer="fast", seconds=120.0, megabytes=60.0)
RED = (0.8, 0.1, 0.05, 1.0)

needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="makes .blend files with bpy"
)


def write_good_ones(folder: Path) -> None:
    """20 files that are as they should be."""
    for seed in range(14):
        write_glb(procedural_mesh(seed), folder / f"made_{seed:02d}.glb")
    (folder / "red.mtl").write_text("newmtl red\nKd 1 0 0\n")
    for n in range(3):
        corners = f"v 0 0 0\nv 1 0 0\nv 0 {n + 1} 0\nv 0 0 1\n"
        faces = "f 1 2 3\nf 1 3 4\nf 1 4 2\nf 2 4 3\n"
        (folder / f"plain_{n}.obj").write_text(f"mtllib red.mtl\nusemtl red\n{corners}{faces}")
        head = "ply\nformat ascii 1.0\nelement vertex 4\n"
        head += "".join(f"property float {axis}\n" for axis in "xyz")
        head += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
        head += "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
        rows = ["0 0 0 9 9 200", "1 0 0 9 9 200", f"0 {n + 1} 0 200 9 9", "0 0 1 9 200 9"]
        rows += ["3 0 2 1", "3 0 1 3", "3 0 3 2", "3 1 2 3", ""]
        (folder / f"painted_{n}.ply").write_text(head + "\n".join(rows))


def animated(scale_at_rest: float) -> bytes:
    """A glTF file whose animation makes it grow."""
    node = {"mesh": 0, "scale": [scale_at_rest] * 3}
    animation = {
        "channels": [{"sampler": 0, "target": {"node": 0, "path": "scale"}}],
        "samplers": [{"input": 0, "output": 0}],
    }
    return glb(factor=RED, nodes=[node], header={"animations": [animation]})


def five_million_faces(path: Path) -> None:
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 4\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += "element face 5000000\nproperty list uchar int vertex_indices\nend_header\n"
    faces = struct.pack("<B3i", 3, 0, 1, 2) * 5_000_000
    path.write_bytes(head.encode() + UPRIGHT.tobytes() + faces)


def write_hostile_ones(folder: Path) -> dict[str, tuple[str, str]]:
    """12 files that cannot be drawn, and the reasons to be given."""
    uv = {"TEXCOORD_0": np.zeros((4, 2), np.float32)}
    bent = UPRIGHT.copy()
    bent[2, 1] = np.nan
    huge = folder.parent / "huge.png"
    Image.new("1", (20_000, 20_000)).save(huge)
    absent = {"images": [{"uri": "nowhere.png"}]}
    files = {
        "truncated.glb": glb()[:500],
        "no_faces.glb": glb(faces=np.zeros((0, 3), np.uint32)),
        "not_finite.glb": glb(vertices=bent),
        "missing_texture.glb": glb(attributes=uv, texture=b"", header=absent),
        "wrong_ending.glb": png(np.zeros((8, 8, 3), np.uint8)),
        "huge_texture.glb": glb(attributes=uv, texture=huge.read_bytes()),
        "grows_from_nothing.glb": animated(0.0),
        "zero_size.glb": b"",
        "scripted.blend": b"BLENDER-v402" + b"import os; os.system('touch canary')",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    five_million_faces(folder / "five_million.ply")
    with zipfile.ZipFile(folder / "outside.zip", "w") as archive:
        archive.writestr("../outside.glb", glb())
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.glb", bytes(12345))
    bomb = (folder / "bomb.zip").read_bytes()
    unpacked = struct.pack("<I", 12345), struct.pack("<I", 4_000_000_000)
    (folder / "bomb.zip").write_bytes(bomb.replace(*unpacked))
    return {
        "truncated": ("unreadable", "truncated: 500 of"),
        "no_faces": ("unreadable", "the mesh has no faces"),
        "not_finite": ("unreadable", "vertices that are NaN or infinite"),
        "missing_texture": ("unreadable", "a texture is missing or broken"),
        "wrong_ending": ("unreadable", "not a binary glTF"),
        "huge_texture": ("unreadable", "a texture is missing or broken"),
        "grows_from_nothing": ("unreadable", "all vertices of the mesh are one point"),
        "zero_size": ("unreadable", "not a binary glTF"),
        "scripted": ("unreadable", "scripted.blend"),
        "five_million": ("too big", "65 MB, the bound is 60 MB"),
        "outside": ("unsafe", "'../outside.glb' leads out of its folder"),
        "bomb": ("too big", "would unpack to more than 2.1 GB"),
    }


def test_good_files_are_rendered_and_hostile_ones_explained(tmp_path: Path) -> None:
    folder = tmp_path / "strangers"
    folder.mkdir()
    write_good_ones(folder)
    expected = write_hostile_ones(folder)
    assert len(expected) == 12
    before = sorted(tmp_path.rglob("*"))
    report = run_job(find_items([str(folder)]), JOB, tmp_path / "data", workers=2)
    assert len(report.done) == 20
    assert {row.name: row.reason for row in report.skipped} == {
        name: reason for name, (reason, _) in expected.items()
    }
    for row in report.skipped:
        assert expected[row.name][1] in row.detail
    assert check(tmp_path / "data") == []
    after = [path for path in tmp_path.rglob("*") if tmp_path / "data" not in (path, *path.parents)]
    assert sorted(after) == before  # nothing was written but the data set


def test_an_animation_that_can_be_drawn_is(tmp_path: Path) -> None:
    (tmp_path / "grows.glb").write_bytes(animated(1.0))
    assert run_job(find_items([str(tmp_path / "grows.glb")]), JOB, tmp_path / "data").done


SCRIPTED = """
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.mesh.primitive_cube_add()
cube = bpy.context.object
look = bpy.data.materials.new("red")
look.use_nodes = True
look.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.8, 0.05, 0.05, 1)
cube.data.materials.append(look)
text = bpy.data.texts.new("run_me.py")
text.write("open(%r, 'w')" % {canary!r})
text.use_module = True
driver = cube.driver_add("location", 0).driver
driver.expression = "open(%r, 'w').close() or 0" % {canary!r}
bpy.ops.wm.save_as_mainfile(filepath={path!r})
"""


@needs_blender
def test_a_blend_file_is_drawn_and_its_scripts_never_run(tmp_path: Path) -> None:
    path, canary = tmp_path / "cube.blend", tmp_path / "canary"
    script = SCRIPTED.format(canary=str(canary), path=str(path))
    subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert path.is_file()  # bpy may crash, but only as it ends
    report = run_job(find_items([str(path)]), JOB, tmp_path / "data")
    assert report.done == ["cube"], report.skipped
    assert not canary.exists()


def test_a_full_disk_stops_with_a_sentence_and_what_is_finished_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zero123", "render", "procedural:12", "--renderer", "fast"]
    command += ["--views", "2", "--size", "48", "--workers", "1", "--keep-grey", "--out"]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    names = Report.read(tmp_path / "whole").done
    largest = [
        max(path.stat().st_size for path in (tmp_path / "whole" / name).iterdir()) for name in names
    ]
    # the first object after the second that needs more than those before it
    stops = next(n for n in range(2, len(names)) if largest[n] > max(largest[:n]))
    limit = largest[stops] - 1

    done = subprocess.run(
        [*command, tmp_path / "full"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("zero123: ")
    assert "File too large" in last
    assert check(tmp_path / "full") == []
    there = {path.name for path in (tmp_path / "full").glob("procedural_*")}
    assert there == set(names[:stops])

    subprocess.run([*command, tmp_path / "full"], check=True, capture_output=True)
    for whole in (tmp_path / "whole").rglob("*.*"):
        if whole.is_file() and whole.suffix != ".log":
            again = tmp_path / "full" / whole.relative_to(tmp_path / "whole")
            assert again.read_bytes() == whole.read_bytes()
