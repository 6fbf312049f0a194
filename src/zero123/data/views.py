"""A set of rendered views kept as plain arrays, and the training pairs drawn from it.

The form for data small enough to sit in memory or in a memory map: one ``NAME.images.npy`` of
pictures on white and one ``NAME.orbits.npy`` of seats, object by object.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, UInt8
from torch import Tensor

from zero123.geometry import Orbit, PoseEncoding, pose_token

Compositing = Literal["blended", "original"]
"""How renders come onto white: by their alpha; or as the original's data loader did it: pixels of
alpha 0 become white, and all others keep their colour, soft edges and glass too."""


@dataclass(frozen=True)
class ViewSet:
    """Views of many objects, the same number of each."""

    images: UInt8[np.ndarray, "objects views H W 3"]
    """Pictures on white, sRGB."""
    orbits: Float32[np.ndarray, "objects views 3"]
    """Polar angle, azimuth (radians) and radius of each view's camera."""
    weights: Float64[np.ndarray, " objects"] | None = None
    """How often each object is drawn, adding up to one; None: all alike."""

    @classmethod
    def open(cls, folder: Path, name: str) -> "ViewSet":
        """Map a stored set into memory without reading it."""
        weights = folder / f"{name}.weights.npy"
        return cls(
            images=np.load(folder / f"{name}.images.npy", mmap_mode="r"),
            orbits=np.load(folder / f"{name}.orbits.npy"),
            weights=np.load(weights) if weights.exists() else None,
        )

    @staticmethod
    def on_white(
        rgba: UInt8[np.ndarray, "*views H W 4"],
        compositing: Compositing = "blended",
    ) -> UInt8[np.ndarray, "*views H W 3"]:
        """Put straight RGBA renders on white."""
        if compositing == "original":
            return np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
        alpha = rgba[..., 3:].astype(np.float32) / 255
        return np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def orbit(self, item: int, view: int) -> Orbit:
        """The seat a view was taken from."""
        polar, azimuth, radius = (float(v) for v in self.orbits[item, view])
        return Orbit(polar, azimuth, radius)


@dataclass(frozen=True)
class PairBatch:
    """Photos, and several targets for each: rows of targets follow their photo."""

    item: Int[np.ndarray, " photos"]
    """Which object each photo shows."""
    photo_view: Int[np.ndarray, " photos"]
    target_view: Int[np.ndarray, "photos targets"]
    pose: Float[Tensor, "rows numbers"]
    """Pose numbers, a row a target."""

    @property
    def photo_of_row(self) -> list[int]:
        """Which photo belongs to each target row."""
        photos, targets = self.target_view.shape
        return [row // targets for row in range(photos * targets)]


PHOTO_POLAR = (math.radians(30), math.radians(105))
"""Polar angles from which people take photos: 60° above the object to 15° below it."""
_NEARBY = math.radians(35)
"""Fall-off of the chance to be drawn as a near target, over the angle to the photo's direction."""
_LEVEL = math.radians(12)
"""Fall-off of the chance to be drawn as a level target, over the difference in height."""


@dataclass(frozen=True)
class Leaning:
    """Which targets are drawn more often than others."""

    near: float = 0.0
    """Share of photos whose targets lean to those nearby. There the photo tells most of the
    answer, and a network finds out what the camera's numbers mean."""
    level: float = 0.0
    """Share of photos whose targets lean to those of the same height, where azimuth is all."""

    def __post_init__(self) -> None:
        if not (self.near >= 0 and self.level >= 0 and self.near + self.level <= 1):
            raise ValueError(
                f"near and level are shares of one whole, got {self.near:g} and {self.level:g}"
            )


def draw_pairs(
    views: ViewSet,
    rng: np.random.Generator,
    photos: int,
    targets: int,
    leaning: Leaning = Leaning(),
    encoding: PoseEncoding = "zero123",
) -> PairBatch:
    """Draw objects, a photo of each from a usual height, and ``targets`` other views of it.

    An object without any view in ``PHOTO_POLAR`` gives any of its views as the photo.

    Args:
        views: what to draw from.
        rng: every number comes from it.
        photos: how many objects.
        targets: how many views of each, all different.
        leaning: which targets are drawn more often.
        encoding: of the move, see ``pose_token``.
    """
    item = rng.choice(len(views), size=photos, p=views.weights)
    order = np.stack([_order(views.orbits[i], rng, leaning)[: targets + 1] for i in item])
    pose = torch.stack(
        [
            pose_token(views.orbit(i, seen[0]), views.orbit(i, view), encoding)
            for i, seen in zip(item.tolist(), order.tolist(), strict=True)
            for view in seen[1:]
        ]
    )
    return PairBatch(item, order[:, 0], order[:, 1:], pose)


def _order(
    orbits: Float32[np.ndarray, "views 3"], rng: np.random.Generator, leaning: Leaning
) -> Int[np.ndarray, " views"]:
    """Put the photo first, then the targets as drawn."""
    polar, azimuth, _ = orbits.astype(np.float64).T
    usual = np.flatnonzero((polar >= PHOTO_POLAR[0]) & (polar <= PHOTO_POLAR[1]))
    photo = rng.choice(usual if len(usual) else len(polar))
    flat = np.sin(polar)
    directions = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.cos(polar)], axis=1)
    kind = rng.random()
    if kind < leaning.near:
        angle = np.arccos(np.clip(directions @ directions[photo], -1, 1))
        chance = np.exp(-angle / _NEARBY)
    elif kind < leaning.near + leaning.level:
        chance = np.exp(-np.abs(polar - polar[photo]) / _LEVEL)
    else:
        chance = np.ones(len(polar))
    wait = rng.exponential(size=len(polar)) / chance  # the first to come are a weighted draw
    wait[photo] = -1
    return np.argsort(wait)


def sidedness(
    images: UInt8[np.ndarray, "views H W 3"], orbits: Float32[np.ndarray, "views 3"]
) -> float:
    """How unlike an object's sides are: mean squared difference of views from the same height.

    An object that looks the same from all sides teaches nothing about azimuth.

    Args:
        images: on white; their side a multiple of 16.
        orbits: their seats.

    Returns:
        A value in [0, 1], of pictures seen at 16×16; 0 if no two views are from the same height.
    """
    views, side = images.shape[:2]
    block = side // 16
    small = images.reshape(views, 16, block, 16, block, 3).mean((2, 4)).reshape(views, -1) / 255
    polar, azimuth, _ = orbits.astype(np.float64).T
    turn = np.abs((azimuth[:, None] - azimuth + np.pi) % (2 * np.pi) - np.pi)
    level = np.abs(polar[:, None] - polar) < _SAME_HEIGHT
    first, second = np.nonzero(np.triu(level & (turn > _TURNED)))
    if not len(first):
        return 0.0
    return float(np.square(small[first] - small[second]).mean())


_SAME_HEIGHT = math.radians(20)
_TURNED = math.radians(45)
