"""The small autoencoder: an encoder that is computed, and a decoder that is trained."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from zero123.data.views import ViewSet
from zero123.models import encode_latents

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


@dataclass(frozen=True)
class PatchEncoder:
    """A linear encoder: how much of each of a few patterns is in every 8×8 patch of a picture.

    Amounts are of darkness below white, so that white paper is zero before centring.
    """

    patterns: Float[Tensor, "192 c"]
    """Orthonormal, over (colour, row, column)."""
    mean: Float[Tensor, " c"]
    """Mean amounts over all patches."""
    gain: Float[Tensor, " c"]
    """Factors of the centred amounts."""

    @classmethod
    @torch.no_grad()
    def fit(cls, pictures: Float[Tensor, "b 3 h w"], channels: int) -> "PatchEncoder":
        """Find the patterns of which the patches of ``pictures``, in [0, 1], are well made.

        The first three are flat colours, so that the mean colour of a patch is kept whole: by
        strength alone only one direction of colour enters, and red comes out brown. The others are
        the strongest patterns of what remains.

        The latents' spreads fall with the square root of the patterns' strength, from 2 after
        multiplication by ``LATENT_SCALE``: with equal spreads the denoiser learns detail that
        hardly shows before colour and shape, and with the patterns' own it drowns detail in noise.
        """
        patches = _patches(pictures).flatten(0, 1)
        moments = patches.T @ patches / len(patches)
        flat = torch.eye(3).repeat_interleave(64, dim=0) / 8
        flat = flat @ torch.linalg.eigh(flat.T @ moments @ flat).eigenvectors.flip(1)
        without = torch.eye(192) - flat @ flat.T
        details = torch.linalg.eigh(without @ moments @ without).eigenvectors.flip(1)
        patterns = torch.cat([flat, details[:, : channels - 3]], dim=1)
        amounts = patches @ patterns
        std = amounts.std(0)
        return cls(patterns, amounts.mean(0), 2 * (std / std[0]).sqrt() / std / LATENT_SCALE)

    @classmethod
    @torch.no_grad()
    def read(cls, vae: AutoencoderTiny) -> "PatchEncoder":
        """Read back what ``write_encoder`` wrote: the same latents, as one matrix product."""
        seen = torch.cat([torch.zeros(1, 192), torch.eye(192)])  # white, and each value alone
        pictures = 1 - rearrange(seen, "n (c h w) -> n c h w", c=3, h=8)
        white, *slopes = encode_latents(vae, pictures)[:, :, 0, 0]
        scaled = torch.stack(slopes) - white
        gain = scaled.norm(dim=0)
        return cls(scaled / gain, -white / gain, gain)

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h/8 w/8"]:
        """Latents of pictures in [0, 1], not yet multiplied by ``LATENT_SCALE``."""
        amounts = (_patches(pictures) @ self.patterns - self.mean) * self.gain
        height = pictures.shape[-2] // 8
        return rearrange(amounts, "b (h w) c -> b c h w", h=height)


def _patches(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n 192"]:
    return nn.functional.unfold(1 - pictures, 8, stride=8).transpose(1, 2)


@torch.no_grad()
def write_encoder(vae: AutoencoderTiny, encoder: PatchEncoder) -> None:
    """Write a patch encoder into the convolutions of ``vae``: nothing is left to train there.

    Each halving moves the four pixels of a square into channels, 3 -> 12 -> 48; the last one takes
    the patterns' amounts, positive and negative parts apart, for the blocks between hold a
    rectifier. Blocks do nothing else.
    """
    patterns, mean, gain = encoder.patterns, encoder.mean, encoder.gain
    channels = len(gain)
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


@torch.no_grad()
def start_decoder(vae: AutoencoderTiny, encoder: PatchEncoder) -> None:
    """Let the decoder of ``vae`` begin as the mean colour of each patch; the rest starts small.

    Without it the rarer directions of colour are learnt last: red stays brown for an hour.
    """
    first, *doublings, last = (m for m in vae.decoder.layers if isinstance(m, nn.Conv2d))
    assert first.bias is not None
    assert last.bias is not None
    flat = encoder.patterns[
        ::64
    ].clone()  # what a pattern adds to each colour: constant over the patch
    flat[:, 3:] = 0
    for conv in (first, *doublings, last):
        conv.weight[:3] *= 0 if conv is not last else 0.1
    first.weight[:3, :, 1, 1] = flat / encoder.gain
    first.bias[:3] = flat @ encoder.mean
    for block in vae.decoder.layers:
        if isinstance(block, AutoencoderTinyBlock):
            block.conv[-1].weight[:3] = 0
    for colour in range(3):
        for conv in doublings:
            conv.weight[colour, colour, 1, 1] = 1
        last.weight[colour, :3] = 0
        last.weight[colour, colour, 1, 1] = -1  # darkness again
        last.bias[colour] = 1
