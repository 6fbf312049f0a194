"""Answers that are decoded and compared as pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from tests.training.conftest import TINY, tiny_data, tiny_parts

from zero123.evaluation.backbones import BackboneMissing, Backbones
from zero123.training.checkpoints import checkpoints, load_checkpoint
from zero123.training.loop import Share, batch_of, take_average, train
from zero123.training.mini import mini_scheduler
from zero123.training.pictures import PictureLoss
from zero123.training.student import Student

CONFIG = replace(TINY, pictures=1, st_lpips=True)
LAYERS = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")


@pytest.fixture(autouse=True)
def narrow_stlpips(monkeypatch):
    """ST-LPIPS with eight channels a layer and a small first window, drawn."""
    generator, weights = torch.Generator().manual_seed(0), {}
    for number, (name, size) in enumerate(zip(LAYERS, (3, 5, 3, 3, 3), strict=True)):
        shape = (8, 3 if number == 0 else 8, size, size)
        weights[f"net.{name}.weight"] = 0.1 * torch.randn(shape, generator=generator)
        weights[f"net.{name}.bias"] = torch.full((8,), 0.05)
        weights[f"lin{number}.model.1.weight"] = torch.full((1, 8, 1, 1), 1 / 8)
    monkeypatch.setattr(Backbones, "load", lambda self, wanted: weights)


def test_what_the_decoder_makes_itself_has_no_loss():
    vae = tiny_parts().vae
    loss = PictureLoss(vae)
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own = (vae.decode(latents / vae.config.scaling_factor).sample + 1) / 2
        assert float(loss(latents, own)) == pytest.approx(0, abs=1e-5)
        assert float(loss(latents, own + 0.1)) > 0.4  # four times the absolute error alone


def test_each_of_the_three_figures_counts(monkeypatch):
    vae = tiny_parts().vae
    latents, truth = torch.randn(2, 4, 4, 4), torch.rand(2, 3, 32, 32)
    whole = float(PictureLoss(vae)(latents, truth).detach())
    for name in ("ABSOLUTE", "STRUCTURE", "PERCEIVED"):
        with monkeypatch.context() as without:
            without.setattr(f"zero123.training.pictures.{name}", 0.0)
            assert float(PictureLoss(vae)(latents, truth).detach()) < whole - 1e-3, name


def test_denoiser_and_decoder_learn_together_and_the_average_holds_both(tmp_path):
    parts = tiny_parts()
    before = {name: p.clone() for name, p in parts.vae.named_parameters()}
    losses: list[float] = []
    student = Student(parts, replace(CONFIG, steps=30))
    train(
        student,
        1.0,
        [Share(tiny_data())],
        tmp_path / "run",
        report=lambda row: losses.append(row["loss"]),
    )
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    moved = {n for n, p in parts.vae.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if n.startswith("decoder.")}

    checkpoint, fresh = load_checkpoint(checkpoints(tmp_path / "run")[-1]), tiny_parts()
    take_average(Student(fresh, student.config), checkpoint)
    for name, p in fresh.vae.decoder.named_parameters():
        assert torch.equal(p, checkpoint["average"][f"picture_loss.decoder.{name}"]), name


def test_of_each_photo_the_target_of_most_noise_that_was_told_something_is_judged(monkeypatch):
    student = Student(tiny_parts(), CONFIG)
    batch = batch_of([Share(tiny_data())], student, 1.0, (0, 0, 0), range(4))
    told = torch.tensor([1.0, 0, 1, 1, 1, 0, 1, 1])  # two targets a photo
    draws = replace(
        batch.draws,
        timestep=torch.tensor([5, 999, 700, 20, 999, 999, 800, 3]),
        latent=told,
        token=told,
    )
    judged = []
    monkeypatch.setattr(
        student.picture_loss,
        "forward",
        lambda latents, truth: judged.append(truth) or latents.sum() * 0,
    )
    student(replace(batch, draws=draws))
    assert torch.equal(judged[0], batch.pictures[[0, 2, 4, 6]].float() / 255)


def test_latents_of_the_answer_are_the_clean_ones(monkeypatch):
    """If the network answers perfectly, its latents are the target's, at pure noise too."""
    student = Student(tiny_parts(), CONFIG)
    batch = batch_of([Share(tiny_data())], student, 1.0, (0, 0, 0), range(4))
    velocity = student.scheduler.get_velocity(
        batch.targets, batch.draws.noise, batch.draws.timestep
    )
    monkeypatch.setattr(student.unet, "forward", lambda *_, **__: (velocity,))
    judged = []
    monkeypatch.setattr(
        student.picture_loss,
        "forward",
        lambda latents, truth: judged.append(latents) or latents.sum() * 0,
    )
    student(batch)
    rows = (batch.draws.timestep * batch.draws.latent).view(4, 2).argmax(1) + torch.arange(0, 8, 2)
    assert torch.allclose(judged[0], batch.targets[rows], atol=1e-5)


