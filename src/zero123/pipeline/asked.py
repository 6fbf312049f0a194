"""What a caller asks for, read into what the networks take, or refused with the value."""

import logging
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zero123.geometry import UNTOLD, PoseEncoding, move_token
from zero123.images import Picture

logger = logging.getLogger(__name__)

Number: TypeAlias = float | int | np.number
Numbers: TypeAlias = Number | Sequence[Number] | np.ndarray | Tensor

_TRAINED_DISTANCE = 0.7
_RADIAN_TOLERANCE = 4e-5  # degrees; float32 radians are caught, other numbers hardly ever


def read_pictures(image: Picture | Sequence[Picture]) -> list[Picture]:
    """List the photos: one, several, or a batch.

    Raises:
        ValueError: if there is none, or something is no picture.
    """
    pictures: list[Any]
    if isinstance(image, Image.Image) or getattr(image, "ndim", 4) != 4:
        pictures = [image]
    else:
        pictures = list(image)  # several, or a batch
    for picture in pictures:
        if not isinstance(picture, Image.Image | np.ndarray | Tensor):
            raise ValueError(
                f"a photo is a PIL picture, an array or a tensor, not {type(picture).__name__}; "
                "zero123.images.read_image opens a file"
            )
    if not pictures:
        raise ValueError("no photo was given")
    return pictures


def read_poses(
    azimuth: Numbers,
    elevation: Numbers,
    distance: Numbers,
    image_elevation: Number | None,
    encoding: PoseEncoding,
) -> list[Float[Tensor, " numbers"]]:
    """Turn degrees into pose numbers, one or as many as the longest list asks for.

    Raises:
        ValueError: for numbers that are not finite, out of range, or radians by mistake.
    """
    given = {
        "azimuth": _degrees("azimuth", azimuth),
        "elevation": _degrees("elevation", elevation),
        "distance": _finite("distance", distance),
    }
    count = max(len(values) for values in given.values())
    for name, values in given.items():
        if len(values) not in (1, count):
            raise ValueError(f"{name} has {len(values)} values where others have {count}")
    wide = {name: values * (count if len(values) == 1 else 1) for name, values in given.items()}
    for value in wide["elevation"]:
        if abs(value) > 90:
            raise ValueError(f"elevation must be in [-90, 90] degrees, got {value:g}")
    if image_elevation is not None:
        (seen_from,) = _degrees("image_elevation", image_elevation)
        if abs(seen_from) > 90:
            raise ValueError(f"image_elevation must be in [-90, 90] degrees: {seen_from:g}")
    if encoding == "stable-zero123":
        if any(wide["distance"]):
            raise ValueError("Stable-Zero123 cannot change the distance: leave it 0")
        if image_elevation is None:
            raise ValueError(
                "Stable-Zero123 needs the elevation that the photo was taken from: give "
                "image_elevation in degrees, 0 at eye level, up positive"
            )
    for value in wide["distance"]:
        if abs(value) > _TRAINED_DISTANCE:
            logger.warning("distance %g is outside of the -0.7 to 0.7 that models learn", value)
    polar = UNTOLD if image_elevation is None else math.radians(90 - float(image_elevation))
    return [
        move_token(-math.radians(up), math.radians(turn), away, polar, encoding)
        for turn, up, away in zip(wide["azimuth"], wide["elevation"], wide["distance"], strict=True)
    ]


def read_noise(latents: Tensor, rows: int, channels: int) -> Float[Tensor, "b c s s"]:
    """Lay out the caller's noise a row a view.

    Raises:
        ValueError: for another shape, NaN or infinity.
    """
    shape = tuple(latents.shape)
    fits = len(shape) in (4, 6) and shape[-3] == channels and shape[-1] == shape[-2] > 0
    if not fits or math.prod(shape[:-3]) != rows:
        raise ValueError(f"latents must be {rows} of ({channels}, n, n), got {shape}")
    flat = latents.reshape(rows, *shape[-3:])
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("latents hold NaN or infinity")
    return flat


def read_seeds(
    generator: torch.Generator | Sequence[torch.Generator] | None, shape: tuple[int, int, int]
) -> list[int]:
    """One seed a view. From one generator they depend on the number of the sample alone.

    Args:
        generator: one, one a view, or None for fresh noise.
        shape: images, poses, samples.

    Raises:
        ValueError: for another number of generators.
    """
    images, poses, samples = shape
    if isinstance(generator, torch.Generator) or generator is None:
        return [_seed(generator) for _ in range(samples)] * (images * poses)
    if len(generator) != images * poses * samples:
        raise ValueError(
            f"{len(generator)} generators for {images} x {poses} x {samples} views: give one, or "
            "one a view"
        )
    return [_seed(each) for each in generator]


def _seed(generator: torch.Generator | None) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**62, (), generator=generator, device=device))


def _finite(name: str, given: Numbers) -> list[float]:
    try:
        if isinstance(given, Tensor):
            given = given.detach().double().cpu().numpy()
        values = np.asarray(given, dtype=np.float64).reshape(-1).tolist()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be a number or a list of numbers, got {given!r}") from error
    if not values:
        raise ValueError(f"{name} is empty")
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    return values


def _degrees(name: str, given: Numbers) -> list[float]:
    """Read angles in degrees; refuse numbers that can only be radians."""
    values = _finite(name, given)
    for value in values:
        degrees = math.degrees(value)
        whole = 5 * round(degrees / 5)
        if whole and abs(value) < 6.29 and abs(degrees - whole) < _RADIAN_TOLERANCE:
            raise ValueError(
                f"{name} is in degrees, got {value:.6g}, which is {whole} degrees in radians: "
                f"write {whole}"
            )
    return values
