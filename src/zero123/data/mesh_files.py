"""Between mesh files and our meshes, without what readers round, drop or leave at zero."""

import importlib.util
import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from zero123.data.color import linear_from_srgb
from zero123.data.meshes import Mesh, MeshError, Part, join

MAX_TEXTURE = 1024
"""Larger textures are shrunk to this side, pixels: no view of an object shows more."""
_BLEND_CUTOFF = 0.25
"""Blended texels thinner than this are holes, thicker ones are drawn as solid."""
_PLAIN = 0.6
"""Linear grey of an object that names no colour."""
_READ_EXTENSIONS = {
    "EXT_texture_webp",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_texture_transform",
}
_PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)
"""A parser led astray by a broken file stumbles in any of these ways."""


def load_mesh(path: Path, up: Literal["y", "z"] | None = None) -> Mesh:
    """Read an object from a file: base colours, their textures, vertex colours, cut-outs.

    Lights of its own, mirrors and glass are not kept: glass is drawn as solid.

    Args:
        path: glTF, or any format that trimesh reads (.obj with its .mtl, .ply, .stl, .off ...).
        up: the file's vertical axis; None takes y for .glb, .gltf and .obj, z for all others.

    Raises:
        MeshError: if the file is broken or holds nothing to draw.
        OSError: if it cannot be opened.
    """
    data = path.read_bytes()
    suffix = path.suffix.lower()
    try:
        reader = _gltf_parts if suffix in (".glb", ".gltf") else _other_parts
        parts = reader(data, path)
        if up == "z" or (up is None and suffix not in (".glb", ".gltf", ".obj")):
            return join(parts)
        return join([_z_up(part) for part in parts])
    except MeshError as problem:
        raise MeshError(f"{path.name}: {problem}") from problem
    except _PARSER_ERRORS as problem:
        kind = type(problem).__name__
        raise MeshError(
            f"{path.name}: not readable as {suffix or 'a mesh'} ({kind}: {problem})"
        ) from problem


def write_glb(mesh: Mesh, path: Path) -> None:
    """Write an object as binary glTF, y-up; ``load_mesh`` reads the same object back.

    The same mesh gives the same bytes. Surfaces are fully rough, seen from both sides.
    """
    buffer = _Buffer()
    primitives: list[dict[str, Any]] = []
    materials: list[dict[str, Any]] = []
    for texture in np.unique(mesh.texture_of_face).tolist():
        mine = np.flatnonzero(mesh.texture_of_face == texture)
        attributes = {
            "POSITION": buffer.add_rows(_y_up(mesh.vertices[mesh.faces[mine]])),
            "NORMAL": buffer.add_rows(_y_up(mesh.normals[mine])),
            "COLOR_0": buffer.add_rows(mesh.colors[mine]),
        }
        look: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": 1}
        material = {"pbrMetallicRoughness": look, "doubleSided": True}
        if texture >= 0:
            attributes["TEXCOORD_0"] = buffer.add_rows(mesh.uv[mine])
            look["baseColorTexture"] = {"index": texture}
            material |= {"alphaMode": "MASK", "alphaCutoff": 0.5}
        primitives.append({"attributes": attributes, "material": len(materials)})
        materials.append(material)
    images = [
        {"bufferView": buffer.add(_png(texture)), "mimeType": "image/png"}
        for texture in mesh.textures
    ]
    header: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}],
        "materials": materials,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    if images:
        header["images"] = images
        header["textures"] = [{"source": index} for index in range(len(images))]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(buffer.data), b"BIN\0") + buffer.data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


