import copy

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.data.views import ViewSet, draw_pairs
from zero123.models import Condition, PoseProjection
from zero123.training.loop import LatentViews, LoopConfig, Student, train
from zero123.training.mini import mini_scheduler
from zero123.training.objective import Draws, draw, view_loss


def student() -> Student:
    torch.manual_seed(0)
    return Student(
        UNet2DConditionModel(
            sample_size=4,
            in_channels=8,
            out_channels=4,
            block_out_channels=(32, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
        ),
        CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=16,
                patch_size=8,
                projection_dim=8,
            )
        ),
        PoseProjection(embed_dim=8, context_dim=8),
    )


@pytest.fixture
def data() -> LatentViews:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 6, 32, 32, 3), dtype=np.uint8)
    seats = rng.uniform([0.2, -3, 1.5], [2.9, 3, 2.2], (5, 6, 3)).astype(np.float32)
    latents = rng.normal(size=(5, 6, 4, 4, 4)).astype(np.float16)
    return LatentViews(ViewSet(images, seats), latents)


CONFIG = LoopConfig(steps=4, photos=2, targets=2, warmup=1, average_every=2, save_every=2)


def run(data: LatentViews, folder, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    trained = student()
    ema = copy.deepcopy(trained)

    def report(row: dict[str, float]) -> None:
        if row["step"] == stop_at:
            raise KeyboardInterrupt

    train(trained, ema, mini_scheduler(), 1.0, [(data, 1.0)], CONFIG, folder, report)
    return {**{f"a.{k}": v for k, v in trained.state_dict().items()}, **ema.state_dict()}


@pytest.mark.parametrize("stop_at", [1, 2])
def test_stopped_and_started_again_is_the_same_to_the_byte(data, tmp_path, stop_at):
    straight = run(data, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "stopped", stop_at)
    resumed = run(data, tmp_path / "stopped")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_loss_that_is_no_number_stops_before_it_does_harm(data, tmp_path):
    broken = LatentViews(data.views, np.full_like(data.latents, np.nan))
    with pytest.raises(FloatingPointError, match="the loss of step 0 is nan"):
        run(broken, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_checkpoints_fall_on_averagings():
    with pytest.raises(ValueError, match="multiple of average_every = 8, got 9"):
        LoopConfig(steps=1, save_every=9)


def test_a_photo_is_never_its_own_target(data):
    batch = draw_pairs(data.views, np.random.default_rng(0), photos=50, targets=4)
    assert (batch.target_view != batch.photo_view[:, None]).all()
    assert batch.photo_of_row == [row // 4 for row in range(200)]


def test_the_perfect_answer_has_no_loss(monkeypatch):
    latents = torch.randn(6, 4, 4, 4)
    draws = draw(latents, torch.Generator().manual_seed(0), last=0.5, drop=0.0)
    scheduler = mini_scheduler()
    velocity = scheduler.get_velocity(latents, draws.noise, draws.timestep)
    unet = student().unet
    monkeypatch.setattr(unet, "forward", lambda *_, **__: (velocity,))
    condition = Condition(torch.zeros(6, 1, 8), torch.zeros(6, 4, 4, 4))
    assert float(view_loss(unet, scheduler, latents, condition, draws)) == 0


def test_draws_come_from_their_generator_alone():
    latents = torch.randn(6, 4, 4, 4)
    one, two = (draw(latents, torch.Generator().manual_seed(0), 0.5, 0.1) for _ in range(2))
    assert torch.equal(one.timestep, two.timestep)
    assert torch.equal(one.noise, two.noise)


def test_a_dropped_row_sees_what_guidance_shows(monkeypatch):
    unet, seen = student().unet, {}

    def watch(joined, timestep, context, return_dict):
        seen.update(joined=joined, context=context)
        return (torch.zeros(2, 4, 4, 4),)

    monkeypatch.setattr(unet, "forward", watch)
    draws = Draws(torch.tensor([500, 500]), torch.randn(2, 4, 4, 4), torch.tensor([1.0, 0.0]))
    condition = Condition(torch.ones(2, 1, 8), torch.ones(2, 4, 4, 4))
    view_loss(unet, mini_scheduler(), torch.randn(2, 4, 4, 4), condition, draws)
    assert not seen["context"][0].any()
    assert not seen["joined"][0, 4:].any()
    assert seen["context"][1].all()
    assert seen["joined"][1, 4:].all()
