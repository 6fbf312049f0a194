"""Where a camera sits around the object, and the numbers that name a move between two seats.

World: right-handed, +z up, the object centred at the origin, the longest side of its box = 1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from zero123.geometry.rigid import Rigid

PoseEncoding = Literal["zero123", "stable-zero123", "zero123-polar"]
"""What follows the change of polar angle and the turn: the change of distance, the photo's own
polar angle, or both."""
UNTOLD = 0.0
"""As the photo's polar angle: it is not known. Nobody takes a photo from straight above."""


@dataclass(frozen=True)
class Orbit:
    """Where a camera sits when it looks at the origin, without roll."""

    polar: float
    """Angle from +z, radians: 0 looks straight down, pi/2 is eye level."""
    azimuth: float
    """Angle around +z from +x, counter-clockwise seen from above, radians."""
    radius: float
    """Distance to the origin, in units of the object's longest side."""

    def __post_init__(self) -> None:
        for name in ("polar", "azimuth", "radius"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if not 0 <= self.polar <= math.pi:
            raise ValueError(f"polar must be in [0, pi] radians, got {self.polar:g}; degrees?")
        if self.radius <= 0:
            raise ValueError(f"radius must be positive, got {self.radius:g}")

    @classmethod
    def from_position(cls, position: Float64[Tensor, "3"]) -> "Orbit":
        """Name the seat of a camera centre in the world."""
        x, y, z = (float(v) for v in position)
        return cls(
            polar=math.atan2(math.hypot(x, y), z),
            azimuth=math.atan2(y, x),
            radius=math.hypot(x, y, z),
        )

    @classmethod
    def from_camera(cls, camera_from_world: Rigid) -> "Orbit":
        """Name the seat of a camera given by its extrinsics; where it looks is not used."""
        return cls.from_position(camera_from_world.inverse.translation)

    @property
    def elevation(self) -> float:
        """Angle above the horizon, radians, up positive."""
        return math.pi / 2 - self.polar

    @property
    def position(self) -> Float64[Tensor, "3"]:
        """Camera centre in the world."""
        flat = self.radius * math.sin(self.polar)
        return torch.tensor(
            [
                flat * math.cos(self.azimuth),
                flat * math.sin(self.azimuth),
                self.radius * math.cos(self.polar),
            ],
            dtype=torch.float64,
        )

    @property
    def camera_from_world(self) -> Rigid:
        """Extrinsics with Blender/OpenGL camera axes: x right, y up, looking along −z.

        Straight above or below, "up" is the limit of a camera that climbs at this azimuth.
        """
        sin_a, cos_a = math.sin(self.azimuth), math.cos(self.azimuth)
        sin_p, cos_p = math.sin(self.polar), math.cos(self.polar)
        rotation = torch.tensor(
            [
                [-sin_a, cos_a, 0.0],
                [-cos_p * cos_a, -cos_p * sin_a, sin_p],
                [sin_p * cos_a, sin_p * sin_a, cos_p],
            ],
            dtype=torch.float64,
        )
        return Rigid(rotation, -rotation @ self.position)

    def moved(self, d_elevation: float, d_azimuth: float, d_radius: float = 0.0) -> "Orbit":
        """The seat after a move, radians and scene units; elevation up positive.

        A move over a pole comes down on the other side.
        """
        polar = (self.polar - d_elevation) % (2 * math.pi)
        azimuth = self.azimuth + d_azimuth
        if polar > math.pi:
            polar, azimuth = 2 * math.pi - polar, azimuth + math.pi
        return Orbit(polar, math.remainder(azimuth, 2 * math.pi), self.radius + d_radius)


def pose_token(
    cond: Orbit, target: Orbit, encoding: PoseEncoding = "zero123"
) -> Float[Tensor, " numbers"]:
    """Encode the move from the photo's viewpoint to the wanted one.

    Returns:
        ``(d_polar, sin d_azimuth, cos d_azimuth, d_radius)``, radians and scene units; other
        encodings have ``cond.polar`` in place of the last, or behind it.

    Source: Zero-1-to-3, section 3.2; ``get_T`` of the authors' data loader.

    >>> pose_token(Orbit(1.0, 0.0, 1.5), Orbit(1.0, 0.0, 1.5))
    tensor([0., 0., 1., 0.])
    """
    return move_token(
        d_polar=target.polar - cond.polar,
        d_azimuth=target.azimuth - cond.azimuth,
        d_radius=target.radius - cond.radius,
        polar=cond.polar,
        encoding=encoding,
    )


def move_token(
    d_polar: float,
    d_azimuth: float,
    d_radius: float = 0.0,
    polar: float = UNTOLD,
    encoding: PoseEncoding = "zero123",
) -> Float[Tensor, " numbers"]:
    """Encode a move.

    Args:
        d_polar: descent, radians: the polar angle grows downward, a climb is negative.
        d_azimuth: turn, radians, counter-clockwise seen from above.
        d_radius: change of distance, scene units.
        polar: of the photo's own viewpoint, ``pi/2 - elevation``, radians.
        encoding: says which of the last two are told.
    """
    last = {
        "zero123": [d_radius],
        "stable-zero123": [polar],
        "zero123-polar": [d_radius, polar],
    }[encoding]
    # sin and cos, not the angle: no jump at a full turn
    return torch.tensor(
        [d_polar, math.sin(d_azimuth), math.cos(d_azimuth), *last], dtype=torch.float32
    )
