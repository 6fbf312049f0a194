"""Rays through a field: what they see, how far, and how much of them is stopped."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from zero123.geometry import Camera, Orbit
from zero123.reconstruct.field import VoxelField

BACKGROUND_DEPTH = 10.0
"""How far away the ground counts as being. Source: ``render_ray_bundle`` of the original."""
_UNSEEN = 1e-4
"""Samples that give less than this to their ray need no colour. Source: likewise."""
_RAYS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Rays:
    """Straight lines in the world, float32."""

    origins: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    """Unit length."""

    @classmethod
    def of(cls, camera: Camera) -> "Rays":
        """One a pixel, row by row."""
        centre, directions = camera.rays()
        flat = directions.reshape(-1, 3).float()
        return cls(centre.float().expand_as(flat), flat)

    @classmethod
    def seen_from(cls, seats: Sequence[Orbit], size: int) -> "Rays":
        """One a pixel, row by row, seat by seat."""
        return cls.joined([cls.of(Camera(seat.camera_from_world, size)) for seat in seats])

    @classmethod
    def joined(cls, several: Iterable["Rays"]) -> "Rays":
        """All of them, in order."""
        parts = list(several)
        return cls(
            torch.cat([part.origins for part in parts]),
            torch.cat([part.directions for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, rows: Tensor | slice) -> "Rays":
        return Rays(self.origins[rows], self.directions[rows])

    def to(self, device: torch.device) -> "Rays":
        """The same on a device."""
        return Rays(self.origins.to(device), self.directions.to(device))


@dataclass(frozen=True)
class Rendered:
    """What rays saw."""

    features: Float[Tensor, "n c"]
    """Of the field alone, weighted by what it stops: without any ground."""
    opacity: Float[Tensor, " n"]
    """Share of the ray that is stopped."""
    depth: Float[Tensor, " n"]
    """Mean distance at which it is stopped, scene units; the ground is `BACKGROUND_DEPTH` away."""

    def on(self, ground: Float[Tensor, "#n c"]) -> Float[Tensor, "n c"]:
        """In front of a ground."""
        return self.features + (1 - self.opacity)[:, None] * ground


def render_rays(
    field: VoxelField,
    rays: Rays,
    generator: torch.Generator | None = None,
    steps_per_voxel: float = 1.0,
) -> Rendered:
    """Send rays through the field, looking into occupied voxels only.

    Args:
        field: what they meet.
        rays: on the field's device.
        generator: shifts the samples of each ray by a part of a step at random; none: halfway.
        steps_per_voxel: samples along the side of a voxel.
    """
    step = field.voxel / steps_per_voxel
    near, far = _span_in_box(rays, _occupied_box(field))
    count = 1 + math.ceil(float((far - near).max()) / step)
    ticks = torch.arange(count, device=near.device) * step
    if generator is None:
        shift = torch.full_like(near, 0.5 * step)
    else:
        shift = torch.rand(len(rays), generator=generator).to(near.device) * step
    # on multiples of the step from the camera: what is skipped does not move the others
    distance = ((near / step).floor() * step + shift)[:, None] + ticks
    between = (distance >= near[:, None]) & (distance < far[:, None])
    ray, tick = torch.nonzero(between, as_tuple=True)
    points = _places(rays, ray, distance[ray, tick])
    looked = _is_occupied(field, points)
    ray, tick, points = ray[looked], tick[looked], points[looked]

    thickness = torch.zeros_like(distance).index_put((ray, tick), field.density(points) * step)
    passed = torch.cumsum(thickness, dim=1) - thickness
    weight = torch.exp(-passed) * -torch.expm1(-thickness)

    given = weight[ray, tick]
    seen = given.detach() > _UNSEEN
    shown = field.features(points[seen]) * given[seen, None]
    features = torch.zeros(len(rays), field.channels, device=near.device, dtype=shown.dtype)
    opacity = weight.sum(dim=1)
    depth = (weight * distance).sum(dim=1) + (1 - opacity) * BACKGROUND_DEPTH
    return Rendered(features.index_add(0, ray[seen], shown), opacity, depth)


@torch.no_grad()
def render_view(field: VoxelField, seat: Orbit, size: int) -> Float[Tensor, "4 S S"]:
    """Picture a field of colours from a seat, on white, with its opacity as a fourth channel."""
    rays = Rays.of(Camera(seat.camera_from_world, size)).to(field.raw_density.device)
    rows = []
    for first in range(0, len(rays), _RAYS_AT_ONCE):
        seen = render_rays(field, rays[first : first + _RAYS_AT_ONCE])
        rows.append(torch.cat([seen.on(torch.ones_like(seen.features)), seen.opacity[:, None]], 1))
    picture = rearrange(torch.cat(rows), "(H W) c -> c H W", H=size)
    return picture.clamp(0, 1).cpu()


def _occupied_box(field: VoxelField) -> Float[Tensor, "2 3"]:
    """Lowest and highest corner of the box around the occupied voxels; a point if there is none."""
    device = field.occupied.device
    sides = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        at = field.occupied.any(dim=others[1]).any(dim=others[0]).nonzero()
        low, high = (at.min(), at.max() + 1) if len(at) else (0, 0)
        sides.append(torch.tensor([float(low), float(high)], device=device))
    return torch.stack(sides, dim=1) * field.voxel - field.half_side


def _span_in_box(
    rays: Rays, box: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Distances at which rays enter and leave a box; nothing in between if they miss it."""
    direction = torch.where(rays.directions == 0, 1e-9, rays.directions)
    one, other = (box[0] - rays.origins) / direction, (box[1] - rays.origins) / direction
    near = torch.minimum(one, other).amax(dim=1).clamp(min=0)
    return near, torch.maximum(one, other).amin(dim=1).maximum(near)


def _places(rays: Rays, ray: Tensor, distance: Float[Tensor, " m"]) -> Float[Tensor, "m 3"]:
    return rays.origins[ray] + rays.directions[ray] * distance[:, None]


def _is_occupied(field: VoxelField, points: Float[Tensor, "m 3"]) -> Bool[Tensor, " m"]:
    n = field.resolution
    at = ((points + field.half_side) / field.voxel).long().clamp(0, n - 1)
    return field.occupied.flatten()[(at[:, 0] * n + at[:, 1]) * n + at[:, 2]]
