"""Checkpoints that are whole or not there."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from zero123.data.writing import remove_partials, written_whole


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from; the sentence says which file and why."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint, then forget all but the newest ``keep``.

    Raises:
        OSError: if the disk is full or not writable; older checkpoints are still there.
    """
    path = folder / f"step-{step:08d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partials(folder)
        with written_whole(path) as partial:
            torch.save(state, partial)
    except (OSError, RuntimeError) as problem:  # torch's archive writer says RuntimeError
        raise OSError(
            f"the checkpoint of step {step} could not be written to {folder} ({problem}); "
            "the older ones are still there"
        ) from problem
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        CheckpointError: if it is damaged or no checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise CheckpointError(f"{path} is damaged at {broken}: remove it to go on from before")
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (zipfile.BadZipFile, RuntimeError, EOFError) as problem:
        raise CheckpointError(f"{path} is no readable checkpoint ({problem})") from problem
    return state
