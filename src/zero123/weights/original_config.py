"""Configurations of the original's networks: read off its tensors and its YAML, and written back.

Sizes come from the tensors themselves; only what they cannot tell (number of heads, noise
schedule, scale) comes from the YAML, or is what all published trainings used.
"""

import re
from dataclasses import dataclass
from math import isfinite, isqrt
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler

from zero123.weights.checkpoint import RawCheckpoint, dig
from zero123.weights.components import Components, Part, WeightsError
from zero123.weights.keys import POSE_NUMBERS, PREFIXES

# What the published trainings say. The original class's own default, 1e-4 to 2e-2, is another
# schedule, and 0.02 to 0.085, to which one converter falls back, a third.
BETA_START, BETA_END = 0.00085, 0.012
SCALING_FACTOR = 0.18215
NUM_HEADS = 8
IMAGE_SIZE = 32  # of the latents
CLIP_HEAD_WIDTH = 64
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}

MODEL = ("model", "params")
UNET = (*MODEL, "unet_config", "params")
VAE = (*MODEL, "first_stage_config", "params", "ddconfig")


@dataclass(frozen=True)
class Sizes:
    """Shapes of one network's tensors in a checkpoint, and the configuration beside it."""

    raw: RawCheckpoint
    part: Part

    def __call__(self, name: str, axis: int) -> int:
        """Size of a tensor along an axis.

        Raises:
            WeightsError: the tensor is missing, or has no such size.
        """
        full = PREFIXES[self.part] + name
        tensor = self.raw.tensors.get(full)
        if tensor is None or tensor.ndim <= axis or tensor.shape[axis] == 0:
            state = "missing" if tensor is None else "misshapen"
            raise WeightsError(f"{self.raw.path}: {full} {state}")
        return tensor.shape[axis]

    def numbers(self, pattern: str) -> set[int]:
        """The numbers that stand in names in the place of the pattern's group."""
        whole = re.compile(re.escape(PREFIXES[self.part]) + pattern)
        return {int(m[1]) for name in self.raw.tensors if (m := whole.match(name))}

    def holds(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return PREFIXES[self.part] + name in self.raw.tensors

    def number(self, path: tuple[str, ...], name: str, otherwise: int | float) -> int | float:
        """A number of the configuration.

        Raises:
            WeightsError: it is something else.
        """
        value = dig(self.raw.config, *path).get(name)
        if value is None:
            return otherwise
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            raise WeightsError(f"{self.raw.path}: the YAML's {name} is no number: {value!r}")
        return value


def unet_config(sizes: Sizes) -> dict[str, Any]:
    """Arguments of ``UNet2DConditionModel``."""
    halvings = sizes.numbers(r"input_blocks\.(\d+)\.0\.op\.weight$")
    blocks = sizes.numbers(r"input_blocks\.(\d+)\.")
    layers = min(halvings, default=len(blocks)) - 1
    levels = range(len(halvings) + 1)
    first = [1 + level * (layers + 1) for level in levels]
    attended = [sizes.holds(f"input_blocks.{block}.1.norm.weight") for block in first]
    widths = [sizes(f"input_blocks.{block}.0.out_layers.3.weight", 0) for block in first]
    inner = "middle_block.1.transformer_blocks"
    return {
        "sample_size": int(sizes.number(UNET, "image_size", IMAGE_SIZE)),
        "in_channels": sizes("input_blocks.0.0.weight", 1),
        "out_channels": sizes("out.2.weight", 0),
        "down_block_types": [f"{'CrossAttn' * here}DownBlock2D" for here in attended],
        "up_block_types": [f"{'CrossAttn' * here}UpBlock2D" for here in reversed(attended)],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "transformer_layers_per_block": len(sizes.numbers(rf"{inner}\.(\d+)\.norm1\.weight$")),
        "cross_attention_dim": sizes(f"{inner}.0.attn2.to_k.weight", 1),
        # this argument of diffusers means the number of heads, whatever its name says
        "attention_head_dim": _heads(sizes, widths),
        "use_linear_projection": not sizes.holds("middle_block.1.proj_in.weight")
        or sizes.raw.tensors[PREFIXES["unet"] + "middle_block.1.proj_in.weight"].ndim == 2,
    }


def _heads(sizes: Sizes, widths: list[int]) -> int | list[int]:
    width = int(sizes.number(UNET, "num_head_channels", -1))
    heads = int(sizes.number(UNET, "num_heads", NUM_HEADS))
    each = [heads if width < 1 else max(1, channels // width) for channels in widths]
    if (heads < 1 and width < 1) or any(c % h for c, h in zip(widths, each, strict=True)):
        raise WeightsError(f"{sizes.raw.path}: {each} heads do not divide {widths} channels")
    return each[0] if len(set(each)) == 1 else each


def vae_config(sizes: Sizes) -> dict[str, Any]:
    """Arguments of ``AutoencoderKL``."""
    levels = range(len(sizes.numbers(r"encoder\.down\.(\d+)\.")))
    return {
        "in_channels": sizes("encoder.conv_in.weight", 1),
        "out_channels": sizes("decoder.conv_out.weight", 0),
        "down_block_types": ["DownEncoderBlock2D" for _ in levels],
        "up_block_types": ["UpDecoderBlock2D" for _ in levels],
        "block_out_channels": [
            sizes(f"encoder.down.{level}.block.0.conv2.weight", 0) for level in levels
        ],
        "layers_per_block": len(sizes.numbers(r"encoder\.down\.0\.block\.(\d+)\.")),
        "latent_channels": sizes("decoder.conv_in.weight", 1),
        "sample_size": int(sizes.number(VAE, "resolution", 256)),
        "scaling_factor": sizes.number(MODEL, "scale_factor", SCALING_FACTOR),
    }


def image_encoder_config(sizes: Sizes) -> dict[str, Any]:
    """Arguments of ``CLIPVisionConfig``; the activation is quick_gelu, the class's default."""
    width, patch = sizes("conv1.weight", 0), sizes("conv1.weight", 2)
    return {
        "hidden_size": width,
        "intermediate_size": sizes("transformer.resblocks.0.mlp.c_fc.weight", 0),
        "projection_dim": sizes("proj", 1),
        "num_hidden_layers": len(sizes.numbers(r"transformer\.resblocks\.(\d+)\.")),
        "num_attention_heads": max(1, width // CLIP_HEAD_WIDTH),
        "num_channels": sizes("conv1.weight", 1),
        "image_size": patch * isqrt(max(0, sizes("positional_embedding", 0) - 1)),
        "patch_size": patch,
    }


def projection_config(sizes: Sizes) -> dict[str, Any]:
    """Arguments of ``PoseProjection``."""
    return {
        "embed_dim": sizes("weight", 1) - POSE_NUMBERS,
        "context_dim": sizes("weight", 0),
        "pose_dim": POSE_NUMBERS,
    }


def make_scheduler(sizes: Sizes) -> DDIMScheduler:
    """The sampler of the original, whose step counts and offsets it reproduces."""
    kind = dig(sizes.raw.config, *MODEL).get("parameterization", "eps")
    if kind not in PREDICTIONS:
        raise WeightsError(f"{sizes.raw.path}: the YAML's parameterization is {kind!r}; eps or v?")
    steps = int(sizes.number(MODEL, "timesteps", 1000))
    start = sizes.number(MODEL, "linear_start", BETA_START)
    end = sizes.number(MODEL, "linear_end", BETA_END)
    if not (0 < start < end < 1 and 1 < steps <= 100_000):
        raise WeightsError(f"{sizes.raw.path}: no schedule: {steps} steps from {start} to {end}")
    return DDIMScheduler(
        num_train_timesteps=steps,
        beta_start=start,
        beta_end=end,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=PREDICTIONS[kind],
        timestep_spacing="leading",
    )


def training_yaml(components: Components) -> dict[str, Any]:
    """What the original's code must be told to load the weights, in the layout of its YAML.

    Raises:
        WeightsError: the original has no such networks, or no such schedule.
    """
    unet, vae, noise = (
        part.config for part in (components.unet, components.vae, components.scheduler)
    )
    if not isinstance(components.vae, AutoencoderKL):
        raise WeightsError(
            f"the original format has no place for a {type(components.vae).__name__}"
        )
    if not isinstance(unet.attention_head_dim, int):
        raise WeightsError("the original format has no place for heads that differ by level")
    if noise.get("beta_schedule") != "scaled_linear" or noise.get("rescale_betas_zero_snr"):
        raise WeightsError(
            "the original format has no place for a noise schedule but scaled_linear"
        )
    image_size = unet.sample_size if isinstance(unet.sample_size, int) else IMAGE_SIZE
    kinds = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    width, vae_width = unet.block_out_channels[0], vae.block_out_channels[0]
    unet_part = _part(
        "ldm.modules.diffusionmodules.openaimodel.UNetModel",
        image_size=image_size,
        in_channels=unet.in_channels,
        out_channels=unet.out_channels,
        model_channels=width,
        attention_resolutions=[
            2**level
            for level, kind in enumerate(unet.down_block_types)
            if kind == "CrossAttnDownBlock2D"
        ],
        num_res_blocks=unet.layers_per_block,
        channel_mult=[channels // width for channels in unet.block_out_channels],
        num_heads=unet.attention_head_dim,
        use_spatial_transformer=True,
        use_linear_in_transformer=unet.use_linear_projection,
        transformer_depth=unet.transformer_layers_per_block,
        context_dim=unet.cross_attention_dim,
        use_checkpoint=True,
        legacy=False,
    )
    vae_part = _part(
        "ldm.models.autoencoder.AutoencoderKL",
        embed_dim=vae.latent_channels,
        ddconfig={
            "double_z": True,
            "z_channels": vae.latent_channels,
            "resolution": vae.sample_size,
            "in_channels": vae.in_channels,
            "out_ch": vae.out_channels,
            "ch": vae_width,
            "ch_mult": [channels // vae_width for channels in vae.block_out_channels],
            "num_res_blocks": vae.layers_per_block,
            "attn_resolutions": [],
            "dropout": 0.0,
        },
        lossconfig=_part("torch.nn.Identity"),
    )
    whole = _part(
        "ldm.models.diffusion.ddpm.LatentDiffusion",
        linear_start=noise.beta_start,
        linear_end=noise.beta_end,
        timesteps=noise.num_train_timesteps,
        parameterization=kinds[noise.prediction_type],
        first_stage_key="image_target",
        cond_stage_key="image_cond",
        image_size=image_size,
        channels=unet.out_channels,
        cond_stage_trainable=False,
        conditioning_key="hybrid",
        scale_factor=vae.scaling_factor,
        unet_config=unet_part,
        first_stage_config=vae_part,
        cond_stage_config=_part("ldm.modules.encoders.modules.FrozenCLIPImageEmbedder"),
    )
    return {"model": whole}


def _part(target: str, **params: object) -> dict[str, object]:
    return {"target": target, "params": params} if params else {"target": target}
