"""Made-up objects for training: no file, no licence, a new one for each seed."""

from zero123.data.procedural.objects import FAMILIES, Family, procedural_mesh
from zero123.data.procedural.workbench import Workbench

__all__ = ["FAMILIES", "Family", "Workbench", "procedural_mesh"]
