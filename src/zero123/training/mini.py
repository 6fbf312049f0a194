"""The small model: the published classes at a size that two CPU cores can train and run."""

from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.models import PoseProjection, sweep_channels
from zero123.training.autoencoder import LATENT_SCALE

IMAGE_SIZE = 128
LATENT_CHANNELS = 8
CONTEXT_DIM = 192
WIDTHS = (64, 128, 192)
"""Channels of the UNet at 16×16, 8×8 and 4×4."""


def mini_unet(**changes: object) -> UNet2DConditionModel:
    """11 M parameters on 16×16 latents; attention from 8×8 down, where it is cheap.

    The bundled model began so and was given attention at 16×16 later: ``recipes/mini_cpu.py``.

    Args:
        changes: of the configuration, as ``block_out_channels``.
    """
    config = {
        "sample_size": IMAGE_SIZE // 8,
        "in_channels": 2 * LATENT_CHANNELS + sweep_channels(LATENT_CHANNELS),
        "out_channels": LATENT_CHANNELS,
        "block_out_channels": WIDTHS,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": CONTEXT_DIM,
        "attention_head_dim": 4,  # heads, in spite of the name
        # the posed token also joins the time embedding: so the pose reaches every block
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
    }
    unet: UNet2DConditionModel = UNet2DConditionModel(**(config | changes))
    if unet.config.addition_embed_type is not None:
        nn.init.zeros_(unet.add_embedding.norm2.weight)  # silent at first
    # the photo's latent comes unscaled: as loud as the noisy one from the start
    unet.conv_in.weight.data[:, LATENT_CHANNELS:] *= LATENT_SCALE
    return unet


def mini_image_encoder() -> CLIPVisionModelWithProjection:
    """A vision tower of CLIP's build, 1.9 M parameters, on 64 px; trained with the rest."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=3,
            image_size=64,
            patch_size=8,
            projection_dim=CONTEXT_DIM,
        )
    )


def mini_projection() -> PoseProjection:
    """The pose projection, with pose columns as loud as the embedding from the start."""
    projection: PoseProjection = PoseProjection(
        embed_dim=CONTEXT_DIM, context_dim=CONTEXT_DIM, pose_dim=5, sweeps=True
    )
    nn.init.normal_(projection.projection.weight[:, CONTEXT_DIM:], std=1.0)
    return projection


def mini_scheduler() -> DDIMScheduler:
    """Velocity prediction down to zero signal, so that white paper can be told from grey.

    Source: Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2023.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )


def mini_autoencoder() -> AutoencoderTiny:
    """1.0 M parameters, factor 8. Its encoder is computed, see ``write_encoder``.

    Blocks at full resolution would cost three quarters of the time: there are none.
    """
    width = (48, 48, 48, 48)
    vae = AutoencoderTiny(
        encoder_block_out_channels=width,
        decoder_block_out_channels=width,
        num_encoder_blocks=(0, 1, 3, 3),
        num_decoder_blocks=(3, 3, 1, 0),
        latent_channels=LATENT_CHANNELS,
    )
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in vae.decoder.layers:
        if isinstance(block, AutoencoderTinyBlock):
            block.conv[-1].weight.data.mul_(0.2)  # each block starts close to doing nothing
    return vae
