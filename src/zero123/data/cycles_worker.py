"""What runs inside Blender: import an object, stand it in the studio, take its pictures.

Run as a file by ``zero123.data.cycles``, in a process of its own, with the number of an open
socket as the last argument; nothing of zero123 is imported here. Requests and replies are JSON,
one a message. Blender prints as it likes to the standard output, where nobody looks.
"""

import json
import math
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import bpy
import numpy as np
from mathutils import Matrix  # type: ignore[import-not-found] # no stub; it is there where bpy is

_PLAIN = 0.6
"""Linear grey of an object that names no colour; the same as the fast reader's."""


_MIN_SAMPLES = 16
"""Samples that a pixel gets before its noise is judged."""
_WITH_FACES = ("MESH", "CURVE", "SURFACE", "FONT", "META")


class UnfitError(Exception):
    """An object that cannot be rendered, and why."""


def main() -> None:
    """Answer requests until the other side hangs up."""
    line = Connection(int(sys.argv[-1]))
    line.send_bytes(bpy.app.version_string.encode())
    while True:
        try:
            request = json.loads(line.recv_bytes())
        except EOFError:
            return
        line.send_bytes(json.dumps({"unfit": _done(request)}).encode())


def _done(request: dict[str, Any]) -> str | None:
    """Do what is asked, or say what is wrong with the object."""
    try:
        _load(Path(request["path"]))
        if "glb" in request:
            _export(request["glb"])
        else:
            _render(request)
    except UnfitError as problem:
        return str(problem)
    except RuntimeError as problem:  # what Blender's operators fail with; traces end with the why
        return str(problem).strip().splitlines()[-1]
    return None


