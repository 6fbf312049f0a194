"""What a model is asked, and the true answer: one object, a photo of it, and other views."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from zero123.geometry import Orbit


class SceneError(ValueError):
    """An object that cannot be asked about: missing, altered, unreadable, or showing nothing."""


@dataclass(frozen=True)
class Scene:
    """One object: its photo, and the true views from other seats."""

    name: str
    photo: UInt8[np.ndarray, "H W 3"]
    """What the model is given: sRGB on white."""
    seat: Orbit
    """Where the photo was taken from."""
    truths: UInt8[np.ndarray, "targets H W 4"]
    """Straight sRGB and alpha of each target view; white where nothing is."""
    seats: tuple[Orbit, ...]
    """Where each target view was taken from."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know about this object."""

    def __post_init__(self) -> None:
        if len(self.seats) == 0 or len(self.seats) != len(self.truths):
            raise SceneError(f"{len(self.truths)} target views have {len(self.seats)} cameras")
        for index, mask in enumerate(self.masks):
            if not mask.any():
                raise SceneError(f"target view {index} shows nothing")

    @property
    def digest(self) -> str:
        """SHA-256 of all its pictures and seats."""
        told = f"{self.name} {self.photo.shape} {self.seat} {self.truths.shape} {self.seats}"
        return digest_of(told.encode() + self.photo.tobytes() + self.truths.tobytes())

    @property
    def on_white(self) -> UInt8[np.ndarray, "targets H W 3"]:
        """The target views as pictures on white."""
        return on_white(self.truths)

    @property
    def masks(self) -> np.ndarray:
        """Where each target view shows the object: bool (targets, H, W), alpha above 127."""
        masks: np.ndarray = self.truths[..., 3] > 127
        return masks


@dataclass(frozen=True)
class Trial:
    """What every model is asked: which objects, how often, with which noise and sampler."""

    title: str
    """What the figures are called."""
    about: tuple[str, ...]
    """Sentences that let another person repeat it."""
    names: tuple[str, ...]
    """The objects, in order."""
    open: Callable[[str], Scene]
    """Makes an object's scene ready; raises ``SceneError`` if that cannot be."""
    samples: int = 1
    """Answers asked for each view."""
    seed: int = 0
    """All noise comes from it."""
    sampler: Literal["default", "original"] = "default"
    """The model's own steps, guidance and eta, or the authors' sampler."""

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError(f"{self.title}: no objects to evaluate on")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")


def on_white(rgba: UInt8[np.ndarray, "*views H W 4"]) -> UInt8[np.ndarray, "*views H W 3"]:
    """Composite straight RGBA on white, rounding to the nearest level."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    white: UInt8[np.ndarray, "*views H W 3"] = np.round(
        rgba[..., :3] * alpha + 255 * (1 - alpha)
    ).astype(np.uint8)
    return white


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
