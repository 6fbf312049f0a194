"""Checkpoints that are whole or not there."""

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from zero123.files import remove_partials, written_whole

State = TypeVar("State")
PARTS = ("step", "student", "average", "optimiser", "rollbacks", "skipped", "usual")
"""What a checkpoint holds: weights and their running average by name, the optimisers' states, and
what went wrong so far."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from; the sentence says which file and why."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint, then forget all but the newest ``keep``.

    Args:
        folder: of the run.
        step: names it.
        state: for training the ``PARTS``.
        keep: at least 1.

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


def load_checkpoint(path: Path, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        path: the file.
        parts: what it must hold.

    Raises:
        CheckpointError: if it is damaged or no checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise CheckpointError(f"{path} is damaged at {broken}: remove it to go on from before")
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        lost = [part for part in parts if part not in state]
    except pickle.UnpicklingError as malice:
        raise CheckpointError(f"{path} is no checkpoint: it asks to run code") from malice
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, TypeError) as problem:
        raise CheckpointError(f"{path} is no readable checkpoint ({problem})") from problem
    if lost:
        raise CheckpointError(f"{path} is no checkpoint of a run: it lacks {', '.join(lost)}")
    return state


def whole(state: State) -> State:
    """Gather tensors that lie in pieces on several processes; all of them must call."""
    gathered: State = tree_map_only(DTensor, lambda pieces: pieces.full_tensor().cpu(), state)
    return gathered


def piece(tensor: Tensor, own: Tensor) -> Tensor:
    """What this process holds of a whole tensor: a piece where ``own`` is one, else all of it."""
    if isinstance(own, DTensor) and tensor.shape == own.shape:
        return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements)
    return tensor
