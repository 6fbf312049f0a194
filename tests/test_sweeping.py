"""Laws of the sweep: bodies painted with a photo look from elsewhere as they truly do."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from zero123.geometry import UNTOLD, Camera, Orbit, pose_token
from zero123.models import PhotoFeatures, PoseProjection, sweep, sweep_channels
from zero123.models.sweeping import BODIES, DISTANCE, ELEVATIONS
from zero123.weights import WeightsError, open_model, save_model, to_original

SIZE = 128


def seen(seat: Orbit, radius: float, stretch: float) -> tuple[torch.Tensor, torch.Tensor]:
    """An ellipsoid with smooth paint, traced in double precision: picture and mask."""
    origin, rays = Camera(seat.camera_from_world, SIZE).rays()
    squash = torch.tensor([1, 1, 1 / stretch], dtype=torch.float64)
    o, d = origin * squash, rays * squash
    a, b, c = (d * d).sum(-1), (d * o).sum(-1), (o * o).sum(-1) - radius**2
    inside = b**2 - a * c
    points = origin + ((-b - inside.clamp(min=0).sqrt()) / a)[..., None] * rays
    paint = 0.5 + 0.4 * torch.sin(7 * points + torch.tensor([0.0, 1.0, 2.0]))
    hit = inside > 0
    return torch.where(hit[..., None], paint, 1.0).permute(2, 0, 1).float(), hit


@pytest.mark.parametrize("number", range(len(BODIES)))
@pytest.mark.parametrize("height", range(len(ELEVATIONS)))
@pytest.mark.parametrize("move", [(-30, 0), (45, 10), (0, -25), (20, 15)], ids=str)
def test_a_painted_body_looks_as_it_truly_does(number, height, move):
    photo_seat = Orbit(math.pi / 2 - ELEVATIONS[height], 0.7, DISTANCE)
    seat = photo_seat.moved(math.radians(move[1]), math.radians(move[0]), -0.2)
    photo, _ = seen(photo_seat, *BODIES[number])
    truth, hit = seen(seat, *BODIES[number])

    swept = sweep(photo[None], pose_token(photo_seat, seat)[None])[0]
    part = swept.view(len(ELEVATIONS), len(BODIES), 4, SIZE, SIZE)[height, number]
    faced = hit & (part[3] > 0.4)  # flatter to the photo's rays, its pixels are too coarse
    assert faced.sum() > 60
    assert (part[:3] - truth).abs()[:, faced].mean() < 0.02
    unmoved = (photo - truth).abs()[:, faced].mean()
    assert (part[:3] - truth).abs()[:, faced].mean() < 0.25 * unmoved


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_a_told_height_takes_the_place_of_both_that_are_tried(number):
    photo_seat = Orbit(math.pi / 2 - math.radians(25), 0.7, DISTANCE)
    seat = photo_seat.moved(math.radians(20), math.radians(30))
    photo, _ = seen(photo_seat, *BODIES[number])
    truth, hit = seen(seat, *BODIES[number])
    told = pose_token(photo_seat, seat, "zero123-polar")[None]
    parts = sweep(photo[None], told)[0].view(len(ELEVATIONS), len(BODIES), 4, SIZE, SIZE)
    assert torch.equal(*parts)
    part = parts[0, number]
    faced = hit & (part[3] > 0.4)
    assert faced.sum() > 60
    assert (part[:3] - truth).abs()[:, faced].mean() < 0.02


def test_an_untold_height_is_tried_as_by_a_model_that_takes_none():
    photos, seats = torch.rand(2, 4, 8, 8), (Orbit(1.2, 0.0, 1.8), Orbit(0.9, 0.5, 1.7))
    plain, told = (
        pose_token(*seats, encoding)[None].repeat(2, 1) for encoding in ("zero123", "zero123-polar")
    )
    told[0, -1] = UNTOLD
    swept = sweep(photos, told)
    assert torch.equal(swept[0], sweep(photos, plain)[0])
    assert not torch.allclose(swept[1], sweep(photos, plain)[1], atol=0.1)


def test_without_a_move_it_is_the_photo():
    photo = torch.rand(2, 3, 16, 16)
    stay = pose_token(Orbit(1.0, 0.0, 1.5), Orbit(1.0, 0.0, 1.5)).expand(2, 4)
    painted = sweep(photo, stay).view(2, -1, 4, 16, 16)[:, :, :3]
    torch.testing.assert_close(painted, photo[:, None].expand_as(painted), atol=1e-4, rtol=0)


def test_the_mirrored_photo_turned_the_other_way_is_mirrored():
    photo = torch.rand(1, 3, 16, 16)
    there, back = (
        pose_token(Orbit(1.2, 0.0, 1.8), Orbit(1.0, side, 1.7))[None] for side in (0.8, -0.8)
    )
    torch.testing.assert_close(
        sweep(photo, there).flip(-1), sweep(photo.flip(-1), back), atol=1e-4, rtol=0
    )


def test_a_view_does_not_depend_on_its_batch():
    photos, poses = torch.rand(3, 4, 8, 8), torch.randn(3, 4) * 0.3
    alone = torch.cat([sweep(photos[i : i + 1], poses[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(sweep(photos, poses), alone)


@pytest.mark.parametrize("move", [(9.0, 1.0), (-1.8, 0.0), (0.0, math.pi)], ids=str)
def test_far_off_close_by_and_behind_it_stays_finite(move):
    pose = torch.tensor([[0.3, math.sin(move[1]), math.cos(move[1]), move[0]]])
    assert sweep(torch.rand(1, 4, 16, 16), pose).isfinite().all()


def test_a_model_that_reads_sweeps_is_told_them_and_keeps_its_word(golden, tmp_path):
    plain = open_model(golden / "model.ckpt", pose_encoding="zero123")
    wide = 8 + sweep_channels(4)
    unet = UNet2DConditionModel.from_config(plain.unet.config, in_channels=wide).eval()
    numbers = plain.projection.config
    with pytest.raises(WeightsError, match=f"reads {wide} channels"):
        replace(plain, unet=unet)
    projection = PoseProjection(numbers.embed_dim, numbers.context_dim, sweeps=True).eval()
    model = replace(plain, unet=unet, projection=projection)

    features = PhotoFeatures(torch.rand(1, numbers.embed_dim), torch.rand(1, 4, 8, 8))
    pose = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.1, 0.5, 0.8, 0.1]])
    told = features.seen_from(pose, [0, 0], model.projection)
    assert told.latent.shape == (2, wide - 4, 8, 8)
    assert torch.equal(told.latent[:, :4], features.latent.expand(2, -1, -1, -1))
    assert not told.unconditional.latent.any()

    save_model(model, tmp_path / "model")
    again = open_model(tmp_path / "model")
    assert again.projection.config.sweeps
    with pytest.raises(WeightsError, match="sweep"):
        to_original(again)
