"""Where the original training began: Stable Diffusion image variations, with room for a photo.

That model sees a photo through CLIP alone. Its UNet's first layer gets as many channels again, all
zero, for the photo's latent, and the pose projection starts as the identity: so the widened model
says exactly what the narrow one says, until it is trained.

Source: Zero-1-to-3, section 3.2; ``LatentDiffusion.__init__`` and ``main.py`` of the original.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from zero123.models import PoseProjection
from zero123.weights.checkpoint import RawCheckpoint, read_checkpoint
from zero123.weights.components import Components, Settings, WeightsError, blank, fill
from zero123.weights.folders import (
    INDEX,
    PROJECTIONS,
    load_image_encoder,
    load_network,
    load_scheduler,
    read_json,
)
from zero123.weights.keys import PREFIXES, ema_name
from zero123.weights.original import Choice, from_original
from zero123.weights.sources import find, open_model

_FIRST = PREFIXES["unet"] + "input_blocks.0.0.weight"
_CONTEXT = PREFIXES["unet"] + "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
_EMBEDDING = PREFIXES["image_encoder"] + "proj"


def open_or_widen(
    source: str | Path, *, dtype: torch.dtype = torch.float32, weights: Choice = "ema"
) -> Components:
    """Open a model to go on training from: a Zero-1-to-3, or image variations, which are widened.

    Args:
        source: as for :func:`open_model`; also a folder, hub id or checkpoint of Stable Diffusion
            image variations, like ``lambdalabs/sd-image-variations-diffusers``.
        dtype: of the networks; the pose projection stays float32.
        weights: which of a checkpoint's two UNets.

    Raises:
        WeightsError: one sentence that says what is wrong and what to do.
    """
    try:
        place, names = find(source)
        settings = Settings(name=f"{names[0]}, widened")
        if place.is_file():
            raw = read_checkpoint(place)
            if _is_narrow(raw.tensors):
                return from_original(_widened(raw), settings, dtype=dtype, weights=weights)
        elif (place / INDEX).is_file():
            index = read_json(place / INDEX)
            if "unet" in index and not any(name in index for name in PROJECTIONS):
                return _widened_folder(place, index, settings, dtype)
    except OSError as unreadable:
        raise WeightsError(f"{source}: {unreadable.strerror or unreadable}") from unreadable
    return open_model(source, dtype=dtype, weights=weights)


def _is_narrow(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the UNet reads noise alone: as many channels as the autoencoder has."""
    first, decoder = tensors.get(_FIRST), tensors.get(PREFIXES["vae"] + "decoder.conv_in.weight")
    return (
        first is not None
        and decoder is not None
        and first.ndim == decoder.ndim == 4
        and first.shape[1] == decoder.shape[1]
    )


def _widened(raw: RawCheckpoint) -> RawCheckpoint:
    embedding, context = raw.tensors.get(_EMBEDDING), raw.tensors.get(_CONTEXT)
    width = None if embedding is None else embedding.shape[-1]
    takes = None if context is None else context.shape[-1]
    projection = _identity(raw.path, width, takes)
    narrow = {name: raw.tensors[name] for name in (_FIRST, ema_name(_FIRST)) if name in raw.tensors}
    tensors = {
        **raw.tensors,
        **{name: _padded(weight) for name, weight in narrow.items()},
        PREFIXES["cc_projection"] + "weight": projection.projection.weight.detach(),
        PREFIXES["cc_projection"] + "bias": projection.projection.bias.detach(),
    }
    return replace(raw, tensors=tensors)


def _widened_folder(
    folder: Path, index: Mapping[str, object], settings: Settings, dtype: torch.dtype
) -> Components:
    if "image_encoder" not in index:
        _identity(folder, None, None)
    image_encoder = load_image_encoder(folder / "image_encoder", dtype)
    narrow = load_network(folder / "unet", dtype, UNet2DConditionModel)
    channels, context = narrow.config.in_channels, narrow.config.cross_attention_dim
    projection = _identity(folder, image_encoder.config.projection_dim, context)
    wide = blank(
        lambda: UNet2DConditionModel.from_config(narrow.config, in_channels=2 * channels),
        str(folder / "unet"),
    )
    tensors = narrow.state_dict()
    tensors["conv_in.weight"] = _padded(tensors["conv_in.weight"])
    fill(wide, tensors, dtype, str(folder / "unet"))
    scheduler = load_scheduler(folder / "scheduler")
    return Components(
        unet=wide,
        vae=load_network(folder / "vae", dtype, AutoencoderKL, AutoencoderTiny),
        image_encoder=image_encoder,
        projection=projection,
        scheduler=DDIMScheduler.from_config(scheduler.config, clip_sample=False),
        settings=settings,
    )


def _identity(origin: Path, embedding: int | None, context: int | None) -> PoseProjection:
    """The projection that passes a CLIP embedding on as it is.

    Raises:
        WeightsError: there is no image encoder, or the UNet takes something else.
    """
    if embedding is None:
        raise WeightsError(
            f"{origin}: this model is told what to draw by words; only Stable Diffusion image "
            "variations, which are told by a photo, can be widened"
        )
    if embedding != context:
        raise WeightsError(
            f"{origin}: its UNet takes {context} numbers, but its image encoder gives {embedding}; "
            "only Stable Diffusion image variations, where they are alike, can be widened"
        )
    projection: PoseProjection = PoseProjection(embedding, embedding).eval()
    return projection


def _padded(weight: Float[Tensor, "out c 3 3"]) -> Float[Tensor, "out 2*c 3 3"]:
    return torch.cat([weight, torch.zeros_like(weight)], dim=1)
