"""Placing the object on a square white canvas, as the networks expect to see it."""

import math
import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from zero123.images.errors import ImageError

Framing = Literal["training", "original", "none"]
"""How a photo is placed; see `frame`."""

TRAINING_FILL = 0.66
"""Share of the canvas that the object's longer side takes; in the training renders 0.51 to 0.77."""

ORIGINAL_FILL = 200 / 256
"""The largest share in the original's demo: slightly more than anything it was trained on."""

_FEW_PIXELS = 1 / 3  # of those wanted


class FramingWarning(UserWarning):
    """The photo can be framed, but the views made from it will probably be poor."""


@dataclass(frozen=True)
class FramedPhoto:
    """A photo as the networks take it."""

    image: Float[Tensor, "3 S S"]
    """Pixels in [0, 1], on white."""
    alpha: Float[Tensor, "1 S S"]
    """How much of each pixel is the object, in [0, 1]."""


def frame(
    rgba: Float[Tensor, "4 H W"],
    size: int = 256,
    framing: Framing = "training",
    fill: float | None = None,
) -> FramedPhoto:
    """Place the object on a square white canvas.

    Args:
        rgba: straight-alpha pixels in [0, 1], as `matte` gives them; what is more than half
            opaque counts as the object.
        size: side of the canvas, pixels.
        framing: ``"training"`` centres the object's box and scales its longer side to ``fill``,
            with soft edges. ``"original"`` does what the authors' demo does: hard edges, centred,
            shrunk to ``fill`` if longer, never enlarged. ``"none"`` squeezes the whole picture
            into the square, which is the original's way with pictures that need no cutting out.
        fill: longer side of the object as a share of the canvas; by default `TRAINING_FILL` or
            `ORIGINAL_FILL`. Has no meaning for ``"none"``.

    Raises:
        ImageError: if there is no object, or it is too thin to be seen.

    Warns:
        FramingWarning: if the object is cut off, was not cut out, or has very few pixels.

    Source: ``gradio_new.py`` of the original, for ``"original"`` and ``"none"``.
    """
    if size < 1:
        raise ValueError(f"size must be at least one pixel, got {size}")
    if fill is not None and framing == "none":
        raise ValueError(f'framing "none" keeps the picture\'s own layout, got fill={fill:g}')
    if fill is not None and not 0 < fill <= 1:
        raise ValueError(f"fill must be in (0, 1], a share of the canvas, got {fill:g}; pixels?")
    if not rgba.numel():
        raise ImageError("the picture is empty: it has no pixels")
    low, high = float(rgba.min()), float(rgba.max())
    if not (low >= 0 and high <= 1):  # also if they are NaN
        raise ImageError(f"pixels must be in [0, 1], got {low:g} to {high:g}; 8-bit values?")
    if framing == "none":
        return _squeezed(rgba, size)
    if framing == "original":
        return _placed_by_the_original(rgba, size, ORIGINAL_FILL if fill is None else fill)
    return _placed_as_in_training(rgba, size, TRAINING_FILL if fill is None else fill)


