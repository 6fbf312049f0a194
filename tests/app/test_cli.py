"""The command line as a user meets it: in its own process, on real files."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap  # COLMAP's own reader
import pytest
from PIL import Image

from zero123.app import cli

COFFEE = Path(__file__).parents[2] / "examples" / "coffee.png"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zero123", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "100", "OMP_NUM_THREADS": "1"},
    )


def picture(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        opened.load()
        return opened


def called(*words: object) -> None:
    """The same within this process, where torch is loaded already."""
    cli.main([str(word) for word in words])


@pytest.mark.parametrize("command", [[], ["view"], ["orbit"], ["convert"], ["models"], ["doctor"]])
def test_help_needs_no_torch(command):
    code = (
        "import sys; from zero123.app.cli import main\n"
        f"try: main({[*command, '--help']!r})\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: zero123" in done.stdout


def test_a_view_from_photo_to_file(tmp_path):
    out = tmp_path / "cup.png"
    done = run("view", COFFEE, "--azimuth", "-90", "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    assert picture(out).size == (128, 128)


def test_several_views_come_as_a_folder_with_sheet_and_cameras(tmp_path, capsys):
    out = tmp_path / "views"
    called("view", COFFEE, "--azimuth", 0, 120, -120, "--elevation", 10, "--samples", 2,
           "--steps", 2, "-o", out)  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    told = json.loads((out / "transforms.json").read_text())
    assert len(told["frames"]) == 6
    assert all(picture(out / frame["file_path"]).size == (128, 128) for frame in told["frames"])
    centre = np.array(told["frames"][2]["transform_matrix"])[:3, 3]
    assert np.degrees(np.arctan2(centre[1], centre[0])) == pytest.approx(120)
    assert np.degrees(np.arcsin(centre[2] / np.linalg.norm(centre))) == pytest.approx(10)
    assert picture(out / "sheet.png").width > 3 * 128


def test_two_photos_of_one_name_do_not_overwrite_each_other(tmp_path):
    other = tmp_path / "other" / "coffee.png"
    other.parent.mkdir()
    picture(COFFEE).transpose(Image.Transpose.ROTATE_90).save(other)
    called("view", COFFEE, other, "--azimuth", 30, "--steps", 1, "-o", tmp_path / "views")
    assert len(list((tmp_path / "views").glob("*/view_000.png"))) == 2


def test_a_folder_of_photos_and_a_file_of_poses(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "views"
    photos.mkdir()
    for name in ("cup.png", "saucer.v2.png"):
        (photos / name).write_bytes(COFFEE.read_bytes())
    (photos / "notes.txt").write_text("no picture")
    poses = tmp_path / "poses.csv"
    poses.write_text("azimuth,elevation,image\n60,20,\n-90,0,cup.png\n")
    called("view", photos, "--poses", poses, "--steps", 1, "-o", out)
    made = sorted(str(file.relative_to(out)) for file in out.rglob("view_*"))
    assert made == ["cup/view_000.png", "cup/view_001.png", "saucer.v2/view_000.png"]
    alone = tmp_path / "alone.png"
    called("view", COFFEE, "--azimuth", -90, "--steps", 1, "-o", alone)
    batch, single = (np.array(picture(f)).astype(int) for f in (out / "cup/view_001.png", alone))
    assert np.abs(batch - single).max() <= 1  # a view does not depend on what else is made


def test_views_come_with_cameras_that_colmap_reads(tmp_path):
    out = tmp_path / "views"
    called("view", COFFEE, "--azimuth", 0, 90, "--elevation", 20, "--cameras", "colmap",
           "--steps", 1, "-o", out)  # fmt: skip
    model = pycolmap.Reconstruction(str(out / "sparse" / "0"))
    for image in model.images.values():
        size = picture(out / "images" / image.name).size
        assert size == (image.camera.width, image.camera.height)
    centres = [model.images[number].projection_center() for number in (1, 2)]
    assert np.degrees(np.arctan2(centres[1][1], centres[1][0])) == pytest.approx(90)
    assert np.degrees(np.arcsin(centres[0][2] / 1.85)) == pytest.approx(20)
    assert (out / "sheet.png").exists()
    assert (out / "cameras.png").exists()


def test_the_same_seed_gives_the_same_picture(tmp_path):
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        called("view", COFFEE, "--seed", seed, "--steps", 2, "-o", tmp_path / f"{name}.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_a_warning_is_a_sentence(tmp_path):
    cut = tmp_path / "cut.png"
    picture(COFFEE).crop((100, 0, 418, 360)).save(cut)
    done = run("view", cut, "--steps", 1, "-o", tmp_path / "cup.png")
    assert done.returncode == 0, done.stderr
    assert "zero123: the object touches the left edge" in done.stderr
    assert "Warning" not in done.stderr


def test_transparent_views_have_no_ground(tmp_path):
    out = tmp_path / "cup.png"
    called("view", COFFEE, "--transparent", "-o", out)
    cup = np.array(picture(out))
    assert cup.shape[2] == 4
    assert (cup[..., 3] == 0).mean() > 0.2
    assert cup[64, 64, 3] == 255


@pytest.mark.parametrize("name", ["cup.webp", "cup.gif", "cup.mp4", "cup"])
def test_an_orbit_in_every_form(tmp_path, name):
    out = tmp_path / name
    called("orbit", COFFEE, "--frames", 4, "--steps", 1, "-o", out)
    if out.is_dir():
        assert len(list(out.glob("*.png"))) == 4
    elif out.suffix != ".mp4":
        with Image.open(out) as film:
            assert film.n_frames == 4
    else:
        assert b"ftyp" in out.read_bytes()[:12]


def test_convert_there_and_back(tmp_path, golden):
    called("convert", golden / "model.ckpt", tmp_path / "folder")
    called("convert", tmp_path / "folder", tmp_path / "again.safetensors", "--to", "original")
    called("convert", tmp_path / "again.safetensors", tmp_path / "folder2")
    for part in ("unet", "vae"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        assert (tmp_path / "folder" / file).read_bytes() == (
            tmp_path / "folder2" / file
        ).read_bytes()


def test_models_names_licences_and_places(capsys):
    called("models")
    said = capsys.readouterr().out
    assert "mini" in said
    assert "kxic/zero123-xl" in said
    assert "MIT" in said


def test_doctor_does_the_main_job(capsys):
    called("doctor")
    said = capsys.readouterr().out
    assert "ok      main job" in said
    assert "BROKEN" not in said
    extras = importlib.metadata.metadata("zero123").get_all("Provides-Extra")
    for extra in set(extras) - {"all", "dev"}:
        assert re.search(rf"^(ok     |missing) {extra} ", said, re.MULTILINE), extra


def bad_inputs(folder: Path) -> dict[str, tuple[list[object], str]]:
    cut = folder / "cut.png"
    cut.write_bytes(COFFEE.read_bytes()[:2000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    (folder / "file").write_text("no folder")
    (folder / "poses.csv").write_text("azimuth\n60\n1.5707963\n")
    (folder / "bare").mkdir()
    (folder / "half.ckpt").write_bytes(b"PK\x03\x04" + bytes(1000))
    out = ["-o", folder / "out.png"]
    return {
        "missing photo": (["view", folder / "none.png", *out], "none.png"),
        "empty photo": (["view", folder / "empty.png", *out], "is empty"),
        "cut photo": (["view", cut, *out], "cut.png"),
        "text": (["view", folder / "text.png", *out], "text.png"),
        "unknown model": (["view", COFFEE, "--model", "maxi", *out], "mini"),
        "broken checkpoint": (["view", COFFEE, "--model", folder / "half.ckpt", *out], "half.ckpt"),
        "radians": (["view", COFFEE, "--azimuth", "1.5707963", *out], "write 90"),
        "too high": (["view", COFFEE, "--elevation", "100", *out], r"[-90, 90] degrees"),
        "not a number": (["view", COFFEE, "--azimuth", "nan", *out], "must be finite"),
        "many into one": (["view", COFFEE, "--azimuth", 1, 2, *out], "2 views need a folder"),
        "odd type": (["view", COFFEE, "-o", folder / "out.xyz"], "out.xyz"),
        "odd film": (["orbit", COFFEE, "-o", folder / "out.avi"], ".avi"),
        "one frame": (
            ["orbit", COFFEE, "--frames", 1, "-o", folder / "a.gif"],
            "at least 2 frames",
        ),
        "many frames": (
            ["orbit", COFFEE, "--frames", 10**9, "-o", folder / "a.gif"],
            "at most 1000",
        ),
        "no time": (["orbit", COFFEE, "--fps", 0, "-o", folder / "a.gif"], "fps must be in"),
        "film into a file": (["orbit", COFFEE, "-o", folder / "file"], "is a file, not a folder"),
        "views into a file": (["view", COFFEE, "-o", folder / "file"], "is a file, not a folder"),
        "clear JPEG": (
            ["view", COFFEE, "--transparent", "-o", folder / "a.jpg"],
            "no transparency",
        ),
        "through it": (["view", COFFEE, "--distance", "-2", *out], "distance must be above -1.85"),
        "upside down": (["view", COFFEE, "--image-elevation", "200", *out], "image_elevation must"),
        "counts": (
            ["view", COFFEE, "--azimuth", 1, 2, "--elevation", 1, 2, 3, "-o", folder / "v"],
            "azimuth has 2 values where others have 3",
        ),
        "radians in a row": (
            ["view", COFFEE, "--poses", folder / "poses.csv", "-o", folder / "v"],
            "poses.csv, row 2: azimuth is in degrees",
        ),
        "poses twice": (
            ["view", COFFEE, "--poses", folder / "poses.csv", "--azimuth", 60, *out],
            "--poses says where to go",
        ),
        "no samples": (["view", COFFEE, "--samples", 0, *out], "--samples must be at least 1"),
        "no poses": (["view", COFFEE, "--poses", folder / "none.csv", *out], "none.csv"),
        "bare folder": (["view", folder / "bare", *out], "holds no picture file"),
        "seed": (["view", COFFEE, "--seed", 10**23, *out], "--seed must be in"),
        "overwritten": (["convert", "mini", folder / "half.ckpt", "--to", "original"], "already"),
        "no photo": (["view", *out], "no photo was given"),
        "no device": (["view", COFFEE, "--device", "warp", *out], "warp"),
        "no numbers": (["view", COFFEE, "--device", "meta", *out], "meta cannot be used here"),
    }


def test_bad_input_is_one_sentence_and_exit_2(tmp_path, capsys):
    before = None
    for case, (words, sentence) in bad_inputs(tmp_path).items():
        before = before or sorted(tmp_path.iterdir())
        with pytest.raises(SystemExit) as stop:
            called(*words)
        said = capsys.readouterr()
        assert stop.value.code == 2, case
        assert sentence in said.err, (case, said.err)
        assert len(said.err.strip().splitlines()) == 1, (case, said.err)
        assert not said.out, case
        assert sorted(tmp_path.iterdir()) == before, case


def test_a_word_that_is_no_option_is_exit_2():
    done = run("view", COFFEE, "--colour", "red", "-o", "x.png")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
