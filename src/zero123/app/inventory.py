"""What can be named, and what works here."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from huggingface_hub import try_to_load_from_cache

from zero123.weights import bundled_models


@dataclass(frozen=True)
class Published:
    """A model that others published."""

    source: str
    """Hub id, and the file in it for a raw checkpoint."""
    what: str
    licence: str


PUBLISHED = (
    Published("kxic/zero123-105000", "the paper's model, 105,000 steps", "MIT"),
    Published("kxic/zero123-165000", "trained on, 165,000 steps", "MIT"),
    Published("kxic/zero123-xl", "trained on Objaverse-XL", "MIT"),
    Published("kxic/stable-zero123", "Stable-Zero123", "Stability AI, non-commercial"),
    Published("bennyguo/zero123-xl-diffusers", "trained on Objaverse-XL, half precision", "MIT"),
    Published("ashawkey/zero123-xl-diffusers", "trained on Objaverse-XL, half precision", "MIT"),
    Published(
        "ashawkey/stable-zero123-diffusers", "Stable-Zero123", "Stability AI, non-commercial"
    ),
    Published("cvlab/zero123-weights/105000.ckpt", "the authors' own file", "MIT"),
)


def models_table() -> str:
    """List bundled models and the published ones: name, where it lies, licence."""
    rows = [("name", "what", "licence", "where")]
    for bundled in bundled_models():
        size = f"bundled, {bundled.num_bytes / 1e6:.0f} MB"
        rows.append((bundled.name, size, bundled.licence, "inside the package"))
    for model in PUBLISHED:
        rows.append((model.source, model.what, model.licence, _where(model.source)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    lines.append("Also: any folder in their layouts, any raw .ckpt or .safetensors, any hub id.")
    return "\n".join(lines)


def _where(source: str) -> str:
    owner, name, *file = source.split("/")
    found = try_to_load_from_cache(f"{owner}/{name}", *(file or ["model_index.json"]))
    return str(Path(found).parent) if isinstance(found, str) else "not downloaded"


def examine() -> bool:
    """Print one line a check, and tell whether the main job works."""
    fine = True
    for name, check, needed in _CHECKS:
        try:
            said, works = check(), True
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            said, works = str(error), False
        fine &= works or not needed
        mark = "ok     " if works else ("BROKEN " if needed else "missing")
        print(f"{mark} {name:12s} {said}", flush=True)
    return fine


def _versions() -> str:
    names = ("zero123", "torch", "diffusers", "transformers")
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"Python {platform.python_version()}, {found}"


def _processor() -> str:
    import torch

    return f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} used by torch"


def _memory() -> str:
    free = psutil.virtual_memory().available / 2**30
    if free < 2:
        raise RuntimeError(f"{free:.1f} GiB free: close something, the small model needs 2")
    fits = "the full-size models fit" if free > 8 else "full-size models need about 8"
    return f"{free:.1f} GiB free; {fits}"


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if torch.backends.mps.is_available():
        return "Apple GPU: use --device mps"
    raise RuntimeError("no GPU that torch sees; the bundled model is quick enough without")


def _main_job() -> str:
    from PIL import Image

    from zero123.pipeline import Zero123Pipeline

    started = time.monotonic()
    pipe = Zero123Pipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    opened = time.monotonic()
    pipe(Image.new("RGB", (pipe.image_size, pipe.image_size), "white"), azimuth=90)
    seen = time.monotonic() - opened
    return f"bundled model opened in {opened - started:.1f} s, one view in {seen:.1f} s"


def _extra(extra: str, *modules: str) -> Callable[[], str]:
    def check() -> str:
        absent = [m for m in modules if importlib.util.find_spec(m) is None]
        if absent:
            raise ImportError(f"{', '.join(absent)}: pip install 'zero123[{extra}]'")
        return ", ".join(modules)

    return check


def _disk() -> str:
    free = shutil.disk_usage(Path.home()).free / 2**30
    return f"{free:.0f} GiB free at home, where downloaded models go (3 to 14 GiB each)"


_CHECKS: tuple[tuple[str, Callable[[], str], bool], ...] = (
    ("install", _versions, True),
    ("processor", _processor, True),
    ("memory", _memory, False),
    ("GPU", _accelerator, False),
    ("disk", _disk, False),
    ("main job", _main_job, True),
    ("matte", _extra("matte", "rembg", "onnxruntime"), False),
    ("openvino", _extra("openvino", "openvino"), False),
    ("data", _extra("data", "numba", "scipy", "trimesh"), False),
    ("render", _extra("render", "bpy"), False),
    ("ray", _extra("ray", "ray"), False),
    ("train", _extra("train", "peft", "tensorboard"), False),
    ("eval", _extra("eval", "flip_evaluator", "skimage", "torchmetrics"), False),
    ("mesh", _extra("mesh", "fast_simplification", "skimage", "xatlas"), False),
    ("web", _extra("web", "gradio"), False),
)
