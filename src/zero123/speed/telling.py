"""The faster way to tell a denoiser what to see."""

from contextlib import ExitStack

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from zero123.models import Condition, Denoise
from zero123.speed.constants import context_for, photo_for, times_for
from zero123.speed.engines import Deep, Shallow, Whole, engine_for
from zero123.speed.plan import Plan


class FastTell:
    """A ``Tell`` that prepares what stays the same and skips what a plan says.

    Args:
        unet: switched as the plan says.
        plan: engine, guided part, and how often the whole network is asked.
    """

    undo: ExitStack
    """Takes all switches back when closed."""

    def __init__(self, unet: UNet2DConditionModel, plan: Plan) -> None:
        self.plan = plan
        self.whole = engine_for((Deep if plan.deep_every > 1 else Whole)(unet), plan.engine)
        self.shallow = engine_for(Shallow(unet), plan.engine)

    def __call__(
        self,
        unet: UNet2DConditionModel,
        condition: Condition,
        timesteps: Tensor,
        guidance: float,
    ) -> Denoise:
        """See ``zero123.models.Tell``."""
        null, dtype, steps = condition.unconditional, unet.dtype, len(timesteps)
        rows = len(condition.token)
        context = context_for(unet, torch.cat([null.token, condition.token]).to(dtype))
        photo = photo_for(unet, torch.cat([null.latent, condition.latent]).to(dtype))
        times = times_for(unet, timesteps)
        guided = [guidance != 1 and self.plan.is_guided(step, steps) for step in range(steps)]
        heard: list[Tensor] = []

        def ask(noisy: Tensor, step: int, first: int) -> Tensor:
            """Rows from ``first`` on: all, or those after the null ones."""
            joined = torch.cat([noisy, photo[first:]], dim=1)
            inputs = (joined, times[step], context[first:])
            if step % self.plan.deep_every and heard and len(heard[0]) == len(joined):
                return self.shallow(*inputs, heard[0])[0].float()
            answer, *heard[:] = self.whole(*inputs)
            return answer.float()

        def denoise(noisy: Tensor, step: int) -> Tensor:
            noisy = noisy.to(dtype)
            if not guided[step]:
                return ask(noisy, step, rows)
            base, steered = ask(torch.cat([noisy, noisy]), step, 0).chunk(2)
            return base + guidance * (steered - base)

        return denoise
