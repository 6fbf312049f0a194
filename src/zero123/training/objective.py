"""One pure loss step: what the network is asked, and how far off its answer is."""

from dataclasses import dataclass, fields

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from zero123.models import Condition, PhotoFeatures, PoseProjection, predict
from zero123.training.config import TrainConfig


@dataclass(frozen=True)
class Answer:
    """What the network says in a loss step."""

    loss: Float[Tensor, ""]
    """Mean squared error of what the scheduler's prediction type asks for: noise or velocity."""
    latents: Float[Tensor, "b c h w"] | None
    """What it takes the clean latents to be, scaled; None where it is asked for noise, which says
    nothing of them at the noisy end."""


@dataclass(frozen=True)
class Draws:
    """Everything random in a loss step, drawn before it, so that the step itself is a function."""

    timestep: Int[Tensor, " b"]
    noise: Float[Tensor, "b c h w"]
    embedding: Float[Tensor, " b"]
    """0 where the photo's embedding is zeroed before the projection, else 1."""
    token: Float[Tensor, " b"]
    """0 where the posed token is zeroed, else 1."""
    latent: Float[Tensor, " b"]
    """0 where the photo's latent is zeroed, else 1."""

    @classmethod
    def of(
        cls, config: TrainConfig, shape: torch.Size, generator: torch.Generator, num_steps: int
    ) -> "Draws":
        """Draw for latents of ``shape`` on a schedule of ``num_steps``, all from ``generator``."""
        u = torch.rand(3, shape[0], generator=generator)
        lean = 1 - u[0] ** 1.8 if config.timesteps == "noisy" else u[0]
        timestep = (num_steps * lean).long().clamp(max=num_steps - 1)
        timestep = torch.where(u[1] < config.last, num_steps - 1, timestep)
        noise = torch.randn(shape, generator=generator)
        if config.drop == "original":
            return cls(timestep, noise, *dropped_as_original(u[2], config.drop_share))
        kept = (u[2] >= config.drop_share).float()
        return cls(timestep, noise, torch.ones_like(kept), kept, kept)

    @classmethod
    def joined(cls, parts: "list[Draws]") -> "Draws":
        """Put draws one after the other."""
        names = [f.name for f in fields(cls)]
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def to(self, device: torch.device) -> "Draws":
        """Move to a device."""
        return Draws(*(getattr(self, f.name).to(device) for f in fields(self)))


def dropped_as_original(
    u: Float[Tensor, " b"], share: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Which rows keep embedding, token and latent: embedding, both, latent lost at equal shares.

    The token is never zeroed: the pose always reaches the network, which at inference it does not.

    Source: ``get_input`` of the original's ``ldm/models/diffusion/ddpm.py``.
    """
    embedding = (u >= 2 * share).float()
    latent = ((u < share) | (u >= 3 * share)).float()
    return embedding, torch.ones_like(u), latent


def answer_views(
    unet: UNet2DConditionModel,
    projection: PoseProjection,
    scheduler: DDIMScheduler,
    latents: Float[Tensor, "b c h w"],
    photos: PhotoFeatures,
    pose: Float[Tensor, "b numbers"],
    draws: Draws,
    min_snr: float | None = None,
) -> Answer:
    """Ask the network for views, and how far off it is.

    Args:
        unet: the denoiser.
        projection: poses the embedding.
        scheduler: noise levels.
        latents: of the targets, scaled.
        photos: a row for each target.
        pose: a row for each target.
        draws: timestep, noise and lost conditions.
        min_snr: weights a row by min(SNR, it), as a weight on the clean latent.

    Source: the velocity is of Salimans and Ho, "Progressive Distillation", 2022.
    """
    kept = PhotoFeatures(photos.embedding * draws.embedding[:, None], photos.latent)
    told = kept.seen_from(pose, list(range(len(pose))), projection)
    shown = Condition(
        told.token * draws.token[:, None, None], told.latent * draws.latent[:, None, None, None]
    )
    noisy = scheduler.add_noise(latents, draws.noise, draws.timestep)
    is_velocity = scheduler.config.prediction_type == "v_prediction"
    wanted = (
        scheduler.get_velocity(latents, draws.noise, draws.timestep) if is_velocity else draws.noise
    )
    said = predict(unet, noisy, draws.timestep, shown)
    error = (said - wanted).square().flatten(1).mean(1)
    signal = scheduler.alphas_cumprod.to(error.device)[draws.timestep]
    if min_snr is not None:
        snr = signal / (1 - signal)
        error = error * snr.clamp(max=min_snr) / (snr + 1 if is_velocity else snr)
    share, rest = (part.sqrt()[:, None, None, None] for part in (signal, 1 - signal))
    return Answer(error.mean(), share * noisy - rest * said if is_velocity else None)
