"""The loop that bends a field until its losses are small; it may be stopped at any moment."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zero123.reconstruct.errors import ReconstructionError
from zero123.reconstruct.field import VoxelField
from zero123.reconstruct.progress import Progress, Report
from zero123.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint

MAX_ROLLBACKS = 3
"""So many steps that are not finite, and the work stops."""
_FAINT = 0.02
"""An object whose densest voxel stops less light than this has vanished."""

_PARTS = ("field", "optimiser", "step", "rollbacks", "history")
"""What a state holds, without its context."""

Losses = Mapping[str, Tensor]
"""Weighted losses by name; their sum is what goes down."""


@dataclass(frozen=True)
class Descent:
    """How a field is bent."""

    steps: int
    seed: int
    save_every: int = 50
    """Steps between states that can be gone back to."""
    prune_every: int = 50
    """Steps after which rays forget where nothing is."""
    preview_every: int = 25
    cooldown: float = 1.0
    """Learning rates fall to this share of theirs, evenly on a logarithmic scale."""


@dataclass
class Bench:
    """The state of the work, and its way to the disk and back."""

    field: VoxelField
    optimiser: torch.optim.Optimizer
    folder: Path | None = None
    """Of checkpoints; None keeps them in memory alone."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Kept with each checkpoint: what else is needed to go on."""
    step: int = 0
    rollbacks: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    """Losses of all steps by name."""

    def state(self) -> dict[str, Any]:
        """All of it, copied."""
        return copy.deepcopy(
            {
                "field": self.field.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "rollbacks": self.rollbacks,
                "history": self.history,
            }
        )

    def take(self, state: Mapping[str, Any]) -> None:
        """Go to a state."""
        state = copy.deepcopy(state)  # optimisers keep what they are given
        self.field.load_state_dict(state["field"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.rollbacks = state["step"], state["rollbacks"]
        self.history = state["history"]

    def save(self) -> dict[str, Any]:
        """Keep the state; on the disk too if there is a folder."""
        state = self.state()
        if self.folder is not None:
            save_checkpoint(self.folder, self.step, {**self.context, **state}, keep=2)
        return state


def newest_state(folder: Path) -> dict[str, Any] | None:
    """What the newest checkpoint holds, the context too; None if there is none.

    Raises:
        CheckpointError: if it is damaged.
    """
    found = checkpoints(folder)
    return load_checkpoint(found[-1], _PARTS) if found else None


def descend(
    bench: Bench,
    plan: Descent,
    losses_of: Callable[[int, torch.Generator], Losses],
    report: Report,
    preview: Callable[[], Float[Tensor, "3 S S"]],
) -> None:
    """Take the steps that are left; on a CPU the result does not depend on where it was stopped.

    A step that is not finite is undone: the field goes back to the last state kept, and on with
    other draws.

    Args:
        bench: what is bent, from its step on.
        plan: how.
        losses_of: the losses of a step, all its draws from the generator.
        report: told after each step.
        preview: pictures the object.

    Raises:
        ReconstructionError: after too many roll-backs, or if the object vanishes.
        OSError: if a checkpoint cannot be written.
    """
    rates = [group.setdefault("full_rate", group["lr"]) for group in bench.optimiser.param_groups]
    kept = bench.save()
    while bench.step < plan.steps:
        share = plan.cooldown ** (bench.step / plan.steps)
        for group, rate in zip(bench.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * share
        generator = _generator(plan.seed, bench.rollbacks, bench.step)
        bench.optimiser.zero_grad(set_to_none=True)
        losses = losses_of(bench.step, generator)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        told = {name: float(loss.detach()) for name, loss in losses.items()}
        if not _is_finite(bench.field, told):
            _go_back(bench, kept, report, plan)
            continue
        bench.optimiser.step()
        bench.step += 1
        for name, loss in told.items():
            bench.history.setdefault(name, []).append(loss)
        if bench.step % plan.prune_every == 0:
            bench.field.look_where_dense()
            _refuse_nothing(bench.field)
        if bench.step % plan.save_every == 0:
            kept = bench.save()
        shown = bench.step % plan.preview_every == 0
        report(Progress("field", bench.step / plan.steps, preview() if shown else None, told))


def _generator(*key: int) -> torch.Generator:
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)


def _is_finite(bent: VoxelField, told: Mapping[str, float]) -> bool:
    gradients = [p.grad for p in bent.parameters() if p.grad is not None]
    return all(map(math.isfinite, told.values())) and all(
        math.isfinite(float(gradient.sum())) for gradient in gradients
    )


def _go_back(bench: Bench, kept: Mapping[str, Any], report: Report, plan: Descent) -> None:
    failed, rollbacks = bench.step, bench.rollbacks + 1
    if rollbacks == MAX_ROLLBACKS:
        raise ReconstructionError(
            f"step {failed} of the field was not finite for the {MAX_ROLLBACKS}rd time: damaged "
            "weights, or a guidance far too high?"
        )
    bench.take(kept)
    bench.rollbacks = rollbacks
    report(
        Progress(
            "field",
            bench.step / plan.steps,
            said=f"step {failed} of the field was not finite: back to step {bench.step}",
        )
    )


def _refuse_nothing(bent: VoxelField) -> None:
    with torch.no_grad():
        densest = float(bent.densities().max())
    if 1 - math.exp(-densest * bent.voxel) < _FAINT:
        raise ReconstructionError(
            "the object has vanished: nowhere is anything dense enough to be seen; is the photo "
            "white on white, or was the wrong part cut out?"
        )
