"""How to walk from noise to a view: which scheduler, how many steps, how hard to steer."""

import copy
import inspect
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from diffusers import DDIMScheduler, SchedulerMixin
from torch import Tensor

from zero123.pipeline.asked import Number
from zero123.weights import Settings

Preset: TypeAlias = Literal["default", "original"]
PRESETS: tuple[Preset, ...] = ("default", "original")

_MOST_ETA = 1 - 1e-6
_ORIGINAL = Settings(steps=50, guidance=3.0, eta=1.0)


@dataclass(frozen=True)
class Sampling:
    """Everything that decides a walk but the noise it starts from."""

    scheduler: SchedulerMixin
    steps: int
    guidance: float
    eta: float | None
    """None for schedulers that have no such choice."""
    original: bool
    """The authors' own timesteps, to the number."""

    @classmethod
    def chosen(
        cls,
        preset: Preset | None,
        steps: Number | None,
        guidance: Number | None,
        eta: Number | None,
        settings: Settings,
        scheduler: SchedulerMixin,
    ) -> "Sampling":
        """Merge what the caller says with the preset; None leaves it to the preset.

        Args:
            preset: "original" brings its own settings and DDIM.
            steps: of the sampler.
            guidance: 1 follows the condition.
            eta: noise that DDIM adds back, 0 to 1.
            settings: the model's own.
            scheduler: the model's own.

        Raises:
            ValueError: for values out of range, or an eta that the scheduler cannot use.
        """
        if preset not in (None, *PRESETS):
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        original = preset == "original"
        own = _ORIGINAL if original else settings
        steps = own.steps if steps is None else steps
        guidance = own.guidance if guidance is None else guidance
        if not 1 <= steps <= 1000 or steps != int(steps):
            raise ValueError(f"num_inference_steps must be a whole number in 1 to 1000: {steps}")
        if not math.isfinite(guidance):
            raise ValueError(f"guidance_scale must be finite, got {guidance}")
        if original:
            scheduler = _original_scheduler(scheduler, int(steps))
        takes_eta = "eta" in inspect.signature(scheduler.step).parameters
        if eta is not None and not takes_eta:
            raise ValueError(f"{type(scheduler).__name__} takes no eta")
        eta = own.eta if eta is None else eta
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in [0, 1], got {eta}")
        return cls(
            scheduler, int(steps), float(guidance), float(eta) if takes_eta else None, original
        )

    def start(self) -> tuple[SchedulerMixin, Tensor]:
        """A scheduler of our own at its first step, and its timesteps.

        They stay on the CPU, where schedulers keep their tables: to look up a number that is on
        an accelerator, each step would wait for it.
        """
        scheduler = copy.deepcopy(self.scheduler)  # holds state: calls must not share it
        scheduler.set_timesteps(self.steps)
        if self.original:
            scheduler.timesteps = original_timesteps(self.steps)
        return scheduler, scheduler.timesteps

    def options(self, generators: list[torch.Generator]) -> dict[str, Any]:
        """Say to ``scheduler.step`` what this scheduler understands."""
        known = inspect.signature(self.scheduler.step).parameters
        eta = self.eta
        if eta is not None and float(self.scheduler.alphas_cumprod[-1]) == 0:
            # from no signal, all of it leaves nothing for the direction; by rounding less: NaN
            eta = min(eta, _MOST_ETA)
        said = {"generator": generators, "eta": eta}
        return {name: value for name, value in said.items() if name in known}


def original_timesteps(steps: int) -> Tensor:
    """List the timesteps at which the original evaluates its network.

    A stride of ``1000 // steps``, one above its multiples, and the noisiest left out: "50 steps"
    are 49 evaluations from 961, "75 steps" are 76 from 976.

    Source: ``make_ddim_timesteps`` and ``DDIMSampler.ddim_sampling`` of the original.

    >>> original_timesteps(4)
    tensor([501, 251,   1])
    """
    if not 2 <= steps <= 1000:
        raise ValueError(f"the original's sampler takes 2 to 1000 steps, got {steps}")
    return torch.arange(1, 1001, 1000 // steps)[:-1].flip(0)


def _original_scheduler(own: SchedulerMixin, steps: int) -> DDIMScheduler:
    learned = int(own.config.num_train_timesteps)
    if learned != 1000:
        raise ValueError(f"the original's sampler takes 1000 timesteps, the model has {learned}")
    original_timesteps(steps)  # refuses what it cannot do
    return DDIMScheduler.from_config(
        own.config,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
