"""The short runs that differ in one thing: each makes a model that learns, and is asked."""

import importlib
import shutil
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import trimesh

from zero123.geometry import Camera, Orbit, pose_token
from zero123.models import condition
from zero123.training.autoencoder import PatchEncoder, crops, write_encoder
from zero123.training.mini import (
    IMAGE_SIZE,
    LATENT_CHANNELS,
    mini_autoencoder,
    mini_image_encoder,
    mini_projection,
    mini_scheduler,
    mini_unet,
)
from zero123.training.objective import Draws
from zero123.training.sets import ViewSet, make_views
from zero123.training.student import Batch, Student
from zero123.weights import Components, Settings

RECIPES = Path(__file__).parents[2] / "recipes"
CHOICES = (
    "base", "another seed", "height untold", "no sweep", "rays", "token alone", "attention at 16",
    "wider below", "muon",
    "larger", "deeper encoder", "no pure noise", "pure noise first", "any targets", "one target",
    "pictures", "augment", "ready features", "patches", "flow matching", "meshes alone",
    "made-up alone",
    "half the rate", "twice the rate",
)  # fmt: skip


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(RECIPES)
    monkeypatch.setattr(condition, "sweep", condition.sweep)  # a choice puts rays there
    module = importlib.import_module("ablations")
    for where in (module, importlib.import_module("mini_cpu")):
        monkeypatch.setattr(where, "RUN", tmp_path / "run")
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    monkeypatch.setattr(
        module, "efficientnet_lite0", lambda x, _: {"1280": x.mean((2, 3)).repeat(1, 427)[:, :1280]}
    )
    monkeypatch.setattr(module.Backbones, "load", lambda self, wanted: {})
    return module


def fresh_parts() -> Components:
    torch.manual_seed(0)
    return Components(
        unet=mini_unet(),
        vae=mini_autoencoder(),
        image_encoder=mini_image_encoder(),
        projection=mini_projection(),
        scheduler=mini_scheduler(),
        settings=Settings("zero123-polar"),
    )


def test_these_are_all_choices(recipe):
    assert set(recipe.CHOICES) == set(CHOICES)


def test_another_name_is_refused_with_all_that_there_are(recipe):
    with pytest.raises(SystemExit, match="no choice 'bass': one of base, another seed"):
        recipe.run("bass", 2)


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_makes_a_model_that_learns(recipe, name):
    choice = recipe.CHOICES[name]
    config = replace(recipe.BASE, **choice.phases[-1], st_lpips=False)
    student = Student(choice.parts(fresh_parts()), config)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn((2, LATENT_CHANNELS, 16, 16), generator=generator)
    seats = Orbit(1.0, 0.0, 1.8), Orbit(1.2, 0.7, 1.7)
    pose = pose_token(*seats, student.pose_encoding).expand(2, -1)
    draws = Draws.of(recipe.BASE, targets.shape, generator, 1000)
    photo = torch.rand((1, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator)
    shown = torch.full((2, 3, IMAGE_SIZE, IMAGE_SIZE), 200, dtype=torch.uint8)
    loss = student(Batch(targets, shown, pose, targets[:1], photo, None, draws))
    torch.autograd.backward(loss)
    assert student.unet.conv_in.weight.grad.abs().amax((0, 2, 3))[:LATENT_CHANNELS].all()


def test_rays_are_those_of_the_wanted_camera(recipe):
    photo, wanted = Orbit(torch.pi / 2, 0.0, 1.85), Orbit(1.1, 0.8, 1.7)
    lines = recipe.rays(torch.zeros(1, 8, 16, 16), pose_token(photo, wanted)[None])[0]
    origin, rays = Camera(wanted.camera_from_world, 16).rays()
    way = (rays / rays.norm(dim=-1, keepdim=True)).float().movedim(-1, 0)
    torch.testing.assert_close(lines[3:6], way, atol=1e-5, rtol=0)
    moment = torch.linalg.cross(origin.float()[:, None, None].expand_as(way), way, dim=0)
    torch.testing.assert_close(lines[:3], moment, atol=1e-5, rtol=0)
    assert not lines[6:].any()


def test_a_choice_is_trained_asked_and_told(recipe, capsys, monkeypatch):
    run = recipe.RUN
    run.mkdir()
    with ThreadPool(1) as pool:
        make_views(pool, run, "procedural", ["procedural:4", "procedural:9"], 6)
    for name in ("validation", "meshes", "mirrored"):
        for kind in ("images", "orbits", "weights"):
            shutil.copy(run / f"procedural.{kind}.npy", run / f"{name}.{kind}.npy")
    encoder = PatchEncoder.fit(next(crops([ViewSet.open(run, "validation")], 1, 8, 64)), 8)
    for name in ("procedural", "validation", "meshes", "mirrored"):
        importlib.import_module("mini_cpu").write_latents(encoder, name)
    vae = mini_autoencoder()
    write_encoder(vae, encoder)
    vae.save_pretrained(run / "vae-final")

    recipe.run("pure noise first", 2)
    assert len(list((recipe.OUT / "pure-noise-first").glob("phase-*"))) == 2
    recipe.table()
    *_, row = capsys.readouterr().out.strip().splitlines()
    assert row.startswith("| the first half at pure noise alone")
    assert row.count("|") == 8

    monkeypatch.setattr(recipe, "SHARES", {})  # the validation set alone
    recipe.seen("mini")
    *_, row = capsys.readouterr().out.strip().splitlines()
    assert row.startswith("| validation | ")
    assert row.endswith("% |")

    recipe.where("mini", 2)
    _, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert [row.split(" | ")[0] for row in rows[::3]] == [
        "| 0–15°",
        "| 15–45°",
        "| 45–90°",
        "| 90–181°",
    ]
    counts = [int(row.split(" | ")[2]) for row in rows]
    assert sum(counts) == 2 * 32


def test_the_same_views_are_learnt_at_both_sizes(recipe, monkeypatch, tmp_path):
    files = [tmp_path / f"box {number}.glb" for number in range(200)]
    held = next(file for file in files if recipe.is_held(file))
    kept = [file for file in files if not recipe.is_held(file)][:2]
    for number, file in enumerate((held, *kept)):
        trimesh.creation.box(extents=(1, 0.5, 0.3 + 0.2 * number)).export(file)
    seen = {}
    monkeypatch.setattr(recipe, "painters", ThreadPool)
    monkeypatch.setattr(recipe, "BASE", replace(recipe.BASE, photos=1, targets=1))
    monkeypatch.setattr(recipe, "VIEWS", {"meshes": 4, "validation": 4})
    monkeypatch.setattr(recipe, "compare", lambda models, data, _: seen.update(models, data=data))
    recipe.resolution(tmp_path, 2, 1, "no")

    small, large = (ViewSet.open(recipe.RUN, f"meshes-{size}") for size in (128, 256))
    assert (small.orbits == large.orbits).all()
    halved = large.images.reshape(2, 4, 128, 2, 128, 2, 3).mean(axis=(3, 5))
    assert np.abs(halved - small.images).mean() < 1
    assert seen.pop("data").images.shape == (1, 4, 256, 256, 3)
    sizes = {name.split(", ")[0]: parts.unet.config.sample_size for name, parts in seen.items()}
    assert sizes == {"128 px": 16, "256 px": 32}
    assert [name.rsplit(", ", 1)[0] for name in seen] == [
        "128 px, 1 steps",
        "256 px, 1 steps",
        "128 px, 4 steps",
    ]
