"""An object as files: .glb, .obj or .ply, whole or not there."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from zero123.files import written_whole
from zero123.reconstruct.texture import TexturedMesh

try:
    import trimesh
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("writing meshes needs trimesh: pip install 'zero123[mesh]'") from (
        missing
    )

SUFFIXES = (".glb", ".obj", ".ply")


def check_object(out: Path) -> None:
    """Refuse early what `write_object` could not write.

    Raises:
        ValueError: for another suffix, or a folder.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{out}: objects are written as {', '.join(SUFFIXES)}")
    if out.is_dir():
        raise ValueError(f"{out} is a folder: name a file")


def write_object(mesh: TexturedMesh, out: Path) -> None:
    """Write an object, y up, its front toward +z; the suffix decides.

    ``.glb``: texture inside, shown as it is (``KHR_materials_unlit``), for the light of the photo
    is in it already. ``.obj``: with ``.mtl`` and ``.png`` beside it. ``.ply``: with vertex colours.

    Raises:
        ValueError: as `check_object` does.
        OSError: if a file cannot be written.
    """
    check_object(out)
    suffix = out.suffix.lower()
    if suffix == ".glb":
        with written_whole(out) as part:
            part.write_bytes(
                _placed(mesh, _gltf_look(mesh)).export(
                    file_type="glb", include_normals=True, tree_postprocessor=_unlit
                )
            )
    elif suffix == ".obj":
        _write_obj(mesh, out)
    else:
        colors = _colors_at(mesh)
        with written_whole(out) as part:
            part.write_bytes(
                _placed(mesh, trimesh.visual.ColorVisuals(vertex_colors=colors)).export(
                    file_type="ply", vertex_normal=True
                )
            )


def _write_obj(mesh: TexturedMesh, out: Path) -> None:
    look = trimesh.visual.TextureVisuals(
        uv=mesh.uv * (1, -1) + (0, 1),
        material=trimesh.visual.material.SimpleMaterial(
            image=Image.fromarray(mesh.texture), name=out.stem, glossiness=0
        ),
    )
    text, beside = trimesh.exchange.obj.export_obj(
        _placed(mesh, look), include_normals=True, return_texture=True, mtl_name=f"{out.stem}.mtl"
    )
    for name, data in beside.items():
        with written_whole(out.with_name(name)) as part:
            part.write_bytes(data)
    with written_whole(out) as part:
        part.write_text(text, encoding="utf-8")


def _gltf_look(mesh: TexturedMesh) -> Any:
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(mesh.texture), metallicFactor=0.0, roughnessFactor=1.0
    )
    return trimesh.visual.TextureVisuals(uv=mesh.uv * (1, -1) + (0, 1), material=material)


def _placed(mesh: TexturedMesh, look: Any) -> Any:
    return trimesh.Trimesh(
        _y_up(mesh.vertices),
        mesh.faces,
        vertex_normals=_y_up(mesh.normals),
        visual=look,
        process=False,
    )


def _y_up(rows: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V 3"]:
    turned: Float32[np.ndarray, "V 3"] = np.stack([rows[:, 0], rows[:, 2], -rows[:, 1]], axis=1)
    return turned


def _colors_at(mesh: TexturedMesh) -> UInt8[np.ndarray, "V 3"]:
    size = len(mesh.texture)
    column, row = np.clip((mesh.uv * size).astype(int), 0, size - 1).T
    colors: UInt8[np.ndarray, "V 3"] = mesh.texture[row, column]
    return colors


def _unlit(tree: dict[str, Any]) -> None:
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for material in tree["materials"]:
        material["extensions"] = {"KHR_materials_unlit": {}}