class _Box(NamedTuple):
    """Pixels; the right column and the bottom row are not included."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def sides(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def _placed_as_in_training(rgba: Float[Tensor, "4 H W"], size: int, fill: float) -> FramedPhoto:
    box = _object_box(rgba[3] > 0.5)
    scale = fill * size / max(box.sides)
    _judge(box, rgba, fill * size, scale)
    height, width = rgba.shape[1:]
    across = _bicubic(width, box.middle[0], scale, size)
    down = _bicubic(height, box.middle[1], scale, size)
    alpha = (down @ rgba[3] @ across.T).clamp(0, 1)
    # weighted by alpha, or the colours that lie hidden under transparent pixels would bleed out
    weighted = torch.stack([down @ (channel * rgba[3]) @ across.T for channel in rgba[:3]])
    # within alpha, or the filter's overshoot would draw an outline on the white
    image = weighted.clamp(min=0).minimum(alpha) + 1 - alpha
    return FramedPhoto(image, alpha[None])


def _placed_by_the_original(rgba: Float[Tensor, "4 H W"], size: int, fill: float) -> FramedPhoto:
    pixels = _bytes(rgba)
    mask = pixels[3] > 127
    box = _object_box(mask)
    limit = max(1, round(fill * size))
    _judge(box, rgba, fill * size, min(1.0, limit / max(box.sides)))
    on_white = torch.where(mask, pixels[:3], 255)
    image = _shrunk_on_white(on_white, box, limit, size)
    outside = _shrunk_on_white(torch.where(mask, 0, 255).byte()[None], box, limit, size)
    return FramedPhoto(image, 1 - outside)


def _squeezed(rgba: Float[Tensor, "4 H W"], size: int) -> FramedPhoto:
    picture = Image.fromarray(_bytes(rgba).permute(1, 2, 0).numpy())
    resized = picture.resize((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    image, alpha = pixels[:3], pixels[3:]
    return FramedPhoto(image * alpha + 1 - alpha, alpha)


def _object_box(mask: Bool[Tensor, "H W"]) -> _Box:
    rows, columns = (mask.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    if not rows:
        raise ImageError(
            "there is no object: the picture is fully transparent, or everything was cut away"
        )
    return _Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def _judge(box: _Box, rgba: Float[Tensor, "4 H W"], wanted: float, scale: float) -> None:
    """Refuse or remark on an object whose longer side should get some number of pixels."""
    height, width = rgba.shape[1:]
    shown = [side * scale for side in box.sides]
    if min(shown) < 1:
        raise ImageError(
            f"the object is {box.sides[0]}×{box.sides[1]} pixels, too thin to be seen: "
            f"it would be {shown[0]:.2g}×{shown[1]:.2g} pixels"
        )
    touched = [
        name
        for name, touches in (
            ("left", box.left == 0),
            ("top", box.top == 0),
            ("right", box.right == width),
            ("bottom", box.bottom == height),
        )
        if touches
    ]
    remarks = []
    if bool((rgba[3] > 0.5).all()):
        remarks.append("nothing was cut out, so the whole picture is taken as the object")
    elif touched:
        remarks.append(
            f"the object touches the {' and '.join(touched)} edge of the picture, so it is "
            "probably cut off, and views from the side will show the cut"
        )
    if max(box.sides) < wanted * _FEW_PIXELS:
        remarks.append(
            f"the object has only {box.sides[0]}×{box.sides[1]} pixels where {wanted:.0f} are "
            "wanted, so it will be blurred or small: take a larger picture of it"
        )
    for remark in remarks:
        warnings.warn(remark, FramingWarning, stacklevel=4)


def _bicubic(length: int, middle: float, scale: float, size: int) -> Float[Tensor, "size length"]:
    """Weights that scale one axis and bring a place on it to the middle of the canvas.

    To a fraction of a pixel, and with emptiness beyond both ends: how the object stood in its
    photo does not show.

    Source: Keys, "Cubic convolution interpolation", 1981, widened where the picture shrinks.
    """
    coarser = max(1.0, 1 / scale)  # of the two pixel sizes, in the photo's pixels
    margin = math.ceil(4 * coarser)
    seen = middle + (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) / scale
    there = torch.arange(-margin, length + margin, dtype=torch.float64) + 0.5
    t = (seen[:, None] - there).abs() / coarser
    near, far = (1.5 * t - 2.5) * t * t + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2
    weights = torch.where(t < 1, near, torch.where(t < 2, far, 0.0))
    total = weights.sum(dim=1, keepdim=True).clamp(min=1e-6)  # nothing is seen far outside
    return (weights / total)[:, margin:-margin].float()


def _shrunk_on_white(
    pixels: UInt8[Tensor, "c H W"], box: _Box, limit: int, size: int
) -> Float[Tensor, "c S S"]:
    cut = pixels[:, box.top : box.bottom, box.left : box.right]
    array = cut.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[..., 0] if len(cut) == 1 else array)
    picture.thumbnail((limit, limit), Image.Resampling.LANCZOS)  # its rounding is the original's
    canvas = Image.new(picture.mode, (size, size), "white")
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    placed = torch.from_numpy(np.array(canvas)).reshape(size, size, -1)
    return placed.permute(2, 0, 1).float() / 255


def _bytes(image: Float[Tensor, "c H W"]) -> UInt8[Tensor, "c H W"]:
    return (image * 255).round().byte()
