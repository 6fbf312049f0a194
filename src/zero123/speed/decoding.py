"""A small decoder in place of the model's own. Near: a preview of what the latents hold."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from zero123.pipeline import Zero123Pipeline
from zero123.speed.put import put
from zero123.weights.folders import load_network


class TinyDecoder(nn.Module):
    """A decoder that was trained on the latents of a larger one, as TAESD was.

    Args:
        decoder: takes latents in its own scale.
        scale: what the model's unscaled latents are multiplied by to be in that scale.
    """

    def __init__(self, decoder: nn.Module, scale: float) -> None:
        super().__init__()
        self.decoder, self.scale = decoder, scale

    def forward(self, latents: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, 3, H, W), about [-1, 1]."""
        picture: Tensor = self.decoder(self.scale * latents)
        return picture


@contextmanager
def tiny_decoder(pipe: Zero123Pipeline, folder: Path) -> Iterator[None]:
    """Views are decoded by another autoencoder; photos are encoded as before.

    Args:
        pipe: its autoencoder is switched.
        folder: of an ``AutoencoderTiny`` as diffusers writes it, for the same latents.

    Raises:
        ValueError: if the folder holds something else, or is made for other latents.
    """
    vae = pipe.vae
    tiny: AutoencoderTiny = load_network(folder, vae.dtype, AutoencoderTiny).to(vae.device)
    upsampled = 2 ** (len(tiny.config.decoder_block_out_channels) - 1)
    made_for = (tiny.config.latent_channels, upsampled)
    latents = (vae.config.latent_channels, pipe.image_size // pipe.unet.config.sample_size)
    if made_for != latents:
        raise ValueError(
            f"{folder} decodes {made_for[0]} channels to {made_for[1]} times their size; this "
            f"model's latents have {latents[0]}, and its pictures are {latents[1]} times as large"
        )
    scale = vae.config.scaling_factor / tiny.config.scaling_factor
    own = (
        put(vae, "post_quant_conv", nn.Identity())
        if isinstance(vae, AutoencoderKL)
        else nullcontext()
    )
    with own, put(vae, "decoder", TinyDecoder(tiny.decoder, scale)):
        yield
