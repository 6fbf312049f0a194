"""A pinhole camera: from points to pixels and from pixels to rays."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from zero123.geometry.rigid import Rigid

FIELD_OF_VIEW = 2 * math.atan(16 / 35)
"""49.134 degrees, of a 35 mm lens on a 32 mm sensor: what the training pictures were taken with."""


@dataclass(frozen=True)
class Camera:
    """A square pinhole camera with the principal point in the middle of the picture."""

    camera_from_world: Rigid
    """Blender/OpenGL camera axes: x right, y up, looking along −z."""
    size: int
    """Side of the picture, pixels."""
    field_of_view: float = FIELD_OF_VIEW
    """Full angle, radians."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least one pixel, got {self.size}")
        if not 0 < self.field_of_view < math.pi:
            raise ValueError(
                f"field_of_view must be in (0, pi) radians, got {self.field_of_view:g}; degrees?"
            )

    @property
    def focal(self) -> float:
        """Focal length, pixels: 280 at 256, 560 at 512."""
        return self.size / 2 / math.tan(self.field_of_view / 2)

    @property
    def centre(self) -> Float64[Tensor, "3"]:
        """Where the camera is in the world."""
        return self.camera_from_world.inverse.translation

    def project(
        self, points: Float64[Tensor, "*n 3"]
    ) -> tuple[Float64[Tensor, "*n 2"], Float64[Tensor, "*n"]]:
        """Find where world points appear.

        Returns:
            Pixels (x right, y down, (0, 0) the outer corner of the first pixel) and depth along
            the optical axis, scene units; a point with depth <= 0 lies behind the camera.
        """
        local = self.camera_from_world.apply(points)
        depth = -local[..., 2]
        x = self.focal * local[..., 0] / depth + self.size / 2
        y = -self.focal * local[..., 1] / depth + self.size / 2
        return torch.stack([x, y], dim=-1), depth

    def rays(self) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "H W 3"]]:
        """The common origin, and a unit direction in the world through each pixel's middle."""
        steps = torch.arange(self.size, dtype=torch.float64) + 0.5 - self.size / 2
        y, x = torch.meshgrid(-steps, steps, indexing="ij")
        local = torch.stack([x, y, torch.full_like(x, -self.focal)], dim=-1)
        world = local @ self.camera_from_world.rotation
        return self.centre, world / world.norm(dim=-1, keepdim=True)
