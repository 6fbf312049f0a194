"""The recipe for a borrowed GPU machine: its parts that need no GPU."""

import importlib
import json
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
from tests.data.test_compact import wavy
from tests.training.conftest import TINY, tiny_data, tiny_parts

from zero123 import Zero123Pipeline
from zero123.data import procedural_mesh
from zero123.data.compact import compact, expanded
from zero123.training.checkpoints import checkpoints
from zero123.training.config import PRESETS
from zero123.training.diary import Diary
from zero123.training.loop import noted_config, rate_factor
from zero123.training.student import Student

RECIPES = Path(__file__).parents[2] / "recipes"
UNSIZED = replace(PRESETS["mini"], steps=10**9, save_every=40)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(RECIPES)
    module = importlib.import_module("mini_h200")
    for name in ("PACK", "RUN", "SETS", "DENOISER"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    return module


def test_a_sized_run_ends_cooled_down_when_its_time_is_over(recipe):
    config = recipe.sized(UNSIZED, step=40, speed=8.0, seconds=600.0)
    assert config.steps == 40 + 4800
    assert config.save_every == 8 * recipe.SAVE_EVERY
    assert rate_factor(config, config.steps - 1) < 1e-3


def test_a_run_that_cools_down_keeps_its_size_whatever_its_speed(recipe):
    config = recipe.sized(UNSIZED, step=0, speed=10.0, seconds=100.0)
    begins = int((1 - config.cooldown) * config.steps)
    assert recipe.sized(config, begins - 1, 5.0, 100.0).steps == begins - 1 + 500
    assert recipe.sized(config, begins, 5.0, 100.0) == config


def test_three_commands_lose_their_openings_and_closings_only(recipe, monkeypatch):
    monkeypatch.setattr(recipe.Clock, "of_command", 20.0)
    clock = recipe.Clock(total=3 * 510.0, command=510.0)
    clock_of_last = replace(clock, earlier=2 * 505.0)
    lost = 3 * recipe.CLOSING + 2 * (recipe.OPENING + recipe.SAVE_EVERY / 2)
    assert clock.to_train() == pytest.approx(3 * 510 - 20 - lost)
    assert clock_of_last.to_train() == pytest.approx(clock_of_last.left + 10)


def test_the_next_command_knows_what_was_used_up(recipe):
    recipe.Clock(1530.0, 510.0, earlier=100.0, speed=7.5).note()
    again = recipe.Clock.resumed(25.5, 8.5)
    assert (again.total, again.command, again.speed) == (1530.0, 510.0, 7.5)
    assert again.earlier > 100.0


def write_set(folder: Path, name: str) -> None:
    data = tiny_data()
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.images.npy", data.views.images)
    np.save(folder / f"{name}.orbits.npy", data.views.orbits)
    np.save(folder / f"{name}.latents.npy", data.latents)


@pytest.mark.slow  # sizes by the measured speed: not beside other work
def test_a_run_is_sized_takes_up_new_sets_and_ends_as_sized(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "SETTLED", 1)
    parts, clock = tiny_parts(), recipe.Clock(total=3600.0, command=3600.0)
    unsized = replace(TINY, steps=10**9, save_every=3, precision="bf16")
    student, diary = Student(parts, unsized), Diary(recipe.RUN)
    for name in ("meshes-0", "mirrored-0", "procedural-0"):
        write_set(recipe.SETS, name)
    first_sets = recipe.encoded()
    assert recipe.train_on(first_sets, student, parts, clock, diary)
    assert [file.stem for file in checkpoints(recipe.DENOISER)] == [
        "step-00000000",
        "step-00000003",
    ]

    write_set(recipe.SETS, "meshes-1")
    monkeypatch.setattr(recipe.Clock, "to_train", lambda self: 12 / self.speed)
    monkeypatch.setattr(recipe, "SAVE_EVERY", 4 / clock.speed)
    assert recipe.train_on(first_sets, student, parts, clock, diary)  # there are more
    assert noted_config(recipe.DENOISER).steps == 3 + 12
    shares = recipe.shares_of(recipe.encoded())
    assert [share.weight for share in shares] == pytest.approx([0.15, 0.15, 0.2, 0.5])

    monkeypatch.setattr(recipe.Clock, "to_train", lambda self: 2.5 / self.speed)
    assert not recipe.train_on(recipe.encoded(), student, parts, clock, diary)
    assert noted_config(recipe.DENOISER).steps == recipe._step()


def test_every_mesh_is_drawn_once_and_validation_is_apart(recipe):
    files = [Path(f"mesh-{number}.mesh") for number in range(900)]
    sets = dict(recipe.planned(files, procedural=300))
    assert list(sets)[:3] == ["validation", "meshes-0", "procedural-0"]
    meshes = [name for kind in sets for name in sets[kind] if not kind.startswith("procedural")]
    assert sorted(meshes) == sorted(map(str, files))
    assert len(sets["meshes-0"]) == recipe.FIRST
    assert all(zlib.crc32(Path(name).stem.encode()) % 40 == 0 for name in sets["validation"])
    assert sets["procedural-1"] == [f"procedural:{seed}" for seed in range(recipe.FIRST, 300)]


def test_the_pieces_of_a_model_are_joined_by_the_documented_command(recipe, tmp_path):
    model = tmp_path / "model"
    (model / "unet").mkdir(parents=True)
    weights = np.random.default_rng(0).bytes(50_000)
    (model / "unet" / "weights").write_bytes(weights)
    pieces = recipe.in_pieces(model, tmp_path / "results", size=16_384)
    assert [piece.stat().st_size for piece in pieces[:-1]] == [16_384] * 3
    joined = "cat ../results/model.tar.* | tar x"
    assert joined.split("/")[-1] in recipe.__doc__
    (tmp_path / "home").mkdir()
    subprocess.run(joined, shell=True, check=True, cwd=tmp_path / "home")
    assert (tmp_path / "home" / "model" / "unet" / "weights").read_bytes() == weights


def test_a_mesh_of_many_faces_travels_with_few_unless_it_would_show(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "MAX_FACES", 1600)
    assert len(expanded(recipe.in_few_bytes(wavy(40))).faces) < 1700
    monkeypatch.setattr(recipe, "MAX_FACES", 8)
    assert len(expanded(recipe.in_few_bytes(wavy(40))).faces) == 3200


def test_evaluation_meshes_are_refused(recipe, tmp_path):
    (tmp_path / "eval_meshes").mkdir()
    (tmp_path / "eval_meshes" / "shoe.glb").touch()
    with pytest.raises(SystemExit, match="never trained on"):
        recipe.pack(tmp_path, limit=62.0)


@pytest.mark.slow
def test_a_run_killed_twice_is_finished_and_its_model_comes_home(tmp_path):
    names = [f"mesh-{n}" for n in range(99)]
    held = [name for name in names if zlib.crc32(name.encode()) % 40 == 0]
    (tmp_path / "runs" / "h200-pack").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "runs" / "h200-pack" / "meshes.zip", "w") as archive:
        for seed, name in enumerate([*held[:1], *sorted({*names} - {*held})[:3]]):
            archive.writestr(f"made-up/{name}.mesh", compact(procedural_mesh(seed)))
    run = tmp_path / "runs" / "h200"
    recipe = [sys.executable, str(RECIPES / "mini_h200.py"), "train", "--out", "results"]
    recipe += ["--photos", "1", "--procedural", "4", "--asked", "1", "--command", "15"]

    def killed_when(is_time: Callable[[psutil.Process], bool]) -> None:
        with subprocess.Popen([*recipe, "--minutes", "15"], cwd=tmp_path) as begun:
            while not is_time(psutil.Process(begun.pid)):
                assert begun.poll() is None
                time.sleep(0.2)
            others = psutil.Process(begun.pid).children(recursive=True)
            begun.kill()
        _, alive = psutil.wait_procs(others, timeout=60)
        assert not alive

    killed_when(lambda begun: any("draw" in child.cmdline() for child in begun.children()))
    killed_when(lambda begun: len(list((run / "denoiser").glob("step-*"))) > 1)
    used = json.loads((run / "clock.json").read_text())["seconds"] / 60
    subprocess.run([*recipe, "--minutes", f"{used + 3}"], cwd=tmp_path, check=True)

    assert noted_config(run / "denoiser").steps < 10**9
    subprocess.run("cat results/model.tar.* | tar x", shell=True, check=True, cwd=tmp_path)
    pipe = Zero123Pipeline.from_pretrained(tmp_path / "model")
    views = pipe(np.full((128, 128, 3), 200, np.uint8), azimuth=30, num_inference_steps=2)
    assert views.images[0][0][0].size == (128, 128)
