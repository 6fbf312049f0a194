from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from tests.training.conftest import TINY

from zero123.models import PhotoFeatures
from zero123.training.config import PAPER, TrainConfig
from zero123.training.mini import mini_scheduler
from zero123.training.objective import Draws, answer_views, dropped_as_original
from zero123.weights import open_model

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPE = torch.Size([6, 4, 4, 4])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def whole(rows: int, **changed: torch.Tensor) -> Draws:
    ones = torch.ones(rows)
    noise = torch.randn(rows, 4, 4, 4, generator=generator())
    kept = {"embedding": ones, "token": ones, "latent": ones}
    return Draws(torch.full((rows,), 500), noise, **(kept | changed))


def test_loss_and_gradients_are_the_originals():
    golden = {
        name: torch.from_numpy(a)
        for name, a in np.load(GOLDEN / "train.npz").items()
        if a.dtype.kind in "fib"
    }
    parts = open_model(str(GOLDEN / "model.ckpt"), weights="raw")
    for network in (parts.unet, parts.projection):
        network.requires_grad_(True)
    embedding, token, latent = dropped_as_original(golden["rand_u"], PAPER.drop_share)
    assert torch.equal(embedding == 0, golden["prompt_mask"])
    assert torch.equal(latent, golden["input_mask"])
    loss = answer_views(
        parts.unet,
        parts.projection,
        parts.scheduler,
        golden["z0"],
        PhotoFeatures(golden["clip_embed"][:, 0], golden["cond_latent"]),
        golden["T"],
        Draws(golden["t"], golden["noise"], embedding, token, latent),
    ).loss
    assert abs(float(loss.detach()) - float(golden["loss"])) < 1e-5
    torch.autograd.backward(loss)
    off = parts.projection.projection.weight.grad - golden["grad_cc_projection_weight"]
    assert off.abs().max() < 1e-5
    off = parts.unet.conv_in.weight.grad - golden["grad_conv_in_weight"]
    assert off.abs().max() < 1e-4
    trained = [*parts.unet.parameters(), *parts.projection.parameters()]
    norm = torch.nn.utils.clip_grad_norm_(trained, 1e9)
    assert abs(float(norm.detach()) / float(golden["grad_total_norm"]) - 1) < 1e-4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_perfect_answer_has_no_loss(student, monkeypatch, prediction):
    scheduler = DDIMScheduler.from_config(mini_scheduler().config, prediction_type=prediction)
    latents, draws = torch.randn(SHAPE, generator=generator(1)), whole(6)
    answers = {
        "epsilon": draws.noise,
        "v_prediction": scheduler.get_velocity(latents, draws.noise, draws.timestep),
    }
    monkeypatch.setattr(student.unet, "forward", lambda *_, **__: (answers[prediction],))
    photos = PhotoFeatures(torch.zeros(6, 8), torch.zeros(SHAPE))
    args = (student.unet, student.projection, scheduler, latents, photos, torch.zeros(6, 4), draws)
    assert float(answer_views(*args).loss) == 0
    assert float(answer_views(*args, min_snr=5.0).loss) == 0


def test_min_snr_weights_the_same_error_the_same_in_both_predictions(student, monkeypatch):
    """An error of the noise is one of the clean latent, whatever the network is asked for."""
    losses = []
    for prediction in ("epsilon", "v_prediction"):
        scheduler = DDIMScheduler(beta_schedule="scaled_linear", prediction_type=prediction)
        latents, draws = torch.randn(SHAPE, generator=generator(1)), whole(6)
        a = scheduler.alphas_cumprod[500]
        off = 0.1  # of the clean latent
        answer = (
            draws.noise - off * (a / (1 - a)).sqrt()
            if prediction == "epsilon"
            else scheduler.get_velocity(latents, draws.noise, draws.timestep) - off / (1 - a).sqrt()
        )
        monkeypatch.setattr(student.unet, "forward", lambda *_, answer=answer, **__: (answer,))
        photos = PhotoFeatures(torch.zeros(6, 8), torch.zeros(SHAPE))
        pose = torch.zeros(6, 4)
        losses.append(
            answer_views(
                student.unet, student.projection, scheduler, latents, photos, pose, draws, 5.0
            ).loss
        )
    assert abs(float(losses[0] / losses[1]) - 1) < 1e-4


def test_draws_come_from_their_generator_alone():
    one, two = (Draws.of(TINY, SHAPE, generator(), 1000) for _ in range(2))
    assert torch.equal(one.timestep, two.timestep)
    assert torch.equal(one.noise, two.noise)


def test_a_consistently_dropped_row_sees_what_guidance_shows(student, monkeypatch):
    seen = {}

    def watch(joined, timestep, context, return_dict):
        seen.update(joined=joined, context=context)
        return (torch.zeros(2, 4, 4, 4),)

    monkeypatch.setattr(student.unet, "forward", watch)
    kept = torch.tensor([0.0, 1.0])
    photos = PhotoFeatures(torch.ones(2, 8), torch.ones(2, 4, 4, 4))
    answer_views(
        student.unet,
        student.projection,
        mini_scheduler(),
        torch.randn(2, 4, 4, 4),
        photos,
        torch.ones(2, 4),
        whole(2, token=kept, latent=kept),
    )
    assert not seen["context"][0].any()
    assert not seen["joined"][0, 4:].any()
    assert seen["context"][1].any()
    assert seen["joined"][1, 4:].all()


@pytest.mark.parametrize(("drop", "shares"), [("consistent", (0.0, 0.1)), ("original", (0.1, 0.1))])
def test_the_stated_share_of_rows_is_dropped(drop, shares):
    config = replace(TINY, drop=drop, drop_share=0.1 if drop == "consistent" else 0.05)
    draws = Draws.of(config, torch.Size([20_000, 1, 1, 1]), generator(), 1000)
    assert abs(float((draws.embedding == 0).float().mean()) - shares[0]) < 0.01
    assert abs(float((draws.latent == 0).float().mean()) - shares[1]) < 0.01
    last = float((draws.timestep == 999).float().mean())
    assert abs(last - TINY.last) < 0.02


def test_a_min_snr_weight_beside_a_last_step_of_pure_noise_is_refused():
    with pytest.raises(ValueError, match="set last to 0"):
        TrainConfig(steps=1, last=0.1, min_snr=5.0)
