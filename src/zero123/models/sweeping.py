"""The photo as it would look from the wanted seat, if the object were a pillar or a ball.

A convolution looks straight ahead, but a turn moves things sideways, each by its depth. A stereo
matcher sweeps a plane through all depths and lets the network choose; here bodies around the
object's middle are painted with the photo and seen from the wanted seat. Where the pose does not
say from how high the photo was taken, that is swept too. Only our own models read this; the
published ones take the photo's latent alone.

Source: the plane sweep of Collins, "A Space-Sweep Approach to True Multi-Image Matching", 1996.
"""

import itertools
import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float
from torch import Tensor

from zero123.geometry import FIELD_OF_VIEW, UNTOLD

BODIES = ((0.15, 3.0), (0.3, 3.0), (0.2, 1.0), (0.4, 1.0))
"""Radius, in units of the object's longest side, and height over breadth: pillars and balls."""
ELEVATIONS = (math.radians(10), math.radians(40))
"""From which the photo may have been taken, where it is not known."""
DISTANCE = 1.85
"""From which the photo is taken to be, in units of the object's longest side."""


def sweep_channels(latent_channels: int) -> int:
    """How many channels ``sweep`` gives for a latent of so many."""
    return len(BODIES) * len(ELEVATIONS) * (latent_channels + 1)


@torch.no_grad()
def sweep(
    latent: Float[Tensor, "b c h w"], pose: Float[Tensor, "b numbers"]
) -> Float[Tensor, "b channels h w"]:
    """See bodies that are painted with the photo from the wanted seat.

    A ray that misses takes the point where it passes nearest to the middle. What the photo did not
    see takes the paint of what hides it.

    Args:
        latent: of the photo, or the photo itself.
        pose: the move as ``pose_token`` gives it: change of polar angle, sine and cosine of the
            turn, change of distance; and, if it has five numbers, the photo's polar angle.

    Returns:
        For each elevation and body: the painted latent, and the cosine of the angle between the
        body's normal and the direction to the photo's camera, from 1 (faced it) to -1 (hidden).
        Where the photo's polar angle is told, it stands for every elevation.
    """
    b, c, h, w = latent.shape
    each = [(e, *body) for e, body in itertools.product(ELEVATIONS, BODIES)]
    heights, radii, stretch = torch.tensor(each, device=latent.device).T
    pose = pose.to(latent.device).float()
    polar = math.pi / 2 - heights.expand(b, -1)
    told = pose[:, 4:]
    if told.numel():
        polar = torch.where(told == UNTOLD, polar, told)
    moved = polar + pose[:, :1]
    turn = torch.atan2(pose[:, 1:2], pose[:, 2:3]).expand(-1, len(each))
    photo, wanted = _axes(polar, torch.zeros_like(turn)), _axes(moved, turn)

    half = math.tan(FIELD_OF_VIEW / 2)
    x = ((torch.arange(w, device=latent.device) + 0.5) / w * 2 - 1) * half
    y = (1 - (torch.arange(h, device=latent.device) + 0.5) / h * 2) * half
    local = torch.stack([x.expand(h, w), y[:, None].expand(h, w), -torch.ones(h, w).to(x)], -1)
    rays = torch.einsum("hwi,bkij->bkhwj", local, wanted)
    start = ((DISTANCE + pose[:, 3:4, None]) * wanted[:, :, 2])[:, :, None, None]

    # a body is a ball in a space of its own height
    upright = torch.stack([torch.ones_like(stretch), torch.ones_like(stretch), 1 / stretch], -1)
    squash = upright[:, None, None]
    ray, at = rays * squash, start * squash
    steep, along = ray.square().sum(-1), (ray * at).sum(-1)
    beyond = at.square().sum(-1) - radii[:, None, None].square()
    inside = (along.square() - steep * beyond).clamp(min=0)  # misses: the nearest point
    points = start - ((along + inside.sqrt()) / steep)[..., None] * rays

    seen = torch.einsum("bkhwj,bkij->bkhwi", points, photo)
    depth = (DISTANCE - seen[..., 2]).clamp(min=0.1)
    place = torch.stack([seen[..., 0], -seen[..., 1]], -1) / (depth * half)[..., None]
    painted = F.grid_sample(
        latent.float().repeat_interleave(len(each), 0),
        place.flatten(0, 1),
        padding_mode="border",
        align_corners=False,
    )
    normal = F.normalize(points * squash.square(), dim=-1)
    facing = torch.einsum("bkhwj,bkj->bkhw", normal, photo[:, :, 2])
    both = torch.cat([painted.view(b, len(each), c, h, w), facing[:, :, None]], 2)
    return both.flatten(1, 2).to(latent.dtype)


def _axes(polar: Float[Tensor, "b k"], azimuth: Float[Tensor, "b k"]) -> Float[Tensor, "b k 3 3"]:
    """Rows: right, up and backward of cameras that look at the origin; z is up."""
    sin_p, cos_p, sin_a, cos_a = polar.sin(), polar.cos(), azimuth.sin(), azimuth.cos()
    rows = [
        [-sin_a, cos_a, torch.zeros_like(polar)],
        [-cos_p * cos_a, -cos_p * sin_a, sin_p],
        [sin_p * cos_a, sin_p * sin_a, cos_p],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
