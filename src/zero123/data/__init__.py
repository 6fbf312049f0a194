"""Objects, where cameras look at them from, their pictures, and training pairs of those."""

from zero123.data.bench import RenderJob
from zero123.data.cameras import sample_orbits
from zero123.data.embree import trace
from zero123.data.jobs import run_job
from zero123.data.lighting import Lamp, Lighting, sample_lighting
from zero123.data.mesh_files import load_mesh
from zero123.data.meshes import Mesh, MeshError, Part, join
from zero123.data.pairs import Pair, Pairs, open_data
from zero123.data.procedural import procedural_mesh
from zero123.data.raster import render
from zero123.data.sources import find_items

__all__ = [
    "Lamp",
    "Lighting",
    "Mesh",
    "MeshError",
    "Pair",
    "Pairs",
    "Part",
    "RenderJob",
    "find_items",
    "join",
    "load_mesh",
    "open_data",
    "procedural_mesh",
    "render",
    "run_job",
    "sample_lighting",
    "sample_orbits",
    "trace",
]
