"""Where a run begins and what it leaves: a model opened, a model written."""

from dataclasses import replace
from pathlib import Path

import torch

from zero123.training.checkpoints import checkpoints, load_checkpoint
from zero123.training.config import TrainConfig
from zero123.training.loop import take_average
from zero123.training.mini import mini_image_encoder, mini_projection, mini_unet
from zero123.training.student import Student
from zero123.weights import Components, open_model, open_or_widen, save_lora, save_model

SCRATCH = "scratch"


def starting_parts(init: str, seed: int) -> Components:
    """Open the model that a run starts from.

    Args:
        init: what ``open_or_widen`` takes; or "scratch": the small model with fresh weights around
            the bundled one's autoencoder.
        seed: of fresh weights.

    Raises:
        WeightsError: as ``open_or_widen`` does.
    """
    if init != SCRATCH:
        return open_or_widen(init)
    torch.manual_seed(seed)
    parts = open_model("mini")
    return replace(
        parts,
        unet=mini_unet(),
        image_encoder=mini_image_encoder(),
        projection=mini_projection(),
        settings=replace(parts.settings, pose_encoding="zero123-polar"),
    )


def write_model(init: str, config: TrainConfig, out: Path) -> Path:
    """Write the running average of a finished run, for everything else to open.

    Args:
        init: what the run started from, see ``starting_parts``.
        config: of the run.
        out: its folder; the newest checkpoint is taken.

    Returns:
        The model's folder, or the adapter's file.
    """
    parts = starting_parts(init, config.seed)
    student = Student(parts, config)
    take_average(student, load_checkpoint(checkpoints(out)[-1]))
    if config.lora_rank:
        adapter = out / "adapter.safetensors"
        save_lora(parts, adapter)
        return adapter
    save_model(parts, out / "model")
    return out / "model"
