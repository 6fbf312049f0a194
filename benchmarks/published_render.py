"""One object's views as a straightforward script takes them, at the published settings.

``python benchmarks/published_render.py REQUEST.json``, run by ``rendering.py``. Blender's start-up
scene with its lamp, a panel, a glTF file, 128 samples; what is not named stays as Blender has it.
"""

import json
import sys
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

request = json.loads(Path(sys.argv[1]).read_text())
bpy.ops.wm.read_factory_settings()
bpy.data.objects.remove(bpy.data.objects["Cube"])
bpy.ops.import_scene.gltf(filepath=request["path"], merge_vertices=True)
scene, camera = bpy.context.scene, bpy.data.objects["Camera"]

meshes = [thing for thing in scene.objects if thing.type == "MESH"]
corners = [mesh.matrix_world @ Vector(corner) for mesh in meshes for corner in mesh.bound_box]
low, high = (
    Vector(map(min, zip(*corners, strict=True))),
    Vector(map(max, zip(*corners, strict=True))),
)
scale = 1 / max(high - low)
for root in [thing for thing in scene.objects if thing.parent is None]:
    if root.type not in ("CAMERA", "LIGHT"):
        shift = Matrix.Translation(-(low + high) / 2 * scale)
        root.matrix_world = shift @ Matrix.Scale(scale, 4) @ root.matrix_world

bpy.ops.object.light_add(type="AREA", location=request["panel_place"])
panel = bpy.context.object
panel.scale, panel.data.energy = (100, 100, 100), request["panel_watts"]
camera.data.lens, camera.data.sensor_width = 35, 32

scene.render.engine = "CYCLES"
scene.render.threads_mode, scene.render.threads = "FIXED", 1
scene.render.resolution_x = scene.render.resolution_y = request["size"]
scene.render.film_transparent = True
scene.render.image_settings.color_mode = "RGBA"
scene.view_settings.view_transform = "Filmic"
scene.cycles.samples = 128
scene.cycles.use_adaptive_sampling = request["adaptive"]
scene.cycles.diffuse_bounces = scene.cycles.glossy_bounces = 1
scene.cycles.transparent_max_bounces = scene.cycles.transmission_bounces = 3
scene.cycles.filter_width = 0.01
scene.cycles.use_denoising = True
for view, world_from_camera in enumerate(request["cameras"]):
    camera.matrix_world = Matrix(world_from_camera)
    scene.render.filepath = str(Path(request["folder"], f"{view:03d}.png"))
    bpy.ops.render.render(write_still=True)
