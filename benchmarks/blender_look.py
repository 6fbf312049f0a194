"""What runs inside Blender: import an object as its users would, picture it from a camera.

``python blender_look.py OBJECT PICTURE SIZE FIELD_OF_VIEW X Y Z``: the camera is at (X, Y, Z) of
Blender's world and looks at its origin; the ground is transparent.
"""

import sys

import bpy
from mathutils import Vector

path, picture, size, *numbers = sys.argv[1:]
field_of_view, *position = map(float, numbers)
bpy.ops.wm.read_factory_settings(use_empty=True)
if path.endswith(".glb"):
    bpy.ops.import_scene.gltf(filepath=path)
else:
    bpy.ops.wm.obj_import(filepath=path)
data = bpy.data.cameras.new("camera")
data.angle = field_of_view
camera = bpy.data.objects.new("camera", data)
camera.location = position
camera.rotation_euler = (-Vector(position)).to_track_quat("-Z", "Y").to_euler()
bpy.context.scene.collection.objects.link(camera)
scene = bpy.context.scene
scene.camera = camera
scene.render.engine = "CYCLES"
scene.cycles.samples = 4
scene.render.film_transparent = True
scene.view_settings.view_transform = "Standard"
scene.render.resolution_x = scene.render.resolution_y = int(size)
scene.render.image_settings.color_mode = "RGBA"
scene.render.filepath = picture
bpy.ops.render.render(write_still=True)
