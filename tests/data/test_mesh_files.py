import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from glb import SIDES, UPRIGHT, glb, png, unpack

from zero123.data import Lighting, Mesh, MeshError, load_mesh, render
from zero123.geometry import Orbit

FLAT = Lighting(sky=(0.5, 0.5, 0.5), ground=(0.5, 0.5, 0.5), lamps=())
QUAD = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
QUAD_FACES = np.array([[0, 1, 2], [0, 2, 3]], np.uint32)
QUAD_UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
FOUR = np.array(
    [[[255, 0, 0, 255], [0, 255, 0, 255]], [[0, 0, 255, 255], [255, 255, 255, 40]]], np.uint8
)
"""Red, green above; blue, a thin white below."""
BEFORE = Orbit(polar=math.pi / 2, azimuth=-math.pi / 2, radius=2.0)
"""Where +z of a glTF file looks to: our −y."""


def load(folder: Path, data: bytes, name: str = "thing.glb") -> Mesh:
    (folder / name).write_bytes(data)
    return load_mesh(folder / name)


def test_up_in_gltf_is_up_here(tmp_path: Path) -> None:
    mesh = load(tmp_path, glb())
    size = np.ptp(mesh.vertices, axis=0)
    np.testing.assert_allclose(size, [0.2, 0.1, 1.0], atol=1e-6)
    top = mesh.vertices[mesh.vertices[:, 2].argmax()]
    np.testing.assert_allclose(top, [-0.1, 0.05, 0.5], atol=1e-6)  # z of the file is our −y


def test_a_linear_grey_factor_half_is_not_crushed(tmp_path: Path) -> None:
    picture = render(
        load(tmp_path, glb(QUAD, QUAD_FACES, factor=(0.5, 0.5, 0.5, 1))),
        [BEFORE],
        32,
        Lighting(sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0), lamps=()),
    )[0]
    assert picture[16, 16].tolist() == [188, 188, 188, 255]


def test_dark_factors_keep_more_than_eight_bits(tmp_path: Path) -> None:
    mesh = load(tmp_path, glb(factor=(0.0005, 0.001, 0.0021, 1)))
    np.testing.assert_allclose(mesh.colors[0, 0], [0.0005, 0.001, 0.0021], rtol=1e-6)


def test_a_texture_stands_as_in_the_picture(tmp_path: Path) -> None:
    opaque = FOUR.copy()
    opaque[..., 3] = 255
    mesh = load(tmp_path, glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV}, png(opaque)))
    seen = render(mesh, [BEFORE], 64, FLAT)[0]
    quarters = seen[[20, 20, 44, 44], [20, 44, 20, 44], :3].astype(int)
    assert [int(q.argmax()) for q in quarters[:3]] == [0, 1, 2]
    assert quarters[3].min() > 150


def test_a_factor_multiplies_its_texture(tmp_path: Path) -> None:
    white = np.full((2, 2, 4), 255, np.uint8)
    attributes = {"TEXCOORD_0": QUAD_UV}
    factor = (1.0, 0.0, 0.0, 1.0)
    mesh = load(tmp_path, glb(QUAD, QUAD_FACES, attributes, png(white), factor))
    red = render(mesh, [BEFORE], 16, FLAT)[0, 8, 8]
    assert red.tolist() == [188, 0, 0, 255]


def test_masked_texels_are_holes(tmp_path: Path) -> None:
    data = glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV}, png(FOUR), material={"alphaMode": "MASK"})
    alpha = render(load(tmp_path, data), [BEFORE], 64, FLAT)[0, ..., 3]
    assert alpha[[20, 20, 44, 44], [20, 44, 20, 44]].tolist() == [255, 255, 255, 0]


def test_opaque_materials_ignore_the_alpha_of_their_texture(tmp_path: Path) -> None:
    mesh = load(tmp_path, glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV}, png(FOUR)))
    assert render(mesh, [BEFORE], 64, FLAT)[0, 44, 44, 3] == 255


