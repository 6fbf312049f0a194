"""The original's checkpoints <-> components.

Round trip: the UNet, the VAE, the CLIP image tower and the pose projection come back with the
same bytes, and so does the UNet's moving average when both UNets are given. Not carried: the
schedule's buffers (they follow from the YAML), the unused text tower, the optimizer's state.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.files import written_whole
from zero123.models import PoseProjection
from zero123.weights.checkpoint import RawCheckpoint
from zero123.weights.components import (
    Components,
    Part,
    Settings,
    WeightsError,
    blank,
    complain,
    fill,
)
from zero123.weights.keys import (
    PREFIXES,
    ema_name,
    join_original,
    pair_names,
    split_original,
)
from zero123.weights.original_config import (
    Sizes,
    image_encoder_config,
    make_scheduler,
    projection_config,
    training_yaml,
    unet_config,
    vae_config,
)
from zero123.weights.writing import write_tensors

logger = logging.getLogger(__name__)

Choice = Literal["ema", "raw"]
"""Which of a checkpoint's two UNets: the moving average, as the original samples, or the last."""

UNUSED = re.compile(
    r"model_ema\.|cond_stage_model\.(?!model\.visual\.)|first_stage_model\.loss\.|scale_factor$"
    r"|logvar$|lvlb_weights$|(betas|alphas_cumprod|sqrt_|log_|posterior_)\w*$"
)
"""What only training reads: schedule, losses, text tower; and the moving average."""

KINDS: dict[Part, tuple[Callable[[Sizes], dict[str, Any]], Callable[..., nn.Module]]] = {
    "unet": (unet_config, UNet2DConditionModel),
    "vae": (vae_config, AutoencoderKL),
    "image_encoder": (
        image_encoder_config,
        lambda **config: CLIPVisionModelWithProjection(CLIPVisionConfig(**config)),
    ),
    "cc_projection": (projection_config, PoseProjection),
}
"""How each network's configuration is found, and what is made of it."""


def from_original(
    raw: RawCheckpoint, settings: Settings, *, dtype: torch.dtype, weights: Choice
) -> Components:
    """Turn an original checkpoint into components.

    Args:
        raw: as read.
        settings: carried along.
        dtype: of all networks but the projection, which stays float32.
        weights: ``ema`` takes the UNet's moving average if the file has one.

    Raises:
        WeightsError: it is another model's checkpoint, or tensors are missing, unknown or
            misshapen; they are named.
    """
    _check_kind(raw)
    strangers = [
        name
        for name in raw.tensors
        if not name.startswith(tuple(PREFIXES.values())) and not UNUSED.match(name)
    ]
    if strangers:
        logger.warning(
            "%s: left out %d tensors of no known use: %s", raw.path, len(strangers), strangers[:3]
        )
    return Components(
        unet=_load(raw, "unet", dtype, averaged=weights == "ema"),
        vae=_load(raw, "vae", dtype),
        image_encoder=_load(raw, "image_encoder", dtype),
        projection=_load(raw, "cc_projection", torch.float32),
        scheduler=make_scheduler(Sizes(raw, "unet")),
        settings=settings,
    )


def to_original(
    components: Components, average: UNet2DConditionModel | None = None
) -> dict[str, Tensor]:
    """Name all tensors as the original does.

    Args:
        components: their UNet becomes ``model.diffusion_model.*``.
        average: a moving average of the UNet, to become ``model_ema.*``.

    Raises:
        WeightsError: the original has no such networks.
    """
    if components.projection.config.sweeps:
        raise WeightsError("the original has no UNet that reads a sweep of the photo's latent")
    named: dict[str, Tensor] = {}
    for part, network in components.networks.items():
        named |= _named(part, network)
    if average is not None:
        named |= {ema_name(name): value for name, value in _named("unet", average).items()}
    return named


def save_original(
    components: Components, path: Path, average: UNet2DConditionModel | None = None
) -> None:
    """Write a checkpoint that the original code loads, and its YAML beside it.

    Args:
        components: what to write.
        path: ends in ``.ckpt`` or ``.safetensors``.
        average: a moving average of the UNet, to keep too.

    Raises:
        WeightsError: something is there already, or the original has no such networks.
        OSError: the disk is full or refuses; nothing has changed then.
    """
    for place in (path, path.with_suffix(".yaml")):
        if place.exists():
            raise WeightsError(f"{place} is there already: name a new file")
    if path.suffix not in (".ckpt", ".safetensors"):
        raise WeightsError(f"{path}: an original checkpoint ends in .ckpt or .safetensors")
    config = yaml.safe_dump(training_yaml(components), sort_keys=False)
    tensors = to_original(components, average)
    with written_whole(path.with_suffix(".yaml")) as text, written_whole(path) as file:
        text.write_text(config, encoding="utf-8")
        write_tensors(file, tensors)


def _load(raw: RawCheckpoint, part: Part, dtype: torch.dtype, averaged: bool = False) -> Any:
    origin = str(raw.path)
    find_config, make = KINDS[part]
    config = find_config(Sizes(raw, part))
    network = blank(lambda: make(**config), origin)
    pairs = pair_names(part, network.state_dict())
    known = {pair.original for pair in pairs}
    unknown = [
        name
        for name in raw.tensors
        if name.startswith(PREFIXES[part]) and name not in known and not UNUSED.match(name)
    ]
    complain(origin, {"unknown": unknown})
    if averaged and any(name.startswith("model_ema.diffusion_model") for name in raw.tensors):
        pairs = tuple(replace(pair, original=ema_name(pair.original)) for pair in pairs)
    fill(network, split_original(pairs, raw.tensors, origin), dtype, origin)
    return network


def _named(part: Part, network: nn.Module) -> dict[str, Tensor]:
    tensors = network.state_dict()
    return join_original(pair_names(part, tensors), tensors)


def _check_kind(raw: RawCheckpoint) -> None:
    """Refuse the checkpoints of other models, and say whose they are."""
    first = raw.tensors.get("model.diffusion_model.input_blocks.0.0.weight")
    if first is None or first.ndim != 4:
        reason = f"it holds {', '.join(list(raw.tensors)[:3]) or 'no tensors by name'}"
        if any("down_blocks." in name for name in raw.tensors):
            reason = "one network of a diffusers folder: give the folder with model_index.json"
        raise WeightsError(f"{raw.path}: not a Zero-1-to-3 checkpoint ({reason})")
    channels = first.shape[1]
    if channels in (4, 9):
        raise WeightsError(
            f"{raw.path}: this is Stable Diffusion{' inpainting' * (channels == 9)}, whose UNet "
            f"reads {channels} channels, not Zero-1-to-3, whose UNet reads 8: noise and photo"
        )
    if "cc_projection.weight" not in raw.tensors:
        raise WeightsError(
            f"{raw.path}: not a Zero-1-to-3 checkpoint (no cc_projection, the layer that poses "
            "the photo's embedding; is it an image-editing model?)"
        )
