"""What differs from run to run, kept beside the figures and not among them."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

import psutil
import torch

from zero123.evaluation.run import Evaluation
from zero123.images import write_text

_PACKAGES = ("zero123", "torch", "diffusers", "transformers", "numpy", "scikit-image", "scipy")


def write_record(evaluation: Evaluation, out: Path) -> None:
    """Write ``run.json``: date, command, machine, versions, and seconds per view."""
    told = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "seconds_per_view": {
            result.candidate.name: round(result.seconds_per_view, 4)
            for result in evaluation.results
            if result.scores
        },
    }
    write_text(json.dumps(told, indent=1) + "\n", out / "run.json")
