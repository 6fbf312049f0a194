"""The network as Score Jacobian Chaining knows it: a denoiser, and the gradient it gives."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zero123.geometry import Orbit, pose_token
from zero123.images import FramedPhoto, square_picture
from zero123.models import (
    PhotoFeatures,
    decode_latents,
    embed_photos,
    encode_latents,
)
from zero123.pipeline import Zero123Pipeline


def paas_gradient(
    denoise: Callable[[Float[Tensor, "1 c h w"]], Float[Tensor, "1 c h w"]],
    clean: Float[Tensor, "1 c h w"],
    sigma: float,
    noise: Float[Tensor, "1 c h w"],
) -> Float[Tensor, "1 c h w"]:
    """Perturb-and-average score of a render: toward what the denoiser takes it for.

    Source: Wang et al., "Score Jacobian Chaining", 2022, with the variance-reduced ``D - y``.
    """
    return (denoise(clean + sigma * noise) - clean) / sigma


@dataclass(frozen=True)
class Scorer:
    """A model that looks at one photo."""

    pipe: Zero123Pipeline
    features: PhotoFeatures
    seat: Orbit
    """Where the photo was taken from."""

    @classmethod
    @torch.no_grad()
    def of(cls, pipe: Zero123Pipeline, photo: FramedPhoto, seat: Orbit) -> "Scorer":
        """Encode the photo once."""
        picture = square_picture(photo.image, pipe.image_size)[None].to(pipe.device)
        features = PhotoFeatures(
            embed_photos(pipe.image_encoder, picture), encode_latents(pipe.vae, picture)
        )
        return cls(pipe, features, seat)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the model's latents."""
        _, channels, height, width = self.features.latent.shape
        return channels, height, width

    @property
    def image_size(self) -> int:
        """Side of the pictures that the model sees, pixels."""
        return self.pipe.image_size

    def sigma(self, timestep: int) -> float:
        """Noise over signal at a timestep."""
        kept = float(self.pipe.scheduler.alphas_cumprod[timestep])
        return math.sqrt((1 - kept) / kept)

    @torch.no_grad()
    def denoise(
        self, noisy: Float[Tensor, "1 c h w"], timestep: int, seat: Orbit, guidance: float
    ) -> Float[Tensor, "1 c h w"]:
        """From latents ``x + sigma * noise`` seen from a seat to what the model takes ``x`` for.

        ``D(z) = z - sigma * eps(z / sqrt(1 + sigma^2))``; velocities likewise.
        """
        kept = float(self.pipe.scheduler.alphas_cumprod[timestep])
        device = noisy.device
        pose = pose_token(self.seat, seat, self.pipe.settings.pose_encoding)
        condition = self.features.seen_from(pose[None].to(device), [0], self.pipe.cc_projection)
        signal, noise = math.sqrt(kept), math.sqrt(1 - kept)
        scaled = noisy * signal  # signal is 1 / sqrt(1 + sigma^2)
        ask = self.pipe.tell(self.pipe.unet, condition, torch.tensor([timestep]), guidance)
        answer = ask(scaled, 0)
        if self.pipe.scheduler.config.prediction_type == "v_prediction":
            return signal * scaled - noise * answer
        return (scaled - noise * answer) / signal

    @torch.no_grad()
    def encode(self, picture: Float[Tensor, "3 S S"]) -> Float[Tensor, "1 c h w"]:
        """Scaled latents of a picture in [0, 1]."""
        latents: Tensor = encode_latents(self.pipe.vae, picture[None])
        scale: float = self.pipe.vae.config.scaling_factor
        return latents.float() * scale

    @torch.no_grad()
    def picture(self, latents: Float[Tensor, "1 c h w"]) -> Float[Tensor, "3 S S"]:
        """Decode scaled latents to a picture in [0, 1]."""
        decoded: Tensor = decode_latents(self.pipe.vae, latents)
        return decoded[0]

    def decode(self, latents: Float[Tensor, "1 c h w"]) -> Float[Tensor, "3 S S"]:
        """The same with a gradient, and therefore without bounds."""
        vae = self.pipe.vae
        decoded = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
        picture: Tensor = (decoded[0].float() + 1) / 2
        return picture
