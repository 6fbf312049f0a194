"""The loop: pairs in, a better model out; it may be stopped at any moment and started again."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Float16
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from zero123.data.views import PairBatch, ViewSet, draw_pairs
from zero123.models import PhotoFeatures, PoseProjection, clip_pixels
from zero123.training.objective import draw, view_loss


@dataclass(frozen=True)
class LoopConfig:
    """One training run."""

    steps: int
    photos: int = 6
    """Photos a step and process."""
    targets: int = 4
    """Target views of each photo."""
    learning_rate: float = 6e-4
    warmup: int = 100
    """Steps of linear warm-up."""
    cooldown: float = 0.3
    """Last share of the steps, over which the rate falls to zero on a cosine."""
    ema_decay: float = 0.999
    last: float = 0.3
    """Share of rows at the last timestep."""
    drop: float = 0.1
    """Share of rows without condition."""
    average_every: int = 8
    """Steps between the averagings of the processes' parameters."""
    save_every: int = 320
    """Steps between checkpoints; a multiple of ``average_every``."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.save_every % self.average_every:
            raise ValueError(
                f"save_every must be a multiple of average_every = {self.average_every}, "
                f"got {self.save_every}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warmup)
        left = (self.steps - step) / (self.cooldown * self.steps)
        fall = 1.0 if left >= 1 else 0.5 - 0.5 * np.cos(np.pi * left)
        return float(self.learning_rate * rise * fall)


class Student(nn.Module):
    """What is trained, together: denoiser, image encoder and pose projection."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        image_encoder: CLIPVisionModelWithProjection,
        projection: PoseProjection,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.image_encoder = image_encoder
        self.projection = projection


@dataclass(frozen=True)
class LatentViews:
    """Views with their latents, computed once."""

    views: ViewSet
    latents: Float16[np.ndarray, "objects views c h w"]
    """Not scaled."""

    @classmethod
    def open(cls, folder: Path, name: str) -> "LatentViews":
        """Map a stored set with its latents into memory."""
        views = ViewSet.open(folder, name)
        return cls(views, np.load(folder / f"{name}.latents.npy", mmap_mode="r"))

    def take(
        self, batch: PairBatch
    ) -> tuple[
        Float[Tensor, "photos 3 H W"], Float[Tensor, "photos c h w"], Float[Tensor, "rows c h w"]
    ]:
        """Photos in [0, 1], their latents, and the targets' latents, a row a target."""
        photos = self.views.images[batch.item, batch.photo_view]
        pixels = torch.from_numpy(np.array(photos)).permute(0, 3, 1, 2).float() / 255
        cond = torch.from_numpy(self.latents[batch.item, batch.photo_view]).float()
        targets = self.latents[batch.item[:, None], batch.target_view]
        return pixels, cond, torch.from_numpy(targets).flatten(0, 1).float()


def train(
    student: Student,
    ema: Student,
    scheduler: DDIMScheduler,
    scale: float,
    sets: list[tuple[LatentViews, float]],
    config: LoopConfig,
    out: Path,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train ``student`` and its running average ``ema``, continuing from ``out`` if it can.

    Under ``torchrun`` each process trains on its own draws and the parameters are averaged
    every few steps: on a CPU two such processes of one thread outrun one process of two.

    Args:
        student: updated in place.
        ema: updated in place.
        scheduler: gives noise levels and the velocity.
        scale: latents are multiplied by it before noise is added.
        sets: data and the share of batches drawn from each.
        config: all numbers of the run; written beside the checkpoints.
        out: folder of the checkpoint.
        report: called on each step by the first process.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.01)
    checkpoint = out / "checkpoint.pt"
    first = _resume(checkpoint, student, ema, optimiser)
    if rank == 0:
        (out / "config.json").write_text(json.dumps(asdict(config), indent=2))
    shares = np.array([share for _, share in sets])
    started = time.monotonic()
    for step in range(first, config.steps):
        key = [config.seed, step, rank]
        rng = np.random.default_rng(key)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        data = sets[rng.choice(len(sets), p=shares / shares.sum())][0]
        batch = draw_pairs(data.views, rng, config.photos, config.targets)
        pixels, cond_latent, targets = data.take(batch)
        clip = clip_pixels(pixels, student.image_encoder.config.image_size)
        features = PhotoFeatures(student.image_encoder(clip).image_embeds, cond_latent)
        condition = features.seen_from(batch.pose, batch.photo_of_row, student.projection)
        draws = draw(targets, generator, config.last, config.drop)
        loss = view_loss(student.unet, scheduler, targets * scale, condition, draws)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"the loss of step {step} is {loss.item()}: start again to go on from {checkpoint}"
            )
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        optimiser.step()
        optimiser.zero_grad()
        if world > 1 and ((step + 1) % config.average_every == 0 or step + 1 == config.steps):
            _average(parameters, world)
        if rank == 0:
            _follow(ema, student, min(config.ema_decay, (1 + step) / (10 + step)))
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                _save(checkpoint, step + 1, student, ema, optimiser)
            seconds = (time.monotonic() - started) / (step + 1 - first)
            rows = config.photos * config.targets * world
            report(
                {
                    "step": step,
                    "loss": loss.item(),
                    "norm": float(norm),
                    "samples/s": rows / seconds,
                    "hours left": seconds * (config.steps - step - 1) / 3600,
                }
            )
    if world > 1:
        dist.destroy_process_group()


@torch.no_grad()
def _average(parameters: list[nn.Parameter], world: int) -> None:
    # one message for all; flatten copes with channels-last weights, which lie in another order
    flat = torch.cat([p.flatten() for p in parameters])
    dist.all_reduce(flat)
    sizes = [p.numel() for p in parameters]
    for p, mean in zip(parameters, torch.split(flat, sizes), strict=True):
        p.copy_(mean.view(p.shape) / world)


@torch.no_grad()
def _follow(ema: Student, student: Student, decay: float) -> None:
    for mean, now in zip(ema.parameters(), student.parameters(), strict=True):
        mean.lerp_(now, 1 - decay)


def _save(
    path: Path, step: int, student: Student, ema: Student, optimiser: torch.optim.Optimizer
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {
        "step": step,
        "student": student.state_dict(),
        "ema": ema.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)  # whole or not at all


def _resume(path: Path, student: Student, ema: Student, optimiser: torch.optim.Optimizer) -> int:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return 0
    state = torch.load(path, weights_only=True)
    student.load_state_dict(state["student"])
    ema.load_state_dict(state["ema"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
