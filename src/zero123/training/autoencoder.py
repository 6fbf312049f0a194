"""Train the small autoencoder, then give its latents zero mean and spreads that suit diffusion."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float, UInt8
from torch import Tensor

from zero123.data.views import ViewSet

LATENT_SCALE = 3.0
"""By which latents are multiplied for the denoiser: they are kept smaller, so that even rare values
stay within the decoder's soft clamp at ±3."""


def crops(
    sets: list[ViewSet], seed: int, batch: int, size: int
) -> Iterator[Float[Tensor, "b 3 size size"]]:
    """Draw crops in [0, 1] for ever; nine in ten show some of the object."""
    rng = np.random.default_rng(seed)
    weights = np.array([len(views) for views in sets], dtype=np.float64)
    while True:
        drawn: list[np.ndarray] = []
        while len(drawn) < batch:
            views = sets[rng.choice(len(sets), p=weights / weights.sum())]
            picture = views.images[rng.integers(len(views)), rng.integers(views.images.shape[1])]
            top, left = rng.integers(picture.shape[0] - size + 1, size=2)
            crop = picture[top : top + size, left : left + size]
            if crop.min() < 240 or rng.random() < 0.1:
                drawn.append(_flipped(crop, rng))
        yield torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255


def _flipped(
    crop: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def reconstruction_loss(
    vae: AutoencoderTiny, pictures: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """Absolute error of the picture and of its differences between neighbours.

    The second term asks for edges, which the first alone lets blur.
    """
    off = vae.decode(vae.encode(2 * pictures - 1).latents).sample / 2 + 0.5 - pictures
    edges = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
    loss: Tensor = off.abs().mean() + 0.5 * edges
    return loss


def train_autoencoder(
    vae: AutoencoderTiny,
    batches: Iterator[Float[Tensor, "b 3 h w"]],
    steps: int,
    report: Callable[[int, float], None],
    learning_rate: float = 2e-3,
) -> None:
    """Train in place whatever parameters still ask for gradients; cosine decay to zero."""
    trainable = [p for p in vae.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps, pct_start=0.03, cycle_momentum=False
    )
    for step in range(steps):
        loss = reconstruction_loss(vae, next(batches))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        report(step, loss.item())


@torch.no_grad()
def balance(vae: AutoencoderTiny, batches: Iterator[Float[Tensor, "b 3 h w"]], count: int) -> None:
    """Fold a shift and a scale a channel into the encoder: zero mean, and spread by importance.

    A channel's spread grows with the square root of what it moves in the picture, from 2 for the
    strongest, after multiplication by ``LATENT_SCALE``. With equal spreads most of the denoiser's
    loss asks for detail that hardly shows: after 150,000 samples it had neither colours nor the
    camera. The decoder's first layer takes the best linear inverse; train the decoder on
    afterwards.
    """
    latents = torch.cat([vae.encode(2 * next(batches) - 1).latents for _ in range(count)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    shown = _moved_by_each_channel(vae, latents[:32], std)
    spread = 2 * (shown / shown.max()).sqrt() / LATENT_SCALE
    clamped = 3 * torch.tanh(latents / 3)
    ours = (latents - mean[:, None, None]) * (spread / std)[:, None, None]
    level = clamped.mean((0, 2, 3))
    slope = (clamped * ours).mean((0, 2, 3)) / ours.square().mean((0, 2, 3))
    out, back = vae.encoder.layers[-1], vae.decoder.layers[0]
    out.weight *= (spread / std)[:, None, None, None]
    out.bias.copy_((out.bias - mean) * spread / std)
    back.bias += (back.weight.sum((2, 3)) * level).sum(1)  # exact away from the border
    back.weight *= slope[None, :, None, None]


def _moved_by_each_channel(
    vae: AutoencoderTiny, latents: Float[Tensor, "b c h w"], std: Float[Tensor, " c"]
) -> Float[Tensor, " c"]:
    """Root mean square change of the picture when a channel changes by 0.05 of its spread."""
    picture = vae.decode(latents).sample
    generator = torch.Generator().manual_seed(0)
    moved = []
    for channel, spread in enumerate(std):
        noise = torch.randn(latents[:, channel].shape, generator=generator)
        changed = latents.clone()
        changed[:, channel] += 0.05 * spread * noise
        moved.append((vae.decode(changed).sample - picture).square().mean().sqrt())
    return torch.stack(moved)