def _load(path: Path) -> None:
    """Make a scene of nothing but the object, normalised."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    suffix = path.suffix.lower()
    if suffix not in _IMPORTERS:
        raise UnfitError(f"{suffix or 'a file without an ending'} is no format that is read")
    if suffix in (".glb", ".gltf"):
        try:
            _refuse_bad_gltf(path)
        except (AttributeError, LookupError, TypeError, ValueError) as problem:
            kind = type(problem).__name__
            raise UnfitError(f"not readable as glTF ({kind}: {problem})") from problem
    _IMPORTERS[suffix](str(path))
    for thing in list(bpy.data.objects):
        if thing.type in ("LIGHT", "CAMERA", "LIGHT_PROBE", "SPEAKER"):
            bpy.data.objects.remove(thing)
    _refuse_absent_files(path.parent)
    _show_what_renders()
    starts = [action.frame_range[0] for action in bpy.data.actions]
    bpy.context.scene.frame_set(math.floor(min(starts, default=1)))
    _paint_bare_meshes()
    _normalise()


def _gltf(path: str) -> None:
    bpy.ops.import_scene.gltf(filepath=path, merge_vertices=True)


def _obj(path: str) -> None:
    bpy.ops.wm.obj_import(filepath=path)


def _ply(path: str) -> None:
    new = "ply_import" in dir(bpy.ops.wm)
    (bpy.ops.wm.ply_import if new else bpy.ops.import_mesh.ply)(filepath=path)


def _stl(path: str) -> None:
    new = "stl_import" in dir(bpy.ops.wm)
    (bpy.ops.wm.stl_import if new else bpy.ops.import_mesh.stl)(filepath=path)


def _fbx(path: str) -> None:
    bpy.ops.import_scene.fbx(filepath=path)


def _dae(path: str) -> None:
    bpy.ops.wm.collada_import(filepath=path)


def _usd(path: str) -> None:
    bpy.ops.wm.usd_import(filepath=path)


def _blend(path: str) -> None:
    """Take the objects out of a file's first scene.

    Appended, not opened: its scripts, drivers, compositor and output paths stay behind.
    """
    try:
        with bpy.data.libraries.load(path, link=False) as (there, here):
            here.scenes = there.scenes[:1]
    except OSError as problem:
        raise UnfitError(f"not readable as .blend ({problem})") from problem
    for theirs in here.scenes:
        for thing in _rendered_objects(theirs.view_layers[0].layer_collection):
            if thing.name not in bpy.context.scene.collection.objects:
                bpy.context.scene.collection.objects.link(thing)
        bpy.data.scenes.remove(theirs)


def _rendered_objects(layer: Any) -> Iterator[Any]:
    if not layer.exclude and not layer.collection.hide_render:
        yield from layer.collection.objects
        for child in layer.children:
            yield from _rendered_objects(child)


_IMPORTERS = {
    ".glb": _gltf,
    ".gltf": _gltf,
    ".obj": _obj,
    ".ply": _ply,
    ".stl": _stl,
    ".fbx": _fbx,
    ".dae": _dae,
    ".usd": _usd,
    ".usda": _usd,
    ".usdc": _usd,
    ".usdz": _usd,
    ".blend": _blend,
}


def _refuse_bad_gltf(path: Path) -> None:
    """Refuse a glTF file before the importer opens files outside its folder or repairs it."""
    data, binary = path.read_bytes(), b""
    if data[:4] == b"glTF":
        end = 20 + int.from_bytes(data[12:16], "little")
        data, binary = data[20:end], data[end + 8 :]
    header = json.loads(data)
    for kind in ("buffers", "images"):
        for entry in header.get(kind, []):
            uri = entry.get("uri", "data:")
            if not uri.startswith("data:"):
                _refuse_outside(path.parent, path.parent / unquote(uri))
    primitives = [p for mesh in header.get("meshes", []) for p in mesh["primitives"]]
    for primitive in primitives:
        accessor = header["accessors"][primitive["attributes"]["POSITION"]]
        view = header["bufferViews"][accessor["bufferView"]] if "bufferView" in accessor else {}
        # the importer turns what is not finite into zeros
        if binary and "byteStride" not in view and view.get("buffer") == 0:
            start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
            places = binary[start : start + 12 * accessor["count"]]
            if not np.isfinite(np.frombuffer(places[: len(places) // 4 * 4], "<f4")).all():
                raise UnfitError("the mesh has vertices that are NaN or infinite")


def _refuse_outside(folder: Path, file: Path) -> None:
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UnfitError(f"names a file outside its folder: {file.name}")


def _refuse_absent_files(folder: Path) -> None:
    """Refuse what would be drawn in pink, and what was taken from elsewhere."""
    for library in bpy.data.libraries:
        _refuse_outside(folder, Path(bpy.path.abspath(library.filepath)))
    for image in bpy.data.images:
        if image.source != "FILE" or image.users == 0:
            continue
        if image.packed_file is None:
            _refuse_outside(folder, Path(bpy.path.abspath(image.filepath, library=image.library)))
        if 0 in image.size:
            raise UnfitError(f"a texture is missing or broken: {Path(image.filepath).name}")


def _show_what_renders() -> None:
    """Let the scene as evaluated, which is measured, hold exactly what a render shows."""
    for collection in bpy.data.collections:
        collection.hide_viewport = collection.hide_render
    for thing in bpy.context.scene.objects:
        thing.hide_viewport = thing.hide_render
        thing.hide_set(False)
        for modifier in thing.modifiers:
            modifier.show_viewport = modifier.show_render


def _paint_bare_meshes() -> None:
    """Give a material to meshes without one: their vertex colours, else plain grey."""
    for mesh in bpy.data.meshes:
        if any(material is not None for material in mesh.materials):
            continue
        material = bpy.data.materials.new("bare")
        material.use_nodes = True
        surface = material.node_tree.nodes["Principled BSDF"].inputs["Base Color"]
        surface.default_value = (_PLAIN, _PLAIN, _PLAIN, 1)
        if mesh.color_attributes:
            paint = material.node_tree.nodes.new("ShaderNodeVertexColor")
            paint.layer_name = mesh.color_attributes[mesh.color_attributes.render_color_index].name
            material.node_tree.links.new(paint.outputs["Color"], surface)
        mesh.materials.clear()
        mesh.materials.append(material)


def _normalise() -> None:
    """Centre the box of all that shows, and make its longest side 1."""
    low, high = _box()
    side = float((high - low).max())
    if side <= 0:
        raise UnfitError("all vertices of the mesh are one point")
    scene = bpy.context.scene
    roots = [thing for thing in scene.objects if thing.parent is None]
    world_from_file = bpy.data.objects.new("world_from_file", None)
    world_from_file.scale = (1 / side,) * 3
    world_from_file.location = -(low + high) / 2 / side
    scene.collection.objects.link(world_from_file)
    for root in roots:
        root.parent = world_from_file
    low, high = _box()
    if abs((high - low).max() - 1) > 1e-3 or abs(low + high).max() > 1e-3:
        raise UnfitError("its parts keep to places of their own and cannot be moved together")


def _box() -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of all faces that show, in the world, modifiers applied."""
    graph = bpy.context.evaluated_depsgraph_get()
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for instance in graph.object_instances:
        thing = instance.object
        if not instance.show_self or thing.type not in _WITH_FACES:
            continue
        mesh = thing.to_mesh()
        corners = np.empty(len(mesh.loops), np.int32)
        mesh.loops.foreach_get("vertex_index", corners)
        if len(corners):
            vertices = np.empty(3 * len(mesh.vertices), np.float32)
            mesh.vertices.foreach_get("co", vertices)
            world = np.array(instance.matrix_world)
            used = vertices.reshape(-1, 3)[np.unique(corners)] @ world[:3, :3].T + world[:3, 3]
            if not np.isfinite(used).all():
                raise UnfitError("the mesh has vertices that are NaN or infinite")
            low, high = np.minimum(low, used.min(axis=0)), np.maximum(high, used.max(axis=0))
        thing.to_mesh_clear()
    if low[0] > high[0]:
        raise UnfitError("the mesh has no faces")
    return low, high


