"""Pictures in [0, 1] <-> latents, for every autoencoder a model may come with."""

from typing import TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from jaxtyping import Float
from torch import Tensor

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny
"""Published models carry a KL autoencoder; the bundled small one a tiny deterministic one."""


@torch.no_grad()
def encode_latents(
    vae: Autoencoder, pictures: Float[Tensor, "b 3 H W"]
) -> Float[Tensor, "b c h w"]:
    """Encode pictures in [0, 1] to the mode of their latent, not scaled."""
    encoded = vae.encode((2 * pictures - 1).to(vae.dtype))
    # AutoencoderTiny has no distribution: its latents are the mode
    latents: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return latents


@torch.no_grad()
def decode_latents(vae: Autoencoder, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
    """Decode scaled latents to pictures in [0, 1], float32."""
    decoded = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
    pictures: Tensor = ((decoded.float() + 1) / 2).clamp(0, 1)
    return pictures