def test_a_texture_transform_is_followed(tmp_path: Path) -> None:
    transform = {"KHR_texture_transform": {"offset": [0.5, 0.0], "scale": [0.5, 0.5]}}
    data = glb(
        QUAD,
        QUAD_FACES,
        {"TEXCOORD_0": QUAD_UV},
        png(FOUR),
        material={
            "pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "extensions": transform}}
        },
        header={"extensionsUsed": ["KHR_texture_transform"]},
    )
    pixel = render(load(tmp_path, data), [BEFORE], 64, FLAT)[0, 32, 32]
    assert int(pixel[:3].argmax()) == 1  # all of the quad shows the green quarter


@pytest.mark.parametrize("scale", [1, 255])
def test_painted_vertices_multiply_the_factor(tmp_path: Path, scale: int) -> None:
    kind = np.float32 if scale == 1 else np.uint8
    painted = (np.tile([0.2, 0.4, 1.0, 1.0], (4, 1)) * scale).astype(kind)
    mesh = load(tmp_path, glb(attributes={"COLOR_0": painted}, factor=(0.5, 0.5, 0.5, 1)))
    np.testing.assert_allclose(mesh.colors[0, 0], [0.1, 0.2, 0.5], atol=1e-6)


def test_a_mesh_placed_twice_is_there_twice(tmp_path: Path) -> None:
    nodes = [{"mesh": 0}, {"mesh": 0, "translation": [3, 0, 0], "scale": [1, 2, 1]}]
    mesh = load(tmp_path, glb(nodes=nodes))
    assert len(mesh.faces) == 8
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0) * 3.2, [3.2, 0.1, 2.0], atol=1e-5)


def test_given_normals_turn_with_their_node(tmp_path: Path) -> None:
    up = np.tile(np.array([[0, 3, 0]], np.float32), (4, 1))  # of any length
    half_turn = {"mesh": 0, "rotation": [1, 0, 0, 0], "scale": [1, 5, 1]}
    mesh = load(tmp_path, glb(attributes={"NORMAL": up}, nodes=[half_turn]))
    np.testing.assert_allclose(mesh.normals.reshape(-1, 3), [[0, 0, -1]] * 12, atol=1e-6)


def test_painted_ply_colours_are_srgb(tmp_path: Path) -> None:
    lines = ["ply", "format ascii 1.0", "element vertex 3"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {color}" for color in ("red", "green", "blue")]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header"]
    lines += ["0 0 0 188 0 255", "1 0 0 188 0 255", "0 0 1 188 0 255", "3 0 1 2", ""]
    mesh = load(tmp_path, "\n".join(lines).encode(), "painted.ply")
    np.testing.assert_allclose(mesh.colors[0, 0], [0.5029, 0, 1], atol=1e-3)
    assert np.ptp(mesh.vertices[:, 2]) == 1  # z is up in a .ply


def test_an_obj_brings_its_material(tmp_path: Path) -> None:
    (tmp_path / "thing.mtl").write_text("newmtl red\nKd 1.0 0.0 0.0\n")
    text = "mtllib thing.mtl\nusemtl red\nv 0 0 0\nv 1 0 0\nv 0 2 0\nf 1 2 3\n"
    mesh = load(tmp_path, text.encode(), "thing.obj")
    np.testing.assert_allclose(mesh.colors[0, 0], [1, 0, 0])
    assert np.ptp(mesh.vertices[:, 2]) == 1


@pytest.mark.parametrize("share", [0.0, 0.003, 0.02, 0.3, 0.7, 0.95, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, share: float) -> None:
    whole = glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV}, png(FOUR))
    with pytest.raises(MeshError, match=r"^thing\.glb: "):
        load(tmp_path, whole[: int(share * len(whole))])


BENT = UPRIGHT.copy()
BENT[2, 1] = np.nan

