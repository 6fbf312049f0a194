"""One evaluation of the network, with classifier-free guidance."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from zero123.models.condition import Condition

Denoise: TypeAlias = Callable[[Tensor, int], Tensor]
"""Latents as the scheduler scales them, (b, c, h, w), and the number of the step -> what the
scheduler asks for, likewise."""


class Tell(Protocol):
    """Tells the network what to see in all steps of one walk."""

    def __call__(
        self,
        unet: UNet2DConditionModel,
        condition: Condition,
        timesteps: Tensor,
        guidance: float,
    ) -> Denoise:
        """Prepare whatever stays the same; ``timesteps`` (steps,) are on the CPU."""


def tell(
    unet: UNet2DConditionModel, condition: Condition, timesteps: Tensor, guidance: float
) -> Denoise:
    """The plain way: nothing is prepared."""

    def denoise(noisy: Tensor, step: int) -> Tensor:
        return predict(unet, noisy, timesteps[step], condition, guidance)

    return denoise


def predict(
    unet: UNet2DConditionModel,
    noisy: Float[Tensor, "b c h w"],
    timestep: Tensor,
    condition: Condition,
    guidance: float = 1.0,
) -> Float[Tensor, "b c h w"]:
    """Predict what the scheduler asks for (noise or velocity) at a timestep.

    Args:
        unet: reads ``[noisy, photo latent]`` along the channels and the token as context.
        noisy: latents as the scheduler scales them.
        timestep: one for all rows, or one a row.
        condition: one row a view.
        guidance: 1 follows the condition; above 1 also walks away from the zero condition, at
            twice the cost.
    """
    if guidance == 1.0:
        return _evaluate(unet, noisy, timestep, condition)
    null = condition.unconditional
    both = Condition(
        torch.cat([null.token, condition.token]), torch.cat([null.latent, condition.latent])
    )
    times = timestep if timestep.ndim == 0 else torch.cat([timestep, timestep])
    base, steered = _evaluate(unet, torch.cat([noisy, noisy]), times, both).chunk(2)
    return base + guidance * (steered - base)


def _evaluate(
    unet: UNet2DConditionModel, noisy: Tensor, timestep: Tensor, condition: Condition
) -> Tensor:
    joined = torch.cat([noisy.to(unet.dtype), condition.latent.to(unet.dtype)], dim=1)
    context = condition.token.to(unet.dtype)
    predicted: Tensor = unet(joined, timestep, context, return_dict=False)[0]
    return predicted.float()
