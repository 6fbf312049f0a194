"""One pure loss step: what the network is asked, and how far off its answer is."""

from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from zero123.models import Condition, predict


@dataclass(frozen=True)
class Draws:
    """Everything random in a loss step, drawn before it, so that the step itself is a function."""

    timestep: Int[Tensor, " b"]
    noise: Float[Tensor, "b c h w"]
    dropped: Float[Tensor, " b"]
    """1 where both conditioning streams are zeroed, else 0."""


def draw(
    latents: Float[Tensor, "b c h w"], generator: torch.Generator, last: float, drop: float
) -> Draws:
    """Draw timesteps that lean to the noisy side, noise, and which rows lose their condition.

    Args:
        latents: only their shape is used.
        generator: every number comes from it.
        last: share of rows at the very last step, pure noise, where sampling begins.
        drop: share of rows that learn the unconditional answer.
    """
    rows = len(latents)
    u = torch.rand(3, rows, generator=generator)
    timestep = (1000 * (1 - u[0] ** 1.8)).long().clamp(0, 999)
    return Draws(
        timestep=torch.where(u[1] < last, 999, timestep),
        noise=torch.randn(latents.shape, generator=generator),
        dropped=(u[2] < drop).float(),
    )


def view_loss(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    latents: Float[Tensor, "b c h w"],
    condition: Condition,
    draws: Draws,
) -> Float[Tensor, ""]:
    """Mean squared error of the predicted velocity.

    A dropped row sees what guidance shows at inference: a zero token after the projection and a
    zero latent. (The original drops before the projection; see docs/conventions.md.)

    Source: Salimans and Ho, "Progressive Distillation", 2022, for the velocity.
    """
    kept = (1 - draws.dropped)[:, None, None]
    shown = Condition(condition.token * kept, condition.latent * kept[..., None])
    noisy = scheduler.add_noise(latents, draws.noise, draws.timestep)
    velocity = scheduler.get_velocity(latents, draws.noise, draws.timestep)
    predicted = predict(unet, noisy, draws.timestep, shown)
    loss: Tensor = (predicted - velocity).square().mean()
    return loss
