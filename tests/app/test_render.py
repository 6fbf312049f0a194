"""``zero123 render`` and ``zero123 data`` as a user meets them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zero123.app import cli
from zero123.data import procedural_mesh
from zero123.data.mesh_files import write_glb

FAST = ["--renderer", "fast", "--views", "2", "--size", "32", "--workers", "1"]


def called(*words: object) -> None:
    cli.main([str(word) for word in words])


def code_of(*words: object) -> object:
    with pytest.raises(SystemExit) as stop:
        called(*words)
    return stop.value.code


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("data") / "set"
    called("render", "procedural:3", *FAST, "-o", dest)
    return dest


@pytest.mark.parametrize("command", [["render"], ["data"], ["data", "check"], ["data", "show"]])
def test_help_needs_no_torch(command: list[str]) -> None:
    code = (
        "import sys; from zero123.app.cli import main\n"
        f"try: main({[*command, '--help']!r})\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: zero123" in done.stdout


def test_rendering_says_how_it_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.glb").write_bytes(b"no mesh")
    dest = tmp_path / "set"
    called("render", "procedural:2", tmp_path / "bad.glb", *FAST, "--format", "shards", "-o", dest)
    said = capsys.readouterr()
    assert said.out == f"{dest}\n"
    assert "3 objects, 2 views each, drawn by fast" in said.err
    assert "skipped bad: unreadable: bad.glb: not a binary glTF" in said.err
    assert "objects/s" in said.err
    assert "2 done, 1 skipped (1 unreadable)" in said.err
    assert (dest / "shard-00000.tar").is_file()
    assert (dest / "report.csv").read_text().splitlines()[1].startswith("bad,bad.glb,")


def test_a_limit_takes_the_first_ones(tmp_path: Path) -> None:
    called("render", "procedural:9", *FAST, "--limit", 2, "--out", tmp_path / "set")
    folders = sorted(path.name for path in (tmp_path / "set").iterdir() if path.is_dir())
    assert folders == ["procedural_000000", "procedural_000001"]


def test_nothing_rendered_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.glb").write_bytes(b"no mesh")
    assert code_of("render", tmp_path / "bad.glb", *FAST, "-o", tmp_path / "set") == 1
    assert "0 done, 1 skipped" in capsys.readouterr().err


def test_a_whole_data_set_has_no_faults(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called("data", "check", data)
    assert capsys.readouterr().out == "nothing bad found\n"


def test_a_damaged_data_set_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called("render", "procedural:2", *FAST, "-o", tmp_path / "set")
    (tmp_path / "set" / "procedural_000001" / "001.npy").unlink()
    capsys.readouterr()
    assert code_of("data", "check", tmp_path / "set") == 1
    assert "procedural_000001, view 1: its camera is missing" in capsys.readouterr().out


def test_a_data_set_can_be_looked_at(data: Path, tmp_path: Path) -> None:
    called("data", "show", data, "--objects", 2, "--views", 2, "-o", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.ptp(np.asarray(sheet)) > 100


BAD = {
    "no source": (["render", "-o", "OUT"], "no source was given"),
    "no such source": (["render", "none.glb", "-o", "OUT"], "none.glb is not there"),
    "no views": (["render", "procedural:1", "--views", 0, "-o", "OUT"], "views must be 1 to 1000"),
    "no limit": (["render", "procedural:1", "--limit", 0, "-o", "OUT"], "limit must be at least 1"),
    "no workers": (["render", "procedural:1", "--workers", 0, "-o", "OUT"], "workers must be at"),
    "no filter": (["render", "objaverse:colour=red", "-o", "OUT"], "colour=red is no filter"),
    "own folder": (["render", "procedural:1", "-o", "FULL"], "no data set of ours"),
    "no data": (["data", "check", "OUT"], "OUT"),
    "nothing to show": (["data", "show", "OUT", "-o", "a.png"], "OUT"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage_is_one_sentence_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FULL").mkdir()
    Path("FULL", "thesis.txt").touch()
    words, sentence = BAD[case]
    fast = ["--renderer", "fast"] if words[0] == "render" else []
    assert code_of(*words, *fast) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.strip().splitlines()[-1].startswith("zero123: ")
    assert "Traceback" not in said.err
    assert not Path("OUT").exists()


def test_without_blender_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bpy" else find_spec(name, *a)
    )
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert code_of("render", "procedural:1", "-o", tmp_path / "set") == 2
    assert "pip install 'zero123[render]'" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs the extra render")
def test_blender_renders_files_and_made_up_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_glb(procedural_mesh(3), tmp_path / "made.glb")
    called("render", tmp_path / "made.glb", "procedural:1", "--views", 1, "--size", 32,
           "--workers", 1, "-o", tmp_path / "set")  # fmt: skip
    assert "drawn by Blender " in capsys.readouterr().err
    assert "Blender " in (tmp_path / "set" / "report.csv").read_text()
    with Image.open(tmp_path / "set" / "made" / "000.png") as picture:
        alpha = np.asarray(picture)[..., 3]
    assert 0.02 < (alpha > 127).mean() < 0.8
