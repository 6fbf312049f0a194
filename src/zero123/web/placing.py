"""From an uploaded file to the picture that the model sees, with what there is to say about it."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float
from torch import Tensor

from zero123.images import (
    TRAINING_FILL,
    FramedPhoto,
    FramingWarning,
    ImageError,
    Limits,
    MatteWarning,
    Photo,
    frame,
    matte,
    read_image,
)

Cut = Literal["auto", "alpha", "plain", "rembg", "as is"]
"""How the object is cut out, as for `matte`; "as is" takes the whole picture, squeezed."""

LIMITS = Limits(pixels=25_000_000)
"""Of an upload: several people share one memory."""
_LONGEST = 1024
"""Larger photos are shrunk to this side, pixels: more than any model takes in."""
_FARTHEST = 0.4


@dataclass(frozen=True)
class Placement:
    """Where the object of a photo goes on the model's square."""

    cut: Cut = "auto"
    fill: float = TRAINING_FILL
    """Longer side of the object, share of the square."""
    right: float = 0.0
    """Away from the middle, share of the square."""
    down: float = 0.0
    """Likewise."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.fill <= 1:
            raise ValueError(f"fill must be in [0.1, 1], got {self.fill:g}")
        for name in ("right", "down"):
            if not abs(getattr(self, name)) <= _FARTHEST:
                raise ValueError(
                    f"{name} must be in [-{_FARTHEST}, {_FARTHEST}], got {getattr(self, name):g}"
                )


@dataclass(frozen=True)
class Cutout:
    """A photo's object, cut out."""

    cut: Cut
    rgba: Float[Tensor, "4 H W"]
    remarks: tuple[str, ...]
    """What a person should know, a sentence each."""


def read_upload(file: Path) -> Photo:
    """Read an uploaded picture, within `LIMITS`, and shrink it if it is large.

    Raises:
        ImageError: for what is no picture or too large; the file's folder is not named.
    """
    try:
        photo = read_image(file, LIMITS)
    except ImageError as error:
        raise ImageError(str(error).replace(str(file), file.name)) from error
    height, width = photo.rgba.shape[1:]
    if max(height, width) <= _LONGEST:
        return photo
    scale = _LONGEST / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    alpha = photo.rgba[3:]
    # weighted by alpha, or the colours that lie hidden under transparent pixels would bleed out
    weighted = torch.cat([photo.rgba[:3] * alpha, alpha])
    small = F.interpolate(weighted[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    rgb = small[:3] / small[3:].clamp(min=1e-4)
    return Photo(torch.cat([rgb.clamp(0, 1), small[3:]]), photo.has_alpha)


def cut_out(photo: Photo, cut: Cut) -> Cutout:
    """Cut the object out. One thread at a time: warnings are the whole process's.

    Raises:
        ImageError: if this way does not work for this photo.
    """
    if cut == "as is":
        return Cutout(cut, photo.rgba, ())
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        rgba = matte(photo, cut)
    return Cutout(cut, rgba, _sentences(given))


def place(cutout: Cutout, placement: Placement, size: int) -> tuple[FramedPhoto, tuple[str, ...]]:
    """Place the object on a square, and say what there is to say.

    One thread at a time: warnings are the whole process's.

    Args:
        cutout: the object; if it was taken as is, the placement has no meaning.
        placement: where it goes.
        size: side of the square, pixels.

    Raises:
        ImageError: if there is no object.
    """
    if cutout.cut == "as is":
        return frame(cutout.rgba, size, "none"), cutout.remarks
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        photo = frame(cutout.rgba, size, "training", placement.fill)
    moved = _moved(photo, round(placement.right * size), round(placement.down * size))
    return moved, (*cutout.remarks, *_sentences(given))


def _moved(photo: FramedPhoto, right: int, down: int) -> FramedPhoto:
    edges = (right, -right, down, -down)  # a negative edge cuts off
    return FramedPhoto(F.pad(photo.image, edges, value=1.0), F.pad(photo.alpha, edges))


def _sentences(given: list[warnings.WarningMessage]) -> tuple[str, ...]:
    ours = (FramingWarning, MatteWarning)
    return tuple(str(each.message) for each in given if issubclass(each.category, ours))
