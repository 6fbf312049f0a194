"""Where models come from: bundled, from a folder, a checkpoint, the hub; and how they are kept."""

from zero123.weights.checkpoint import RawCheckpoint, read_checkpoint
from zero123.weights.components import Components, Settings, WeightsError
from zero123.weights.folders import load_folder, save_model
from zero123.weights.lora import add_lora, apply_lora, save_lora
from zero123.weights.manifest import verify, write_manifest
from zero123.weights.original import from_original, save_original, to_original
from zero123.weights.sources import BundledModel, bundled_models, open_model
from zero123.weights.widen import open_or_widen

__all__ = [
    "BundledModel",
    "Components",
    "RawCheckpoint",
    "Settings",
    "WeightsError",
    "add_lora",
    "apply_lora",
    "bundled_models",
    "from_original",
    "load_folder",
    "open_model",
    "open_or_widen",
    "read_checkpoint",
    "save_lora",
    "save_model",
    "save_original",
    "to_original",
    "verify",
    "write_manifest",
]
