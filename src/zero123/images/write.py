"""From [0, 1] tensors to pictures and picture files, complete or not there at all."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from zero123.files import written_whole
from zero123.images.errors import ImageError

# Close to lossless: what is written here is often measured, or read again.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
}


def to_u8(image: Float[Tensor, "*shape"], truncated: bool = False) -> UInt8[Tensor, "*shape"]:
    """Turn [0, 1] into 0..255; what lies outside is clipped.

    Args:
        image: pixels.
        truncated: cut the fraction off, as the original does, instead of rounding.

    Raises:
        ImageError: if it holds NaN or infinity.
    """
    if not bool(torch.isfinite(image).all()):
        raise ImageError("the picture holds NaN or infinity: something overflowed before")
    levels = image.detach().clamp(0, 1) * 255
    return (levels if truncated else levels.round()).byte()


def to_pil(image: Float[Tensor, "c H W"], truncated: bool = False) -> Image.Image:
    """Turn one (grey), three (RGB) or four channels (with straight alpha) in [0, 1] into PIL's.

    Args:
        image: pixels.
        truncated: see ``to_u8``.

    Raises:
        ImageError: for another number of channels, NaN or infinity.
    """
    if image.shape[0] not in (1, 3, 4):
        raise ImageError(
            f"a picture has 1, 3 or 4 channels, then height and width; got {tuple(image.shape)}"
        )
    pixels = to_u8(image, truncated).cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if image.shape[0] == 1 else pixels)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, JPEG or WebP file, as the suffix says.

    Raises:
        ImageError: for another suffix, and for transparency in a JPEG.
        OSError: if it cannot be written; an older file stays as it was.
    """
    suffix = path.suffix.lower()
    if suffix not in _SAVE_OPTIONS:
        raise ImageError(f"{path}: pictures are written as {', '.join(_SAVE_OPTIONS)}")
    if picture.has_transparency_data and suffix in (".jpg", ".jpeg"):
        raise ImageError(f"{path}: JPEG holds no transparency, write .png or .webp")
    with written_whole(path) as part:
        picture.save(part, **_SAVE_OPTIONS[suffix])


def write_text(text: str, path: Path) -> None:
    """Write a text file, UTF-8.

    Raises:
        OSError: if it cannot be written; an older file stays as it was.
    """
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")
