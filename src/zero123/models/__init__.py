"""The networks and the two conditioning streams."""

from zero123.models.condition import (
    Condition,
    PhotoFeatures,
    PoseProjection,
    clip_pixels,
    embed_photos,
)
from zero123.models.denoiser import Denoise, Tell, predict, tell
from zero123.models.latents import Autoencoder, decode_latents, encode_latents
from zero123.models.sweeping import sweep, sweep_channels

__all__ = [
    "Autoencoder",
    "Condition",
    "Denoise",
    "PhotoFeatures",
    "PoseProjection",
    "Tell",
    "clip_pixels",
    "decode_latents",
    "embed_photos",
    "encode_latents",
    "predict",
    "sweep",
    "sweep_channels",
    "tell",
]
