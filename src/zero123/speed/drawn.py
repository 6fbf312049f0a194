"""Models of the published build with drawn weights: to measure and compare without a download."""

import math
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.models import PoseProjection
from zero123.pipeline import Zero123Pipeline


@dataclass(frozen=True)
class Build:
    """Sizes of a model of the published build."""

    unet: tuple[int, ...]
    """Channels of the denoiser at each resolution."""
    layers: int
    """Residual blocks at each resolution."""
    heads: int
    vae: tuple[int, ...]
    """Channels of the autoencoder at each resolution."""
    clip: tuple[int, int, int]
    """Width, layers and heads of the image tower."""
    context: int
    """Width of the token."""
    latent: int
    """Side of the latents."""


FULL = Build((320, 640, 1280, 1280), 2, 8, (128, 256, 512, 512), (1024, 24, 16), 768, 32)
"""As published: 860 M parameters, ViT-L/14, KL-f8, 256 pixels."""
TINY = Build((32, 64), 1, 2, (32, 32, 32, 32), (32, 1, 2), 16, 8)
"""The same parts in a blink."""


def drawn_pipeline(build: Build, seed: int = 0) -> Zero123Pipeline:
    """A pipeline with drawn weights, in float32 on the CPU; its views are noise.

    Each weight has the spread that keeps the size of what passes, so that nothing overflows and
    no layer goes silent.
    """
    attended = len(build.unet) - 1
    width, layers, heads = build.clip
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=build.latent,
            in_channels=8,
            out_channels=4,
            block_out_channels=build.unet,
            down_block_types=("CrossAttnDownBlock2D",) * attended + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attended,
            layers_per_block=build.layers,
            cross_attention_dim=build.context,
            attention_head_dim=build.heads,
        )
        vae = AutoencoderKL(
            block_out_channels=build.vae,
            down_block_types=("DownEncoderBlock2D",) * len(build.vae),
            up_block_types=("UpDecoderBlock2D",) * len(build.vae),
            layers_per_block=build.layers,
            latent_channels=4,
            sample_size=8 * build.latent,
            scaling_factor=0.18215,
        )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            image_size=224,
            patch_size=14,
            projection_dim=build.context,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    for network in (unet, vae, encoder):
        _draw(
            network.to_empty(device="cpu") if network.device.type == "meta" else network, generator
        )
    pipe = Zero123Pipeline(
        vae=vae.eval(),
        image_encoder=encoder.eval(),
        unet=unet.eval(),
        cc_projection=PoseProjection(build.context, build.context).eval(),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        name=f"drawn, seed {seed}",
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _draw(network: nn.Module, generator: torch.Generator) -> None:
    for module in network.modules():
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.ndim > 1:
                spread = 1 / math.sqrt(tensor[0].numel())
                nn.init.normal_(tensor, std=spread, generator=generator)
            elif name == "weight":
                nn.init.ones_(tensor)
            else:
                nn.init.normal_(tensor, std=0.1, generator=generator)
