import importlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from brief import COFFEE, LATENT, SJC, VIEWS, coffee, pipeline
from PIL import Image
from scenes import SEED, mesh_views

import zero123.reconstruct
from zero123.app import cli
from zero123.images import FramedPhoto, ImageError
from zero123.models import PoseProjection
from zero123.reconstruct import ReconstructionError, reconstruct, write_object
from zero123.reconstruct.views import Move, ring, synthesise
from zero123.training.checkpoints import checkpoints


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def equal(one, other):
    states = [each.field.state_dict() for each in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("settings", [VIEWS, SJC, LATENT], ids=["views", "sjc", "sjc paper"])
def test_from_photo_to_object(pipe, settings):
    told = []
    made = reconstruct(coffee(), pipe, settings, report=told.append)
    assert len(made.mesh.faces) > 50
    assert made.mesh.texture.shape == (128, 128, 3)
    assert made.see(made.seat, 32).shape[0] == 3
    assert made.elevation.degrees == 20
    stages = list(dict.fromkeys(each.stage for each in told))
    assert stages == (["views"] if settings is VIEWS else []) + ["field", "mesh"]
    assert all(0 <= each.fraction <= 1 for each in told)
    assert told[-1].fraction == 1
    previews = [each.preview for each in told if each.preview is not None]
    assert previews
    assert all(float(each.min()) >= 0 and float(each.max()) <= 1 for each in previews)
    if settings is not VIEWS:
        assert len(made.views) == 4


def test_the_elevation_is_asked_for_and_told(pipe):
    told = []
    made = reconstruct(coffee(), pipe, replace(VIEWS, elevation=None), report=told.append)
    assert told[0].stage == "elevation"
    assert -20 <= made.elevation.degrees <= 60
    assert 0 <= made.elevation.confidence <= 1
    sentences = [each.said for each in told if each.said]
    assert bool(sentences) == (made.elevation.confidence < 0.7)


def test_an_exception_of_the_report_ends_the_work(pipe):
    class EnoughError(Exception):
        pass

    told = []

    def report(progress):
        told.append(progress)
        if progress.stage == "field":
            raise EnoughError

    with pytest.raises(EnoughError):
        reconstruct(coffee(), pipe, VIEWS, report=report)
    assert told[-1].stage == "field"


def test_a_stopped_run_goes_on_to_the_same_object(pipe, tmp_path):
    def stop(progress):
        if progress.stage == "field" and progress.fraction >= 0.5:
            raise KeyboardInterrupt

    straight = reconstruct(coffee(), pipe, VIEWS)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(coffee(), pipe, VIEWS, tmp_path, report=stop)
    assert checkpoints(tmp_path / "checkpoints")
    told = []
    resumed = reconstruct(coffee(), pipe, VIEWS, tmp_path, resume=True, report=told.append)
    assert told[0].stage == "field"  # the views were kept
    assert equal(straight, resumed)
    assert np.array_equal(straight.mesh.texture, resumed.mesh.texture)
    with pytest.raises(ValueError, match="--resume goes on"):
        reconstruct(coffee(), pipe, VIEWS, tmp_path)
    with pytest.raises(ValueError, match="another photo, model or settings"):
        reconstruct(coffee(), pipe, replace(VIEWS, seed=1), tmp_path, resume=True)
    with pytest.raises(ValueError, match="nothing to go on with"):
        reconstruct(coffee(), pipe, VIEWS, tmp_path / "none", resume=True)


def test_a_photo_without_an_object_is_told(pipe):
    nothing = FramedPhoto(torch.ones(3, 128, 128), torch.zeros(1, 128, 128))
    with pytest.raises(ImageError, match="there is no object"):
        reconstruct(nothing, pipe, VIEWS)


def test_stable_zero123_must_be_told_the_elevation(tmp_path):
    stable = pipeline()
    numbers = stable.cc_projection.config
    stable.cc_projection = PoseProjection(numbers.embed_dim, numbers.context_dim, sweeps=True)
    stable.settings = replace(stable.settings, pose_encoding="stable-zero123")
    with pytest.raises(ValueError, match="give --elevation in degrees"):
        reconstruct(coffee(), stable, replace(VIEWS, elevation=None), tmp_path)
    assert not list(tmp_path.iterdir())  # with it the same folder will do
    made = reconstruct(coffee(), stable, VIEWS, tmp_path)
    assert made.elevation.degrees == 20


def test_the_papers_photo_is_taken_from_its_own_distance():
    assert LATENT.photo_radius == 2.0
    assert VIEWS.photo_radius == SJC.photo_radius == 1.85


def test_white_views_have_no_body(pipe, monkeypatch):
    monkeypatch.setattr(
        "zero123.reconstruct.run.synthesise",
        lambda pipe, photo, moves, *rest: torch.ones(len(moves), 3, 128, 128),
    )
    with pytest.raises(ReconstructionError, match="no body in common"):
        reconstruct(coffee(), pipe, VIEWS)


def test_views_share_their_noise_and_chained_ones_see_the_nearest(pipe, monkeypatch):
    photo, moves = coffee(), (Move(-60.0, 0.0), Move(30.0, 0.0), Move(60.0, 0.0))
    views = synthesise(pipe, photo, moves, 3, None)
    alone = synthesise(pipe, photo, moves[1:2], 3, None)
    assert torch.allclose(views[1:2], alone, atol=1e-4)
    asked = []
    call = type(pipe).__call__

    def seen(self, image, **options):
        asked.append((image, options["azimuth"]))
        return call(self, image, **options)

    monkeypatch.setattr(type(pipe), "__call__", seen)
    chained = synthesise(pipe, photo, moves, 3, None, chained=True)
    assert [turns for _, turns in asked] == [[30.0], [-60.0], [30.0]]
    assert torch.equal(asked[2][0], chained[1])
    assert asked[1][0] is photo.image


def test_a_ring_is_even():
    assert [move.azimuth for move in ring(4, 10.0, 45.0)] == [45, 135, -135, -45]
    assert {move.elevation for move in ring(4, 10.0)} == {10}


def test_the_command_writes_the_object_and_all_beside_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(zero123.reconstruct, "preset", lambda method, name: VIEWS)
    out = tmp_path / "cup.glb"
    cli.main(["reconstruct", str(COFFEE), "--elevation", "20", "-o", str(out)])
    said = capsys.readouterr().out
    assert "elevation 20°" in said
    assert "mask IoU" in said
    assert out.exists()
    beside = tmp_path / "cup_files"
    assert {path.name for path in beside.iterdir()} == {
        "config.json", "losses.json", "losses.png", "orbit.mp4", "preview.png", "views",
    }  # fmt: skip
    cameras = json.loads((beside / "views" / "transforms.json").read_text())
    assert len(cameras["frames"]) == 8
    first = np.array(cameras["frames"][0]["transform_matrix"])[:3, 3]
    assert first == pytest.approx(
        [0, -1.85 * np.cos(np.radians(20)), 1.85 * np.sin(np.radians(20))], abs=1e-6
    )
    for file in ("losses.png", "preview.png", "views/sheet.png", "views/view_007.png"):
        with Image.open(beside / file) as picture:
            assert min(picture.size) >= 100


def test_help_needs_no_torch():
    code = (
        "import sys; from zero123.app.cli import main\n"
        "try: main(['reconstruct', '--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-o", "cup.stl"], ".glb, .obj, .ply"),
        (["-o", "cup.glb", "--elevation", "95"], "[-89, 89] degrees"),
        (["-o", "cup.glb", "--elevation", "nan"], "[-89, 89] degrees"),
        (["-o", "cup.glb", "--preset", "paper"], "--method sjc"),
        (["-o", "cup.glb", "--resume"], "nothing to go on with"),
        (["-o", "cup.glb", "--seed", "-1"], "--seed"),
    ],
)
def test_a_wrong_call_is_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["reconstruct", str(COFFEE), *words])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert sentence in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.glb"))


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="Blender is not here")
@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_blender_opens_the_object_and_sees_the_photo(made, tmp_path, monkeypatch, suffix):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    blender = importlib.import_module("reconstruction")
    views = mesh_views(SEED)
    out, picture = tmp_path / f"made{suffix}", tmp_path / "seen.png"
    write_object(made.mesh, out)
    seen = blender.seen_by_blender(out, made.seat, 64, picture)
    photo = (views.pictures[0].permute(1, 2, 0) * 255).round().byte().numpy()
    likeness, overlap = blender.likeness(seen, photo, views.alphas[0].numpy())
    assert overlap > 0.9
    # .obj knows no "shown as it is": Blender lights it
    assert suffix == ".obj" or likeness > 22
