import math
from dataclasses import replace

import pytest
import torch
from scenes import LEVEL, ball

from zero123.geometry import Camera
from zero123.images import FramedPhoto
from zero123.reconstruct import preset
from zero123.reconstruct.descent import Descent, descend
from zero123.reconstruct.settings import SJC_PAPER
from zero123.reconstruct.sjc import SjcLoss, SjcSettings, sample_seat, sjc_bench, sjc_field
from zero123.reconstruct.volume import Rays, render_rays

SIDE = 12


class Knows:
    """A denoiser whose optimum is known: whatever it sees, it takes it for a certain ball."""

    image_size = SIDE
    latent_shape = (3, SIDE, SIDE)

    def __init__(self):
        self.truth = ball(24)
        self.asked = []

    def sigma(self, timestep):
        return timestep / 100

    def denoise(self, noisy, timestep, seat, guidance):
        self.asked.append((timestep, guidance))
        return self.render(seat)[None]

    def render(self, seat):
        with torch.no_grad():
            seen = render_rays(self.truth, Rays.of(Camera(seat.camera_from_world, SIDE)))
            return seen.on(torch.ones(1, 3)).T.reshape(3, SIDE, SIDE)

    def encode(self, picture):
        return picture[None]

    def picture(self, latents):
        return latents[0].clamp(0, 1)

    def decode(self, latents):
        return latents[0]


LATENT = SjcSettings(
    resolution=16, half=0.5, density_scale=20.0, steps_per_voxel=1.0, steps=120, rate=0.1,
    photo=1.0, depth=0.0, near=0.0, cleanest=50, noisiest=(200, 200), photo_radius=1.8,
)  # fmt: skip
COLORS = replace(LATENT, medium="rgb", size=SIDE, optimiser="adam", start="silhouette")


def bent(settings):
    model = Knows()
    alpha = (1 - model.render(LEVEL)[2:]).clamp(0, 1) * 2
    photo = FramedPhoto(model.render(LEVEL), alpha.clamp(0, 1))
    field = sjc_field(photo, LEVEL, 3, settings, seed=0)
    loss = SjcLoss(field, photo, LEVEL, model, settings)
    bench = sjc_bench(field, settings)

    def error():
        total = 0.0
        for turn in (0.7, 2.5, 4.4):
            seat = LEVEL.moved(0.1, turn)
            rays = Rays.of(Camera(seat.camera_from_world, SIDE))
            with torch.no_grad():
                made = render_rays(field, rays).on(torch.ones(1, 3)).T.reshape(3, SIDE, SIDE)
            total += float((made - model.render(seat)).square().mean())
        return total / 3

    before = error()
    descend(
        bench, Descent(settings.steps, 0), loss, lambda told: None, lambda: torch.zeros(3, 1, 1)
    )
    return before, error(), model, bench


@pytest.mark.parametrize("settings", [LATENT, COLORS], ids=["latent", "rgb"])
def test_the_field_moves_to_what_the_denoiser_knows(settings):
    before, after, model, bench = bent(settings)
    assert after < 0.15 * before
    assert after < 0.02
    assert len(bench.history["score"]) == settings.steps
    assert all(50 <= timestep <= 200 for timestep, _ in model.asked)


def test_guidance_and_noise_anneal():
    settings = replace(COLORS, steps=40, guidance=(10.0, 4.0), noisiest=(900, 100))
    _, _, model, _ = bent(settings)
    guidance = [each for _, each in model.asked]
    assert guidance == sorted(guidance, reverse=True)
    assert guidance[0] == 10
    assert max(timestep for timestep, _ in model.asked[-5:]) < 250
    assert max(timestep for timestep, _ in model.asked[:20]) > 250


def test_cameras_are_drawn_as_the_original_draws_them():
    generator = torch.Generator().manual_seed(0)
    seats = [sample_seat(generator, (1.8, 2.2), -0.5) for _ in range(400)]
    assert all(1.8 <= seat.radius <= 2.2 for seat in seats)
    heights = [float(seat.position[2]) for seat in seats]
    assert -0.5 < min(heights) < -0.45
    assert max(heights) > 1.9
    turns = torch.tensor([seat.azimuth for seat in seats])
    assert float(turns.cos().mean().abs()) < 0.1
    # toward a cube's corners it is denser than on an even sphere
    assert float((4 * turns).cos().mean()) < -0.05


def test_the_papers_preset_is_the_papers():
    """The numbers of docs/reconstruction.md, each from the published code."""
    paper = preset("sjc", "paper").sjc
    assert (paper.resolution, paper.half, paper.medium) == (100, 1.0, "latent")
    assert (paper.optimiser, paper.rate, paper.cooldown, paper.steps) == ("adamax", 0.05, 1, 10_000)
    assert (paper.guidance, paper.cleanest, paper.noisiest) == ((100, 100), 10, (969, 969))
    assert (paper.radii, paper.lowest, paper.near_step) == ((1.8, 2.2), -0.5, 0.05)
    weights = (paper.photo, paper.depth, paper.photo_depth, paper.depth_from, paper.near)
    assert weights == (1e4, 1e4, 0.1, 0.5, 1e4)
    photo = FramedPhoto(torch.ones(3, 32, 32), torch.ones(1, 32, 32))
    field = sjc_field(photo, LEVEL, 4, replace(paper, resolution=8), seed=0)
    assert float(field.densities().detach().mean()) == pytest.approx(math.log1p(math.exp(-1)))
    assert field.features(torch.zeros(1, 3)).shape == (1, 4)  # without activation
    assert SJC_PAPER.method == "sjc"


def test_the_losses_of_a_step_are_all_there_when_they_should_be():
    model = Knows()
    photo = FramedPhoto(model.render(LEVEL), torch.ones(1, SIDE, SIDE))
    settings = replace(LATENT, depth=1.0, near=1.0)
    loss = SjcLoss(sjc_field(photo, LEVEL, 3, settings, 0), photo, LEVEL, model, settings)
    early, late = (set(loss(step, torch.Generator().manual_seed(0))) for step in (59, 60))
    assert early == {"photo", "photo depth", "score", "near"}
    assert late == early | {"depth"}


def test_the_paper_has_no_views_method():
    with pytest.raises(ValueError, match="--method sjc"):
        preset("views", "paper")
