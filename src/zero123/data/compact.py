"""Objects in a few kilobytes each, as good as the files on pictures of a hundred pixels."""

import io
import lzma

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from zero123.data.meshes import Mesh, MeshError, Part, join

MAX_TEXTURE = 128
"""Side of textures, pixels."""
_PLACES = 4095
"""Steps of the unit box: a fortieth of a pixel where it fills a picture of 128."""
_QUALITY = 85


def compact(mesh: Mesh, lossless: bool = False) -> bytes:
    """Write an object in rounded numbers, with textures of at most ``MAX_TEXTURE`` pixels.

    Vertices are kept to 1/4095 of the box, normals and colours to 8 bits (colours by their square
    root), places in textures to half precision.

    Args:
        mesh: the object.
        lossless: whether textures keep all colours once they are small, for some times the bytes.

    Returns:
        What :func:`expanded` reads.

    Raises:
        MeshError: if a face repeats its texture more often than half precision can count.
    """
    vertex, vertex_of = _in_order(np.rint((mesh.vertices + 0.5) * _PLACES)[mesh.faces])
    uv = mesh.uv - np.floor(mesh.uv.min(axis=1, keepdims=True))  # they repeat
    if uv.max() > np.finfo(np.float16).max:
        raise MeshError(f"a face repeats its texture {uv.max():.0f} times")
    looks = [
        np.rint(mesh.normals * 127).astype(np.int8).view(np.uint8),
        np.rint(np.sqrt(mesh.colors) * 255).astype(np.uint8),
        uv.astype("<f2").view(np.uint8),
    ]
    look, look_of = _in_order(np.concatenate(looks, axis=-1))
    arrays = {
        "vertices": _planes(np.diff(vertex.T, prepend=0).astype("<i2")),
        "vertex_of_corner": _planes(_back(vertex_of).astype("<i4")),
        "looks": look.T,
        "look_of_corner": _planes(_back(look_of).astype("<i4")),
        "texture_of_face": mesh.texture_of_face.astype(np.int16),
    }
    for number, texture in enumerate(mesh.textures):
        arrays[f"picture_{number}"] = np.frombuffer(_shrunk(texture, lossless), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return lzma.compress(file.getvalue())


def expanded(data: bytes) -> Mesh:
    """Read what :func:`compact` wrote.

    Raises:
        MeshError: if it is something else, or damaged.
    """
    try:
        arrays = dict(np.load(io.BytesIO(lzma.decompress(data)), allow_pickle=False))
        vertices = np.cumsum(_whole(arrays["vertices"], "<i2").reshape(3, -1), axis=1).T
        vertex_of = _numbers(_whole(arrays["vertex_of_corner"], "<i4"))
        rows = arrays["looks"].T[_numbers(_whole(arrays["look_of_corner"], "<i4"))]
        normals = np.ascontiguousarray(rows[:, :3]).view(np.int8).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        names = [f"picture_{n}" for n in range(len(arrays)) if f"picture_{n}" in arrays]
        pictures = [Image.open(io.BytesIO(arrays[name].tobytes())) for name in names]
        return Mesh(
            vertices=(vertices / _PLACES - 0.5).astype(np.float32),
            faces=vertex_of.reshape(-1, 3).astype(np.int32),
            normals=normals.reshape(-1, 3, 3),
            colors=np.square(rows[:, 3:6].astype(np.float32) / 255).reshape(-1, 3, 3),
            uv=np.ascontiguousarray(rows[:, 6:]).view("<f2").astype(np.float32).reshape(-1, 3, 2),
            texture_of_face=arrays["texture_of_face"].astype(np.int32),
            textures=tuple(np.array(picture.convert("RGBA")) for picture in pictures),
        )
    except (lzma.LZMAError, EOFError, OSError, KeyError, IndexError, ValueError) as problem:
        raise MeshError(f"no compact mesh: {problem}") from problem


def decimated(mesh: Mesh, faces: int) -> Mesh:
    """Merge faces until about so many are left.

    Colours and textures are never mixed, so an object of many small pieces comes out torn: look at
    it. Normals are then those of the new faces.
    """
    if len(mesh.faces) <= faces:
        return mesh
    try:
        from fast_simplification import replay_simplification, simplify
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "meshes of many faces need fast-simplification: pip install 'zero123[mesh]'"
        ) from missing
    places = mesh.vertices[mesh.faces]
    texture = np.broadcast_to(mesh.texture_of_face[:, None, None], (*mesh.faces.shape, 1))
    # corners that differ in colour or texture are points apart, so that these are never mixed
    wedge, of_corner = _in_order(np.concatenate([places, mesh.colors, mesh.uv, texture], axis=-1))
    triangles = of_corner.reshape(-1, 3).astype(np.int32)
    old = np.ascontiguousarray(wedge[:, :3])
    _, _, collapses = simplify(old, triangles, target_count=faces, return_collapses=True)
    points, triangles, point_of = replay_simplification(old, triangles, collapses)
    moved = np.square(points[point_of] - old).sum(axis=1)
    nearest_first = np.lexsort((moved, point_of))
    _, first = np.unique(point_of[nearest_first], return_index=True)
    look = wedge[nearest_first[first], 3:]
    used = look[triangles[:, 0], 5].astype(int)
    return join(
        [
            Part(
                vertices=points,
                faces=triangles[used == number],
                colors=look[:, :3],
                uv=look[:, 3:5] if number >= 0 else None,
                texture=mesh.textures[number] if number >= 0 else None,
            )
            for number in np.unique(used).tolist()
        ]
    )


def _in_order(
    rows: Float[np.ndarray, "F 3 n"] | UInt8[np.ndarray, "F 3 n"],
) -> tuple[np.ndarray, Int[np.ndarray, " corners"]]:
    """Distinct rows in the order of their first corners, and which of them each corner has."""
    flat = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]))
    as_bytes = flat.view(np.dtype((np.void, flat.itemsize * flat.shape[1]))).ravel()
    _, first, number = np.unique(as_bytes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return flat[first[order]], np.argsort(order)[number]


def _back(number: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How far back each number's first turn was: 0 where it is new, else small."""
    back: Int[np.ndarray, " n"] = (
        np.maximum.accumulate(np.concatenate([[-1], number[:-1]])) + 1 - number
    )
    return back


def _numbers(back: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Undo ``_back``."""
    is_new = back == 0
    numbers: Int[np.ndarray, " n"] = np.cumsum(is_new) - is_new - back
    return numbers


def _planes(numbers: np.ndarray) -> UInt8[np.ndarray, "bytes n"]:
    """First bytes together, second bytes together: they compress better."""
    flat = np.ascontiguousarray(numbers).reshape(-1, 1)
    return flat.view(np.uint8).T


def _whole(planes: UInt8[np.ndarray, "bytes n"], kind: str) -> Int[np.ndarray, " n"]:
    """Undo ``_planes``."""
    return np.ascontiguousarray(planes.T).view(kind).ravel()


def _shrunk(texture: UInt8[np.ndarray, "h w 4"], lossless: bool) -> bytes:
    """A texture as a WebP of at most ``MAX_TEXTURE`` a side."""
    picture = Image.fromarray(texture)
    picture.thumbnail((MAX_TEXTURE, MAX_TEXTURE), Image.Resampling.BOX)
    exact = _webp(picture, lossless=True)
    return exact if lossless else min(exact, _webp(picture, quality=_QUALITY), key=len)


def _webp(picture: Image.Image, **options: bool | int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", **options)
    return file.getvalue()
