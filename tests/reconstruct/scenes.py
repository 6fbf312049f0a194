"""Objects that are known: a coloured ball as a field, and made-up meshes seen from around."""

import math
from dataclasses import replace

import torch

from zero123.data import Lighting, procedural_mesh, render
from zero123.geometry import Orbit
from zero123.reconstruct import preset
from zero123.reconstruct.field import VoxelField
from zero123.reconstruct.fit import FitSettings
from zero123.reconstruct.views import Views, photo_seat, ring, seat_after

RADIUS = 0.35
LEVEL = Orbit(math.radians(75), 0.4, 1.8)
SMALL = replace(
    preset("views", "quick"),
    fit=FitSettings(size=64, resolution=56, steps=80, blocks=512, tolerance=0.0),
    faces=6000,
    texture=256,
)
SEED = 11
ALL_AROUND = (*ring(8), *ring(5, -35.0, 30.0), *ring(5, 35.0, 30.0))


def ball(resolution=48, channels=3, density=400.0, medium="rgb"):
    """A ball, green on its upper half and red below; softened over a voxel."""
    field = VoxelField(resolution, 0.5, channels, medium, density_scale=density)
    points = field.centres()
    inside = ((RADIUS - points.norm(dim=-1)) / field.voxel + 0.5).clamp(0, 1)
    field.start_from(density * inside)
    with torch.no_grad():
        field.raw_features[0, 0] = torch.where(points[..., 2] > 0, -4.0, 4.0)
        field.raw_features[0, 1] = -field.raw_features[0, 0]
    return field


def mesh_views(seed, size=64, elevation=20.0, moves=ALL_AROUND):
    """True views of a made-up object, the first from where the photo is."""
    seat = photo_seat(elevation)
    return rendered(procedural_mesh(seed), [seat_after(move, seat) for move in moves], size)


def rendered(mesh, seats, size):
    rgba = torch.from_numpy(render(mesh, seats, size, Lighting())).permute(0, 3, 1, 2) / 255
    colors, alphas = rgba[:, :3], rgba[:, 3]
    on_white = colors * alphas[:, None] + 1 - alphas[:, None]
    return Views(on_white, alphas, tuple(seats), torch.ones(len(seats)))