def test_without_it_no_picture_is_read():
    student = Student(tiny_parts(), replace(TINY, pictures=0))
    assert student.picture_loss is None
    assert batch_of([Share(tiny_data())], student, 1.0, (0, 0, 0), range(2)).pictures is None
    assert not any("vae" in name or "decoder" in name for name in student.trained())


def test_narrow_arithmetic_leaves_the_comparison_wide():
    vae = tiny_parts().vae
    loss, latents = PictureLoss(vae), torch.randn(2, 4, 4, 4)
    truth = torch.full((2, 3, 32, 32), 0.98) + 0.01 * torch.rand(2, 3, 32, 32)
    vae.decoder.requires_grad_(False)
    wide = float(loss(latents, truth))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(loss(latents, truth)) == pytest.approx(wide, rel=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("untyped")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_what_is_compiled_compares_alike():
    latents, truth = torch.randn(2, 4, 4, 4), torch.rand(2, 3, 32, 32)
    found = []
    for compiled in (False, True):
        vae, given = tiny_parts().vae, latents.clone().requires_grad_()
        loss = PictureLoss(vae, compiled=compiled)(given, truth)
        torch.autograd.backward(loss)
        found.append((loss.detach(), given.grad, *(p.grad for p in vae.decoder.parameters())))
    for plain, made in zip(*found, strict=True):
        torch.testing.assert_close(made, plain, atol=1e-5, rtol=1e-3)


def test_what_cannot_be_done_is_said(monkeypatch):
    with pytest.raises(ValueError, match="pictures must not be negative"):
        replace(TINY, pictures=-1)
    with pytest.raises(ValueError, match="tiny autoencoder, not AutoencoderKL"):
        PictureLoss(AutoencoderKL())
    noise = DDIMScheduler.from_config(mini_scheduler().config, prediction_type="epsilon")
    with pytest.raises(ValueError, match="predicts velocity: set pictures to 0"):
        Student(replace(tiny_parts(), scheduler=noise), CONFIG)

    def missing(self: Backbones, wanted: object) -> None:
        raise BackboneMissing("no network")

    monkeypatch.setattr(Backbones, "load", missing)
    with pytest.raises(ValueError, match="no network; or leave ST-LPIPS out: --no-st-lpips"):
        Student(tiny_parts(), CONFIG)


def test_more_targets_than_there_are_are_all_of_them(monkeypatch):
    student = Student(tiny_parts(), replace(TINY, pictures=99))
    judged = []
    monkeypatch.setattr(
        student.picture_loss,
        "forward",
        lambda latents, truth: judged.append(truth) or latents.sum() * 0,
    )
    student(batch_of([Share(tiny_data())], student, 1.0, (0, 0, 0), range(2)))
    assert len(judged[0]) == 4


def test_without_st_lpips_no_weights_of_others_are_asked_for(monkeypatch):
    monkeypatch.setattr(Backbones, "load", lambda self, wanted: pytest.fail("asked"))
    student = Student(tiny_parts(), replace(CONFIG, st_lpips=False))
    batch = batch_of([Share(tiny_data())], student, 1.0, (0, 0, 0), range(2))
    torch.autograd.backward(student(batch))
    assert all(p.grad is not None for p in student.picture_loss.decoder.parameters())


def test_adapters_leave_the_decoder_as_it_is():
    student = Student(tiny_parts(), replace(CONFIG, lora_rank=2))
    assert not any(name.startswith("picture_loss") for name in student.trained())