HOSTILE = {
    "no faces": glb(faces=np.zeros((0, 3), np.uint32)),
    "no area": glb(faces=np.array([[0, 1, 1], [2, 2, 2]], np.uint32)),
    "one point": glb(vertices=np.zeros((4, 3), np.float32)),
    "not finite": glb(vertices=BENT),
    "infinite": glb(vertices=np.where(UPRIGHT > 0.5, np.float32("inf"), UPRIGHT)),
    "a face too far": glb(faces=np.array([[0, 1, 99]], np.uint32)),
    "no meshes": glb(header={"meshes": [], "nodes": [{}]}),
    "a broken texture": glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV}, b"no picture"),
    "half a texture": glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV}, png(FOUR)[:60]),
    "uv not finite": glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV + np.float32("nan")}, png(FOUR)),
    "an extension": glb(header={"extensionsRequired": ["EXT_meshopt_compression"]}),
    "a list for a header": b"glTF\x02\0\0\0\x18\0\0\0\x04\0\0\0JSON[]  ",
    "another format": b"solid nothing at all",
    "version 1": glb().replace(b"glTF\x02", b"glTF\x01"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused_by_name(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(MeshError, match=r"^thing\.glb: "):
        load(tmp_path, data)


def refers_to(picture: str, buffer: str | None = None) -> bytes:
    """A textured glTF file whose picture, and the rest if named, lie in files of their own."""
    uri = {"images": [{"uri": picture}]}
    whole = glb(QUAD, QUAD_FACES, {"TEXCOORD_0": QUAD_UV}, png(FOUR), header=uri)
    if buffer is None:
        return whole
    header, binary = unpack(whole)
    header["buffers"] = [{"uri": buffer, "byteLength": len(binary)}]
    return json.dumps(header).encode()


def secrets(folder: Path) -> None:
    (folder / "secret.png").write_bytes(png(FOUR))
    (folder / "secret.bin").write_bytes(unpack(refers_to("secret.png"))[1])
    (folder / "secret.mtl").write_text("newmtl red\nKd 1 0 0\n")


@pytest.mark.parametrize("buffer", [None, "secret.bin"])
def test_a_gltf_file_reads_nothing_outside_its_folder(tmp_path: Path, buffer: str | None) -> None:
    folder, name = tmp_path / "folder", "thing.gltf" if buffer else "thing.glb"
    folder.mkdir()
    secrets(tmp_path)
    assert load(tmp_path, refers_to("secret.png", buffer), name).textures
    outside = [refers_to("../secret.png", buffer), refers_to(str(tmp_path / "secret.png"), buffer)]
    if buffer:
        outside = [refers_to("secret.png", f"../{buffer}")]
        (folder / "secret.png").write_bytes(png(FOUR))
    for data in outside:
        with pytest.raises(MeshError, match=rf"^{name}: "):
            load(folder, data, name)


def test_an_obj_file_reads_nothing_outside_its_folder(tmp_path: Path) -> None:
    secrets(tmp_path)
    (tmp_path / "folder").mkdir()
    text = "mtllib {}\nusemtl red\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    red = load(tmp_path, text.format("secret.mtl").encode(), "thing.obj").colors
    np.testing.assert_allclose(red, np.broadcast_to([1, 0, 0], red.shape))
    plain = load(tmp_path / "folder", text.format("../secret.mtl").encode(), "thing.obj").colors
    assert np.ptp(plain) < 0.01


@pytest.mark.skipif(importlib.util.find_spec("DracoPy") is not None, reason="Draco can be read")
def test_draco_without_its_reader_is_refused_with_a_hint(tmp_path: Path) -> None:
    data = glb(header={"extensionsRequired": ["KHR_draco_mesh_compression"]})
    with pytest.raises(MeshError, match="pip install DracoPy"):
        load(tmp_path, data)


def test_a_missing_file_is_no_broken_mesh(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_mesh(tmp_path / "nowhere.glb")


def test_an_unknown_ending_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"^thing\.docx: "):
        load(tmp_path, b"words", "thing.docx")


def test_vertices_without_faces_do_not_move_the_box(tmp_path: Path) -> None:
    far = np.concatenate([UPRIGHT, [[50, 50, 50]]]).astype(np.float32)
    mesh = load(tmp_path, glb(far, SIDES))
    assert np.ptp(mesh.vertices[mesh.faces].reshape(-1, 3), axis=0).max() == pytest.approx(1)
