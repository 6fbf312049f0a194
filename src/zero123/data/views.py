"""A set of rendered views kept as plain arrays, and the training pairs drawn from it.

The form for data small enough to sit in memory or in a memory map: one ``NAME.images.npy`` of
pictures on white and one ``NAME.orbits.npy`` of seats, object by object.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from zero123.geometry import Orbit, pose_token


@dataclass(frozen=True)
class ViewSet:
    """Views of many objects, the same number of each."""

    images: UInt8[np.ndarray, "objects views H W 3"]
    """Pictures on white, sRGB."""
    orbits: Float32[np.ndarray, "objects views 3"]
    """Polar angle, azimuth (radians) and radius of each view's camera."""

    @classmethod
    def open(cls, folder: Path, name: str) -> "ViewSet":
        """Map a stored set into memory without reading it."""
        return cls(
            images=np.load(folder / f"{name}.images.npy", mmap_mode="r"),
            orbits=np.load(folder / f"{name}.orbits.npy"),
        )

    @staticmethod
    def on_white(
        rgba: UInt8[np.ndarray, "*views H W 4"],
    ) -> UInt8[np.ndarray, "*views H W 3"]:
        """Composite straight RGBA renders on white."""
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
    pose: Float[Tensor, "rows 4"]
    """Pose numbers, a row a target."""

    @property
    def photo_of_row(self) -> list[int]:
        """Which photo belongs to each target row."""
        photos, targets = self.target_view.shape
        return [row // targets for row in range(photos * targets)]


PHOTO_POLAR = (math.radians(30), math.radians(105))
"""Polar angles from which people take photos: 60° above the object to 15° below it."""


def draw_pairs(views: ViewSet, rng: np.random.Generator, photos: int, targets: int) -> PairBatch:
    """Draw objects, a photo of each from a usual height, and ``targets`` other views of it.

    An object without any view in ``PHOTO_POLAR`` gives any of its views as the photo.
    """
    item = rng.integers(len(views), size=photos)
    order = np.stack([_photo_first(views.orbits[i, :, 0], rng)[: targets + 1] for i in item])
    pose = torch.stack(
        [
            pose_token(views.orbit(i, seen[0]), views.orbit(i, view))
            for i, seen in zip(item.tolist(), order.tolist(), strict=True)
            for view in seen[1:]
        ]
    )
    return PairBatch(item, order[:, 0], order[:, 1:], pose)


def _photo_first(
    polar: Float32[np.ndarray, " views"], rng: np.random.Generator
) -> Int[np.ndarray, " views"]:
    order = rng.permutation(len(polar))
    usual = (polar[order] >= PHOTO_POLAR[0]) & (polar[order] <= PHOTO_POLAR[1])
    first = int(usual.argmax())  # 0 if none is
    return np.concatenate([order[first : first + 1], np.delete(order, first)])
