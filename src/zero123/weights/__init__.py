"""Where models come from: bundled, from a folder, a checkpoint, the hub; and how they are kept."""

from zero123.weights.checkpoint import RawCheckpoint, read_checkpoint
from zero123.weights.components import Components, Settings, WeightsError
from zero123.weights.folders import load_folder, save_model
from zero123.weights.manifest import verify, write_manifest
from zero123.weights.original import from_original, save_original, to_original
from zero123.weights.sources import BundledModel, bundled_models, open_model

__all__ = [
    "BundledModel",
    "Components",
    "RawCheckpoint",
    "Settings",
    "WeightsError",
    "bundled_models",
    "from_original",
    "load_folder",
    "open_model",
    "read_checkpoint",
    "save_model",
    "save_original",
    "to_original",
    "verify",
    "write_manifest",
]
