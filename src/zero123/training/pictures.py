"""How far decoded views are from the true ones, as eyes see them and not as latents differ."""

import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from zero123.evaluation.backbones import STLPIPS_ALEX, BackboneMissing, Backbones
from zero123.evaluation.perceptual import Weights, distance, shift_tolerant_trunk, unit_layers
from zero123.models import Autoencoder

ABSOLUTE, STRUCTURE, PERCEIVED = 4.0, 1.0, 2.0
"""Weights of the absolute error, of 1 - SSIM and of ST-LPIPS: about a third of the loss each."""
_SSIM_SIGMA = 0.75
"""Of SSIM's window, pixels: the usual one of 1.5 at twice the size."""


class PictureLoss(nn.Module):
    """Absolute error, SSIM and ST-LPIPS of what a decoder makes of latents.

    The mean of all that a view may be is what squared errors of latents ask for: a blur. ST-LPIPS
    is asked about the whole picture at half its size and about its middle at full size.

    Source: Zhao et al., "Loss Functions for Image Restoration with Neural Networks", 2017, for the
    first two together; Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", 2022.

    Args:
        vae: whose decoder; a tiny one.
        st_lpips: whether ST-LPIPS counts.
        compiled: whether to compile the comparison. The decoder is not: on CPUs it gains nothing.

    Raises:
        ValueError: for another autoencoder, or if the weights of ST-LPIPS are not here and cannot
            be fetched.
    """

    def __init__(self, vae: Autoencoder, st_lpips: bool = True, compiled: bool = False) -> None:
        super().__init__()
        if not isinstance(vae, AutoencoderTiny):
            raise ValueError(
                f"views can be judged as pictures by a tiny autoencoder, not {type(vae).__name__}"
            )
        self.decoder = vae.decoder.to(memory_format=torch.channels_last)
        self.scale: float = vae.config.scaling_factor
        self.network = _network() if st_lpips else None
        self._apart = torch.compile(_apart) if compiled else _apart

    def forward(
        self, latents: Float[Tensor, "b c h w"], truth: Float[Tensor, "b 3 H W"]
    ) -> Float[Tensor, ""]:
        """Compare scaled latents with true pictures in [0, 1]."""
        made = self.decoder((latents / self.scale).contiguous(memory_format=torch.channels_last))
        network = self.network and {n: w.to(made.device) for n, w in self.network.items()}
        apart: Tensor = self._apart((made.float() + 1) / 2, truth, network)
        return apart


def _apart(
    made: Float[Tensor, "b 3 H W"], truth: Float[Tensor, "b 3 H W"], network: Weights | None
) -> Float[Tensor, ""]:
    with torch.autocast(made.device.type, enabled=False):  # near white, bf16 has no contrast
        absolute = (made - truth).abs().mean()
        alike = structural_similarity_index_measure(made, truth, sigma=_SSIM_SIGMA, data_range=1.0)
    assert isinstance(alike, Tensor)
    loss: Tensor = ABSOLUTE * absolute + STRUCTURE * (1 - alike)
    if network is not None:
        loss = loss + PERCEIVED * _st_lpips(_looks(made), _looks(truth), network)
    return loss


def _network() -> dict[str, Tensor]:
    try:
        return Backbones(download=True).load(STLPIPS_ALEX)
    except BackboneMissing as missing:
        raise ValueError(f"{missing}; or leave ST-LPIPS out: --no-st-lpips") from missing


def _st_lpips(
    made: Float[Tensor, "n 3 h w"], truth: Float[Tensor, "n 3 h w"], weights: Weights
) -> Float[Tensor, ""]:
    def trunk(pictures: Tensor) -> list[Tensor]:
        return [layer.float() for layer in shift_tolerant_trunk(pictures, weights)]

    with torch.no_grad():
        wanted = unit_layers(truth, trunk)
    seen = unit_layers(made, trunk)
    with torch.autocast(made.device.type, enabled=False):  # only the trunk may be in bf16
        return distance(seen, wanted, weights).mean()


def _looks(pictures: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "n 3 h w"]:
    """Pictures at half their size, and their middles."""
    height, width = (side // 4 for side in pictures.shape[-2:])
    middle = pictures[..., height : 3 * height, width : 3 * width]
    return torch.cat([functional.avg_pool2d(pictures, 2), middle])
