import math

import pytest
import torch
from scenes import LEVEL, RADIUS, ball

from zero123.geometry import Camera
from zero123.reconstruct.field import VoxelField
from zero123.reconstruct.volume import BACKGROUND_DEPTH, Rays, render_rays, render_view


def rays(size=33, seat=LEVEL):
    return Rays.of(Camera(seat.camera_from_world, size))


@torch.no_grad()
def test_the_depth_of_a_ball_is_where_rays_meet_it():
    field, looked = ball(), rays()
    seen = render_rays(field, looked)
    along = -(looked.origins * looked.directions).sum(dim=1)
    apart = (looked.origins.square().sum(dim=1) - along.square()).clamp(min=0).sqrt()
    inside, outside = apart < RADIUS - field.voxel, apart > RADIUS + 2 * field.voxel
    true = along - (RADIUS**2 - apart.square()).clamp(min=0).sqrt()
    assert inside.sum() > 100
    assert float((seen.depth - true)[inside].abs().max()) < 1.5 * field.voxel
    assert float((seen.depth - true)[inside].abs().mean()) < 0.5 * field.voxel
    assert float(seen.opacity[inside].min()) > 0.999
    assert float(seen.opacity[outside].max()) < 1e-2
    assert float(seen.depth[outside].min()) > 0.99 * BACKGROUND_DEPTH


def test_colours_stand_where_they_are():
    picture = render_view(ball(), LEVEL, 32)
    assert picture[:3, 12, 16].tolist() == pytest.approx([0.02, 0.98, 0.5], abs=0.03)
    assert picture[:3, 20, 16].tolist() == pytest.approx([0.98, 0.02, 0.5], abs=0.03)
    assert picture[:, 0, 0].tolist() == pytest.approx([1, 1, 1, 0], abs=1e-3)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    field = VoxelField(4, 0.5, density_scale=3.0).double()
    with torch.no_grad():
        field.raw_density.normal_()
        field.raw_features.normal_()
    few = rays(4)
    looked = Rays(few.origins.double(), few.directions.double())

    def shown(density, features, gain):
        values = {"raw_density": density, "raw_features": features, "log_gain": gain}
        given = {f"field.{name}": value for name, value in values.items()}
        return torch.func.functional_call(_Renders(field), given, (looked,))

    inputs = [p.detach().clone().requires_grad_() for p in field.parameters()]
    assert torch.autograd.gradcheck(shown, inputs, atol=1e-6)


class _Renders(torch.nn.Module):
    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, looked):
        seen = render_rays(self.field, looked)
        return seen.features, seen.opacity, seen.depth


@torch.no_grad()
def test_skipping_empty_space_changes_nothing():
    field = ball(density=200.0)
    whole = render_rays(field, rays())
    before = field.occupied.clone()
    field.look_where_dense()
    assert field.occupied.float().mean() < 0.5 * before.float().mean()
    fast = render_rays(field, rays())
    for name in ("features", "opacity"):
        assert float((getattr(whole, name) - getattr(fast, name)).abs().max()) < 1e-3


def test_rays_that_meet_nothing_see_the_ground():
    field = ball()
    field.occupied.zero_()
    seen = render_rays(field, rays(8))
    assert not seen.opacity.any()
    assert (seen.depth == BACKGROUND_DEPTH).all()
    assert torch.equal(seen.on(torch.full((1, 3), 0.25)), torch.full((64, 3), 0.25))


@torch.no_grad()
def test_finer_steps_agree_and_shifted_samples_do_so_on_the_mean():
    field, looked = ball(density=40.0), rays(16)
    coarse, fine = (render_rays(field, looked, None, steps).depth for steps in (1.0, 4.0))
    assert float((coarse - fine).abs().mean()) < 0.05
    drawn = [
        render_rays(field, looked, torch.Generator().manual_seed(seed)).opacity for seed in range(8)
    ]
    assert not torch.equal(drawn[0], drawn[1])
    fixed = render_rays(field, looked).opacity
    assert float((torch.stack(drawn).mean(dim=0) - fixed).abs().max()) < 0.1


@torch.no_grad()
def test_densities_start_as_told():
    field = VoxelField(4, 0.5, density_scale=20.0)
    wanted = torch.linspace(0.01, 60, 64).reshape(4, 4, 4)
    field.start_from(wanted)
    assert torch.allclose(field.densities(), wanted, rtol=1e-3)
    at = field.centres()[1, 2, 3][None]
    assert float(field.density(at)) == pytest.approx(float(wanted[1, 2, 3]), rel=1e-3)
    assert math.isclose(field.voxel, 0.25)