def _export(glb: str) -> None:
    bpy.ops.export_scene.gltf(
        filepath=glb, export_format="GLB", export_apply=True, export_animations=False
    )


def _render(request: dict[str, Any]) -> None:
    """Take one picture a camera: 000.png, 001.png, ..."""
    scene = bpy.context.scene
    low, high = _box()
    _light(scene, request)
    _set_quality(scene, request["size"], request["quality"])
    data = bpy.data.cameras.new("camera")
    data.lens, data.sensor_width = request["lens"], request["sensor"]
    camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    for view, world_from_camera in enumerate(request["cameras"]):
        camera.matrix_world = Matrix(world_from_camera)
        _look_only_at(scene, camera, low, high)
        scene.render.filepath = str(Path(request["folder"], f"{view:03d}.png"))
        bpy.ops.render.render(write_still=True)


def _light(scene: Any, request: dict[str, Any]) -> None:
    lamp, panel = bpy.data.lights.new("lamp", "POINT"), bpy.data.lights.new("panel", "AREA")
    lamp.energy, lamp_place, lamp.shadow_soft_size = request["lamp"]
    panel.energy, panel_place, panel.size = request["panel"]
    for light, place in ((lamp, lamp_place), (panel, panel_place)):
        thing = bpy.data.objects.new(light.name, light)
        thing.location = place
        thing.visible_camera = False
        scene.collection.objects.link(thing)
    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True
    grey = (request["world_grey"],) * 3
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (*grey, 1)


def _set_quality(scene: Any, size: int, quality: dict[str, Any]) -> None:
    import _cycles  # type: ignore[import-not-found] # there once bpy is

    render, cycles = scene.render, scene.cycles
    render.engine = "CYCLES"
    render.resolution_x = render.resolution_y = size
    render.film_transparent = True
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGBA"
    render.image_settings.compression = 0
    scene.view_settings.view_transform = "Filmic"
    # the published renders
    cycles.diffuse_bounces, cycles.glossy_bounces = 1, 1
    cycles.transmission_bounces, cycles.transparent_max_bounces = 3, 3
    cycles.filter_width = 0.01
    # the same picture for less work; more noise comes from light than from within a pixel, so
    # the denoiser may trust what it is told of the surfaces
    render.threads_mode, render.threads = "FIXED", 1
    render.use_persistent_data = True
    cycles.samples = quality["samples"]
    cycles.use_adaptive_sampling = quality["noise"] > 0
    cycles.adaptive_threshold = quality["noise"]
    cycles.adaptive_min_samples = _MIN_SAMPLES
    cycles.use_denoising = quality["denoised"] and _cycles.with_openimagedenoise
    cycles.denoising_prefilter = "NONE"
    if hasattr(cycles, "denoising_quality"):
        cycles.denoising_quality = "BALANCED"
    cycles.use_light_tree = False


def _look_only_at(scene: Any, camera: Any, low: np.ndarray, high: np.ndarray) -> None:
    """Render only the rectangle of the picture that the object's box falls into."""
    corners = np.where(np.array(list(np.ndindex(2, 2, 2))), high, low)
    camera_from_world = np.linalg.inv(np.array(camera.matrix_world))
    seen = corners @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    render = scene.render
    render.use_border = bool((seen[:, 2] < 0).all())  # else a corner is behind the camera
    focal = camera.data.lens / camera.data.sensor_width
    places = 0.5 + focal * seen[:, :2] / -seen[:, 2:]
    margin = 2 / render.resolution_x
    render.border_min_x, render.border_min_y = places.min(axis=0) - margin
    render.border_max_x, render.border_max_y = places.max(axis=0) + margin


if __name__ == "__main__":
    main()
