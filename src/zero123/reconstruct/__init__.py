"""One photo to a textured object: field, rendering, views, scores, surface, texture."""

from zero123.reconstruct.elevation import Elevation
from zero123.reconstruct.errors import ReconstructionError
from zero123.reconstruct.files import write_object
from zero123.reconstruct.progress import Progress, Report
from zero123.reconstruct.run import Reconstruction, from_views, reconstruct
from zero123.reconstruct.settings import Method, Preset, Settings, preset
from zero123.reconstruct.texture import TexturedMesh
from zero123.reconstruct.views import Views

__all__ = [
    "Elevation",
    "Method",
    "Preset",
    "Progress",
    "Reconstruction",
    "ReconstructionError",
    "Report",
    "Settings",
    "TexturedMesh",
    "Views",
    "from_views",
    "preset",
    "reconstruct",
    "write_object",
]
