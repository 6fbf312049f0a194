"""What a caller of the pipeline may hand over, as one square tensor."""

from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zero123.images.errors import ImageError
from zero123.images.framing import frame
from zero123.images.read import Photo

Picture: TypeAlias = Image.Image | np.ndarray | Tensor
"""A PIL picture; an array (H, W, 3 or 4), uint8 or floats in [0, 1]; a tensor (3 or 4, H, W) in
[0, 1]."""


def square_picture(picture: Picture, size: int) -> Float[Tensor, "3 S S"]:
    """Put a framed square picture on white, and scale it to ``size`` if it is of another size.

    A tensor or an array of floats that already has the size passes unchanged.

    Returns:
        Pixels in [0, 1].

    Raises:
        ImageError: if it is empty or not square, has another number of channels, or leaves [0, 1].
    """
    pixels = _channels_first(picture)
    height, width = pixels.shape[1:]
    if height != width:
        raise ImageError(f"the picture must be square, got {width}×{height} pixels: frame it first")
    if not pixels.numel():
        raise ImageError("the picture is empty: it has no pixels")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # also if they are NaN
        raise ImageError(
            f"pixels must be in [0, 1], got {low:g} to {high:g}; 8-bit values, or [-1, 1]?"
        )
    rgba = pixels if len(pixels) == 4 else Photo.opaque(pixels).rgba
    if height != size:
        return frame(rgba, size, "none").image
    return rgba[:3] * rgba[3:] + (1 - rgba[3:])


def _channels_first(picture: Picture) -> Float[Tensor, "c H W"]:
    if isinstance(picture, Image.Image):
        return Photo.from_pil(picture).rgba
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] not in (3, 4):
            raise ImageError(f"an array must be (H, W, 3 or 4), got {picture.shape}")
        if picture.dtype == np.uint8:
            return Photo.from_pil(Image.fromarray(picture)).rgba
        return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)
    if picture.ndim != 3 or picture.shape[0] not in (3, 4):
        raise ImageError(f"a tensor must be (3 or 4, H, W), got {tuple(picture.shape)}")
    return picture.detach().cpu().float()
