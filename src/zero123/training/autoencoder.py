"""The small autoencoder: an encoder that is computed, and a decoder that is trained."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

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
def principal_patterns(
    pictures: Float[Tensor, "b 3 h w"], channels: int
) -> tuple[Float[Tensor, "192 c"], Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Find patterns of which 8×8 patches are well made, as darkness below white.

    The first three are flat colours, so that the mean colour of a patch is kept whole: by strength
    alone only one direction of colour enters, and red comes out brown. The others are the strongest
    patterns of what remains.

    Returns:
        Orthonormal patterns over (colour, row, column), and the mean and spread of their amounts
        over all patches.
    """
    patches = torch.nn.functional.unfold(1 - pictures, 8, stride=8).transpose(1, 2).flatten(0, 1)
    moments = patches.T @ patches / len(patches)
    flat = torch.eye(3).repeat_interleave(64, dim=0) / 8
    flat = flat @ torch.linalg.eigh(flat.T @ moments @ flat).eigenvectors.flip(1)
    without = torch.eye(192) - flat @ flat.T
    details = torch.linalg.eigh(without @ moments @ without).eigenvectors.flip(1)
    patterns = torch.cat([flat, details[:, : channels - 3]], dim=1)
    amounts = patches @ patterns
    return patterns, amounts.mean(0), amounts.std(0)


@torch.no_grad()
def write_encoder(
    vae: AutoencoderTiny,
    patterns: Float[Tensor, "192 c"],
    mean: Float[Tensor, " c"],
    std: Float[Tensor, " c"],
) -> None:
    """Write principal patterns into the encoder's convolutions: nothing is left to train there.

    Each halving moves the four pixels of a square into channels, 3 -> 12 -> 48; the last one takes
    the patterns' amounts, positive and negative parts apart, for the blocks between hold a
    rectifier. Blocks do nothing else. The channels' spreads fall with the square root of their
    strength, from 2 after multiplication by ``LATENT_SCALE``: with equal ones the denoiser learns
    detail that hardly shows before colour and shape, and with their own it drowns detail in noise.
    """
    channels = len(std)
    gain = 2 * (std / std[0]).sqrt() / std / LATENT_SCALE
    first, *halvings, last = (m for m in vae.encoder.layers if isinstance(m, nn.Conv2d))
    assert first.bias is not None
    assert last.bias is not None
    for conv in (first, *halvings, last):
        conv.weight.zero_()
    for block in vae.encoder.layers:
        if isinstance(block, AutoencoderTinyBlock):
            block.conv[-1].weight.zero_()
            block.conv[-1].bias.zero_()
    first.bias.zero_()
    for colour in range(3):  # darkness: white and the padding around the picture are zero
        first.weight[colour, colour, 1, 1] = -1
        first.bias[colour] = 1
    for level, conv in enumerate(halvings[:-1]):
        count = 3 * 4**level
        for square in range(4):
            for channel in range(count):
                conv.weight[square * count + channel, channel, 1 + square // 2, 1 + square % 2] = 1
    # where (colour, row, column) went: the finest square first, colour innermost
    towers = rearrange(
        patterns, "(c y2 y1 y0 x2 x1 x0) k -> k (y2 x2) (y1 x1 y0 x0 c)", c=3, **_HALVES
    )
    for square in range(4):
        amounts = towers[:, square]
        halvings[-1].weight[:channels, :, 1 + square // 2, 1 + square % 2] = amounts
        halvings[-1].weight[channels : 2 * channels, :, 1 + square // 2, 1 + square % 2] = -amounts
    for channel in range(channels):
        last.weight[channel, channel, 1, 1] = gain[channel]
        last.weight[channel, channels + channel, 1, 1] = -gain[channel]
    last.bias.copy_(-gain * mean)


_HALVES = dict.fromkeys(("y2", "y1", "y0", "x2", "x1", "x0"), 2)
