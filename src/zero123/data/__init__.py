"""Objects, where cameras look at them from, their pictures, and training pairs of those."""

from zero123.data.cameras import sample_orbits
from zero123.data.mesh_files import load_mesh
from zero123.data.meshes import Mesh, MeshError, Part, join
from zero123.data.procedural import procedural_mesh
from zero123.data.raster import Lamp, Lighting, render, sample_lighting

__all__ = [
    "Lamp",
    "Lighting",
    "Mesh",
    "MeshError",
    "Part",
    "join",
    "load_mesh",
    "procedural_mesh",
    "render",
    "sample_lighting",
    "sample_orbits",
]
