import pytest
import torch
from diffusers import DDIMScheduler
from scenes import LEVEL

from zero123.geometry import pose_token
from zero123.images import FramedPhoto
from zero123.models import predict
from zero123.pipeline import Zero123Pipeline
from zero123.reconstruct.score import Scorer, paas_gradient


def test_the_gradient_is_the_formula_in_float64():
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=generator, dtype=torch.float64)
    sigma = 1.7

    def epsilon(scaled):
        return torch.tanh(scaled) * 0.3

    def denoise(noisy):
        return noisy - sigma * epsilon(noisy / (1 + sigma**2) ** 0.5)

    noisy = clean + sigma * noise
    # (D - y) / sigma with D = z - sigma * eps is n - eps
    expected = noise - epsilon(noisy / (1 + sigma**2) ** 0.5)
    assert torch.allclose(paas_gradient(denoise, clean, sigma, noise), expected, atol=1e-12)


def test_a_denoiser_that_agrees_gives_no_gradient():
    clean = torch.randn(1, 4, 8, 8)
    assert not paas_gradient(lambda noisy: clean, clean, 3.0, torch.randn_like(clean)).any()


@pytest.mark.parametrize("source", ["mini", "model.ckpt"])
def test_the_denoiser_is_what_the_scheduler_makes_of_the_network(source, golden):
    """A twin: velocity and noise prediction, by diffusers' own formulas."""
    where = source if source == "mini" else golden / source
    pipe = Zero123Pipeline.from_pretrained(where)
    size = pipe.image_size
    photo = FramedPhoto(torch.rand(3, size, size), torch.ones(1, size, size))
    scorer = Scorer.of(pipe, photo, LEVEL)
    seat, timestep = LEVEL.moved(0.2, 1.0, 0.1), 600
    sigma = scorer.sigma(timestep)
    latents = torch.randn(1, *scorer.latent_shape)
    noisy = latents + sigma * torch.randn_like(latents)

    scaled = noisy / (1 + sigma**2) ** 0.5
    pose = pose_token(LEVEL, seat, pipe.settings.pose_encoding)
    condition = scorer.features.seen_from(pose[None], [0], pipe.cc_projection)
    with torch.no_grad():
        answer = predict(pipe.unet, scaled, torch.tensor(timestep), condition, 3.0)
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(10)
    expected = scheduler.step(answer, timestep, scaled).pred_original_sample
    made = scorer.denoise(noisy, timestep, seat, 3.0)
    assert torch.allclose(made, expected, atol=1e-3 * float(expected.abs().max()))


def test_a_picture_comes_back_through_the_autoencoder():
    pipe = Zero123Pipeline.from_pretrained("mini")
    photo = FramedPhoto(torch.full((3, 128, 128), 0.5), torch.ones(1, 128, 128))
    scorer = Scorer.of(pipe, photo, LEVEL)
    latents = scorer.encode(photo.image)
    assert float((scorer.picture(latents) - 0.5).abs().mean()) < 0.05
    with_gradient = latents.clone().requires_grad_()
    scorer.decode(with_gradient).sum().backward()
    assert with_gradient.grad is not None
    assert bool(with_gradient.grad.any())
    assert torch.allclose(scorer.decode(latents).clamp(0, 1), scorer.picture(latents), atol=1e-5)
