"""The authors' code makes a view for each line that comes in, and says what it took.

This file is run by another Python, the one that has their packages (3.9 is enough), inside of their
folder; it takes nothing from this package. Their functions are called as their demo calls them.
Weights are drawn, CLIP's too: nothing is fetched.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

_VIT_L_14 = (768, 224, 24, 1024, 14, 77, 49408, 768, 12, 12)
"""Embedding; side, layers, width and patch of the image tower; length, words, width, heads and
layers of the text tower, which they delete."""
_GUIDANCE, _ETA = 3.0, 1.0
_POSE = (math.radians(-10), math.sin(math.radians(60)), math.cos(math.radians(60)), 0.0)


def main(config: str, device: str, steps: int, threads: int) -> None:
    """Build the model, say how large it is, and make views until no line comes in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # their code prints, even when imported: not among the answers

    import clip
    from clip.model import CLIP
    from ldm.models.diffusion.ddim import DDIMSampler
    from ldm.util import instantiate_from_config
    from omegaconf import OmegaConf

    def say(**told: object) -> None:
        print(json.dumps(told), file=answers, flush=True)

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(device)  # their code says "cuda" and no number
    clip.load = lambda **_: (CLIP(*_VIT_L_14), None)
    model = instantiate_from_config(OmegaConf.load(config).model).to(device).eval()
    sampler = DDIMSampler(model)
    if not on_cuda:  # their sampler moves its tables to CUDA, whatever the model is on
        sampler.register_buffer = lambda name, table: setattr(sampler, name, table)
    photo = torch.rand(1, 3, 8 * model.image_size, 8 * model.image_size, device=device) * 2 - 1
    held = [*model.parameters(), *model.buffers()]  # the running average is among the buffers
    say(
        denoiser_weights=sum(w.numel() for w in model.model.diffusion_model.parameters()),
        bytes=sum(w.numel() * w.element_size() for w in held),
    )
    for _ in sys.stdin:
        say(**cost(model, sampler, photo, steps))


def cost(model: Any, sampler: Any, photo: torch.Tensor, steps: int) -> dict[str, Any]:
    """What a view takes."""
    ticks: list[float] = []
    on_cuda = photo.is_cuda
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_cuda else 0
    begin, cpu = time.perf_counter(), time.process_time()
    view(model, sampler, photo, steps, lambda: ticks.append(time.process_time()))
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "step_cpu_seconds": (
            (ticks[-1] - ticks[0]) / (len(ticks) - 1) if len(ticks) > 1 else math.nan
        ),
        "rise_bytes": torch.cuda.max_memory_allocated() - before if on_cuda else None,
    }


@torch.no_grad()
def view(
    model: Any, sampler: Any, photo: torch.Tensor, steps: int, tick: Callable[[], None]
) -> torch.Tensor:
    """One guided view under the running average, as a picture in [0, 1] on the CPU."""
    with model.ema_scope():
        pose = torch.tensor([[_POSE]], device=photo.device)
        seen = model.get_learned_conditioning(photo)
        token = model.cc_projection(torch.cat([seen, pose], dim=-1))
        latent = model.encode_first_stage(photo).mode()
        latents, _ = sampler.sample(
            S=steps,
            conditioning={"c_crossattn": [token], "c_concat": [latent]},
            batch_size=1,
            shape=list(latent.shape[1:]),
            verbose=False,
            unconditional_guidance_scale=_GUIDANCE,
            unconditional_conditioning={
                "c_crossattn": [torch.zeros_like(token)],
                "c_concat": [torch.zeros_like(latent)],
            },
            eta=_ETA,
            img_callback=lambda *_: tick(),
        )
        decoded: torch.Tensor = model.decode_first_stage(latents)
        return ((decoded + 1) / 2).clamp(0, 1).cpu()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
