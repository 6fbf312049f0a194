"""Write small binary glTF files by hand, right ones and wrong ones."""

import io
import json
import struct
from typing import Any

import numpy as np
from PIL import Image

UPRIGHT = np.array([[0, 0, 0], [0.2, 0, 0], [0, 1, 0], [0, 0, 0.1]], np.float32)
"""A thin tetrahedron along +y, glTF's up."""
SIDES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], np.uint32)


def pack(header: Any, binary: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def unpack(data: bytes) -> tuple[Any, bytes]:
    end = 20 + struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20:end]), data[end + 8 :]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def glb(
    vertices: np.ndarray = UPRIGHT,
    faces: np.ndarray = SIDES,
    attributes: dict[str, np.ndarray] | None = None,
    texture: bytes | None = None,
    factor: tuple[float, ...] = (1, 1, 1, 1),
    material: dict[str, Any] | None = None,
    nodes: list[dict[str, Any]] | None = None,
    header: dict[str, Any] | None = None,
) -> bytes:
    binary, views, accessors = b"", [], []

    def add(data: bytes) -> int:
        nonlocal binary
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary += data + b"\0" * (-len(data) % 4)
        return len(views) - 1

    def store(rows: np.ndarray, kind: str) -> int:
        code = {"f": 5126, "I": 5125, "B": 5121}[rows.dtype.char]
        accessors.append(
            {
                "bufferView": add(rows.tobytes()),
                "componentType": code,
                "count": len(rows),
                "type": kind,
            }
        )
        return len(accessors) - 1

    primitive: dict[str, Any] = {
        "attributes": {"POSITION": store(vertices, "VEC3")},
        "indices": store(faces.reshape(-1), "SCALAR"),
        "material": 0,
    }
    for name, rows in (attributes or {}).items():
        primitive["attributes"][name] = store(rows, f"VEC{rows.shape[1]}")
    look: dict[str, Any] = {"baseColorFactor": list(factor)}
    whole: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes or [{}])))}],
        "nodes": nodes or [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": look, **(material or {})}],
        "accessors": accessors,
        "bufferViews": views,
    }
    if texture is not None:
        look["baseColorTexture"] = {"index": 0}
        whole["textures"] = [{"source": 0}]
        whole["images"] = [{"bufferView": add(texture), "mimeType": "image/png"}]
    whole["buffers"] = [{"byteLength": len(binary)}]
    return pack(whole | (header or {}), binary)
