"""From [0, 1] tensors to pictures and picture files, complete or not there at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

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
        ImageError: for another suffix, for transparency in a JPEG, and if it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _SAVE_OPTIONS:
        raise ImageError(f"{path}: pictures are written as {', '.join(_SAVE_OPTIONS)}")
    if picture.has_transparency_data and suffix in (".jpg", ".jpeg"):
        raise ImageError(f"{path}: JPEG holds no transparency, write .png or .webp")
    with atomic_path(path) as part:
        picture.save(part, **_SAVE_OPTIONS[suffix])


def write_text(text: str, path: Path) -> None:
    """Write a text file, UTF-8.

    Raises:
        ImageError: if it cannot be written.
    """
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Lend a name beside ``path`` to write to; once the block is through, it becomes ``path``.

    If the block fails nothing is left behind, and an older file at ``path`` stays as it was.

    Raises:
        ImageError: in place of an ``OSError``: a full disk, a folder that may not be written.
    """
    part = path.with_name(f".{uuid4().hex}{path.suffix}")  # encoders go by the suffix
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from error
