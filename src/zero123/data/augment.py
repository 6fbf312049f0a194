"""Photos as people make them, from clean renders on white."""

import io

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.random import Generator
from PIL import Image
from scipy import ndimage

_OFTEN = 0.5
"""Share of augmented photos that get each of: a jagged matte, JPEG's blocks, a coarse or noisy
picture, another place and size. Few are cut off at a side."""
_SELDOM = 0.15
_WHITE = 250
"""What is as bright in all channels is the backdrop, unless the object is all around it."""


def augmented(photo: UInt8[np.ndarray, "H W 3"], rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
    """Make of an object on white what a person's photo of it would be, cut out by a program.

    The colours stay, because those of the wanted views do.

    Args:
        photo: a render on white.
        rng: says what happens.

    Returns:
        As many pixels; white stays white.
    """
    is_object = ndimage.binary_fill_holes(photo.min(axis=-1) < _WHITE)
    assert isinstance(is_object, np.ndarray)
    if not is_object.any():
        return photo
    backdrop = (rng.uniform(0, 255) + rng.uniform(-40, 40, 3)).clip(0, 255).astype(np.uint8)
    taken = np.where(is_object[..., None], photo, backdrop)
    if rng.random() < _OFTEN:
        taken = _coarse(taken, rng)
    if rng.random() < _OFTEN:
        taken = _compressed(taken, int(rng.integers(35, 95)))
    jagged = rng.uniform(0.05, 0.25) if rng.random() < _OFTEN else 0.0
    alpha = _matte(is_object, jagged, rng)
    if rng.random() < _SELDOM:
        alpha = _cut_off(alpha, rng)
    on_white = 255 - alpha[..., None] * (255 - taken.astype(np.float32))
    made = on_white.round().astype(np.uint8)
    return _moved(made, rng) if rng.random() < _OFTEN else made


def _coarse(picture: UInt8[np.ndarray, "H W 3"], rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
    """Out of focus, or of few pixels, with the sensor's noise."""
    blur = rng.uniform(0, 1.2)
    blurred = ndimage.gaussian_filter(picture.astype(np.float32), (blur, blur, 0))
    noisy = blurred + rng.uniform(0, 6) * rng.standard_normal(picture.shape, dtype=np.float32)
    made: UInt8[np.ndarray, "H W 3"] = noisy.round().clip(0, 255).astype(np.uint8)
    return made


def _compressed(picture: UInt8[np.ndarray, "H W 3"], quality: int) -> UInt8[np.ndarray, "H W 3"]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def _matte(
    is_object: Bool[np.ndarray, "H W"], jagged: float, rng: Generator
) -> Float[np.ndarray, "H W"]:
    """How much of each pixel is kept: an outline that strays by a pixel or two, or a clean one."""
    soft = ndimage.gaussian_filter(is_object.astype(np.float32), 0.5 + 3 * jagged)
    bites = ndimage.gaussian_filter(
        rng.standard_normal(soft.shape, dtype=np.float32), rng.uniform(1.5, 4)
    )
    strayed = soft + jagged * bites / bites.std()
    inside = ndimage.binary_erosion(is_object, iterations=4)
    beyond = ~ndimage.binary_dilation(is_object, iterations=3)
    edge = np.where(inside, 1.0, np.where(beyond, 0.0, strayed))
    kept: Float[np.ndarray, "H W"] = ((edge - 0.5) * 4 + 0.5).clip(0, 1)
    return kept


def _cut_off(alpha: Float[np.ndarray, "H W"], rng: Generator) -> Float[np.ndarray, "H W"]:
    """Lose up to a tenth at one side, as if the object had left the picture."""
    turns = int(rng.integers(4))
    turned = np.rot90(alpha, turns).copy()
    there = np.flatnonzero((turned > 0.5).any(axis=0))
    if len(there):
        turned[:, : there[0] + int(rng.uniform(0, 0.1) * len(there))] = 0
    return np.rot90(turned, -turns)


def _moved(picture: UInt8[np.ndarray, "H W 3"], rng: Generator) -> UInt8[np.ndarray, "H W 3"]:
    """Up to 5 % off the middle, up to 12 % larger or smaller."""
    height, width, _ = picture.shape
    grow = rng.uniform(0.88, 1.12)
    x, y = rng.uniform(-0.05, 0.05, 2) * (width, height)
    step = 1 / grow
    left, top = (width - width * step) / 2 - x, (height - height * step) / 2 - y
    moved = Image.fromarray(picture).transform(
        (width, height),
        Image.Transform.AFFINE,
        (step, 0, left, 0, step, top),
        Image.Resampling.BICUBIC,
        fillcolor="white",
    )
    return np.array(moved)