class _Buffer:
    """The binary chunk of a glTF file, as it grows, and where in it what is."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, data: bytes) -> int:
        """Append bytes; the number of their view."""
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)})
        self.data += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def add_rows(self, corners: Float32[np.ndarray, "F 3 width"]) -> int:
        """Append one row a corner; the number of their accessor."""
        rows = corners.reshape(-1, corners.shape[-1])
        accessor = {
            "bufferView": self.add(rows.astype("<f4").tobytes()),
            "componentType": 5126,  # float
            "count": len(rows),
            "type": f"VEC{rows.shape[1]}",
            "min": rows.min(axis=0).tolist(),
            "max": rows.max(axis=0).tolist(),
        }
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _y_up(rows: Float32[np.ndarray, "F 3 3"]) -> Float32[np.ndarray, "F 3 3"]:
    return np.stack([rows[..., 0], rows[..., 2], -rows[..., 1]], axis=-1)


def _png(picture: UInt8[np.ndarray, "h w 4"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _trimesh() -> Any:
    try:
        import trimesh
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "reading meshes needs trimesh: pip install 'zero123[data]'"
        ) from missing
    return trimesh


def _z_up(part: Part) -> Part:
    def turned(rows: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return np.stack([rows[:, 0], -rows[:, 2], rows[:, 1]], axis=1)

    normals = None if part.normals is None else turned(part.normals)
    return replace(part, vertices=turned(part.vertices), normals=normals)


@dataclass(frozen=True)
class _Look:
    """What a glTF header says of one primitive, unrounded."""

    factor: tuple[float, float, float]
    """Linear RGB."""
    textured: bool
    cutoff: float
    """Texels with a lower alpha are holes."""
    has_normals: bool
    uv_transform: Float[np.ndarray, "2 3"]
    """``KHR_texture_transform`` as a matrix on (u, v, 1)."""


def _gltf_parts(data: bytes, path: Path) -> list[Part]:
    trimesh = _trimesh()
    binary = data[:4] == b"glTF" or path.suffix.lower() == ".glb"
    header, chunks = _split_glb(data) if binary else (json.loads(data), b"")
    _refuse_undecodable(header)
    looks = _number_primitives(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    if binary:
        length = 20 + len(text) + len(chunks)
        text = struct.pack("<4sII I4s", b"glTF", 2, length, len(text), b"JSON") + text + chunks
    scene = trimesh.load_scene(
        io.BytesIO(text),
        file_type="glb" if binary else "gltf",
        resolver=trimesh.resolvers.FilePathResolver(path),
        process=False,
    )
    pictures: dict[tuple[int, float], UInt8[np.ndarray, "_ _ 4"]] = {}
    parts = []
    for geometry, world_from_local in _placed_meshes(scene):
        material = geometry.visual.material
        look = looks[int(material.name)]
        picture = None
        if look.textured:
            image = material.baseColorTexture
            if image is None:
                raise MeshError("a texture is missing or broken")
            key = (id(image), look.cutoff)
            if key not in pictures:
                pictures[key] = _texels(image, look.cutoff)
            picture = pictures[key]
        parts.append(_gltf_part(geometry, world_from_local, look, picture))
    return parts


def _split_glb(data: bytes) -> tuple[Any, bytes]:
    """Take a binary glTF apart: its header, and the chunks after it as they are."""
    if data[:4] != b"glTF":
        raise MeshError("not a binary glTF: it does not begin with 'glTF'")
    _, version, length, header_length, kind = struct.unpack("<4sII I4s", data[:20])
    if version != 2 or kind != b"JSON":
        raise MeshError(f"glTF version {version} is not read, only 2")
    if len(data) < length:
        raise MeshError(f"truncated: {len(data)} of {length} bytes")
    return json.loads(data[20 : 20 + header_length]), data[20 + header_length : length]


def _refuse_undecodable(header: Any) -> None:
    """Refuse what the reader would skip in silence, leaving zeros."""
    needed = set(header.get("extensionsRequired", ())) - _READ_EXTENSIONS
    for name in sorted(needed):
        if name == "KHR_draco_mesh_compression":
            if importlib.util.find_spec("DracoPy") is None:
                raise MeshError("compressed with Draco: pip install DracoPy")
        elif not name.startswith("KHR_materials_"):
            raise MeshError(f"needs the glTF extension {name}, which is not read")


def _number_primitives(header: Any) -> list[_Look]:
    """Give each primitive a material of its own, named by number.

    The reader keeps names and pictures, but rounds colour factors to 8 bits, which crushes dark
    colours, and forgets texture transforms and whether normals were given. The numbers lead back
    to the header, where all of it still stands.
    """
    materials = header.get("materials", [])
    looks: list[_Look] = []
    numbered: list[Any] = []
    for mesh in header.get("meshes", []):
        for primitive in mesh["primitives"]:
            material = materials[primitive["material"]] if "material" in primitive else {}
            extensions = material.get("extensions", {})
            base = material.get("pbrMetallicRoughness", {})
            if "KHR_materials_pbrSpecularGlossiness" in extensions:
                old = extensions["KHR_materials_pbrSpecularGlossiness"]
                base = {"baseColorFactor": old.get("diffuseFactor", [1, 1, 1, 1])}
                if "diffuseTexture" in old:
                    base["baseColorTexture"] = old["diffuseTexture"]
            attributes = primitive["attributes"]
            texture = base.get("baseColorTexture", {})
            transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
            channel = transform.get("texCoord", texture.get("texCoord", 0))
            if f"TEXCOORD_{channel}" in attributes:
                attributes["TEXCOORD_0"] = attributes[f"TEXCOORD_{channel}"]
            red, green, blue = (float(v) for v in base.get("baseColorFactor", (1, 1, 1))[:3])
            looks.append(
                _Look(
                    factor=(red, green, blue),
                    textured=bool(texture) and "TEXCOORD_0" in attributes,
                    cutoff={
                        "OPAQUE": 0.0,
                        "MASK": float(material.get("alphaCutoff", 0.5)),
                        "BLEND": _BLEND_CUTOFF,
                    }[material.get("alphaMode", "OPAQUE")],
                    has_normals="NORMAL" in attributes,
                    uv_transform=_uv_transform(transform),
                )
            )
            primitive["material"] = len(numbered)
            numbered.append({"name": str(len(numbered)), "pbrMetallicRoughness": base})
    header["materials"] = numbered
    return looks


def _uv_transform(transform: Any) -> Float[np.ndarray, "2 3"]:
    turn = transform.get("rotation", 0.0)
    (sx, sy), (x, y) = transform.get("scale", (1, 1)), transform.get("offset", (0, 0))
    sin, cos = np.sin(turn), np.cos(turn)
    return np.array([[cos * sx, sin * sy, x], [-sin * sx, cos * sy, y]], dtype=np.float64)


def _gltf_part(
    geometry: Any,
    world_from_local: Float[np.ndarray, "4 4"],
    look: _Look,
    picture: UInt8[np.ndarray, "_ _ 4"] | None,
) -> Part:
    colors = np.tile(np.asarray(look.factor, np.float64), (len(geometry.vertices), 1))
    painted = geometry.visual.vertex_attributes.get("color")
    if painted is not None:  # linear, unlike the vertex colours of other formats
        scale = np.iinfo(painted.dtype).max if painted.dtype.kind in "iu" else 1
        colors *= painted[:, :3] / scale
    uv = None
    if picture is not None:
        # the reader counts v from the bottom
        down = np.asarray(geometry.visual.uv, np.float64) * (1, -1) + (0, 1)
        uv = down @ look.uv_transform[:, :2].T + look.uv_transform[:, 2]
    return Part(
        vertices=_moved(geometry.vertices, world_from_local),
        faces=np.asarray(geometry.faces, np.int64),
        colors=colors,
        uv=uv,
        texture=picture,
        normals=(
            geometry.vertex_normals @ np.linalg.inv(world_from_local[:3, :3])
            if look.has_normals
            else None
        ),
    )


def _other_parts(data: bytes, path: Path) -> list[Part]:
    trimesh = _trimesh()
    scene = trimesh.load_scene(
        io.BytesIO(data),
        file_type=path.suffix.lower().removeprefix("."),
        resolver=trimesh.resolvers.FilePathResolver(path),
        process=False,
    )
    parts = []
    for geometry, world_from_local in _placed_meshes(scene):
        vertices = _moved(geometry.vertices, world_from_local)
        faces = np.asarray(geometry.faces, np.int64)
        colors = np.full_like(vertices, _PLAIN)
        uv, picture = None, None
        visual = geometry.visual
        if visual.kind == "vertex":
            colors = linear_from_srgb(np.asarray(visual.vertex_colors)[:, :3] / 255)
        elif visual.kind == "face":
            vertices = vertices[faces.ravel()]
            faces = np.arange(len(vertices)).reshape(-1, 3)
            colors = linear_from_srgb(np.asarray(visual.face_colors)[:, :3] / 255).repeat(3, axis=0)
        elif visual.kind == "texture":
            image = getattr(visual.material, "image", None)
            if image is not None and visual.uv is not None:
                colors = np.ones_like(vertices)
                uv = np.asarray(visual.uv, np.float64) * (1, -1) + (0, 1)
                picture = _texels(image, _BLEND_CUTOFF)
            else:
                diffuse = linear_from_srgb(np.asarray(visual.material.main_color)[:3] / 255)
                colors = np.tile(diffuse, (len(vertices), 1))
        parts.append(Part(vertices, faces, colors, uv, picture))
    return parts


def _placed_meshes(scene: Any) -> Iterator[tuple[Any, Float[np.ndarray, "4 4"]]]:
    """Go through every place of every mesh; lines and points cast no picture."""
    for node in scene.graph.nodes_geometry:
        world_from_local, name = scene.graph[node]
        if hasattr(scene.geometry[name], "faces"):
            yield scene.geometry[name], np.asarray(world_from_local, np.float64)


def _moved(
    vertices: Float[np.ndarray, "V 3"], world_from_local: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "V 3"]:
    rotation, translation = world_from_local[:3, :3], world_from_local[:3, 3]
    with np.errstate(invalid="ignore"):  # what is not finite is refused where parts are joined
        world: Float[np.ndarray, "V 3"] = np.asarray(vertices) @ rotation.T + translation
    return world


def _texels(image: Image.Image, cutoff: float) -> UInt8[np.ndarray, "_ _ 4"]:
    """Read a texture no larger than ``MAX_TEXTURE``, its alpha made all or nothing."""
    picture = image.convert("RGBA")
    picture.thumbnail((MAX_TEXTURE, MAX_TEXTURE), reducing_gap=2.0)
    texels = np.array(picture)
    texels[..., 3] = np.where(texels[..., 3] >= 255 * cutoff, 255, 0)
    return texels
