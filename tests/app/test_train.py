"""The story of a run: prepared, trained, killed, gone on with, looked at, used."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.training.conftest import tiny_parts

from zero123 import Zero123Pipeline
from zero123.app.cli import main
from zero123.app.train import _ABOUT
from zero123.training.checkpoints import checkpoints
from zero123.training.config import PRESETS
from zero123.weights import save_model


@pytest.fixture(scope="module")
def init(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init") / "tiny"
    save_model(tiny_parts(), folder)
    return folder


def command(init, out, *more: str) -> list[str]:
    options = ["--data", "procedural:3", "--init", str(init), "--out", str(out), "--watched", "2"]
    return ["train", "debug", *options, *more]


def test_a_run_leaves_a_model_a_log_and_pictures(init, tmp_path, capsys):
    out = tmp_path / "run"
    main(command(init, out, "--steps", "10"))
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(out / "model")
    assert "step 0: PSNR" in told.err
    assert "step 10: PSNR" in told.err
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "obedience" in row] == [0, 10]
    assert all(row["loss"] > 0 for row in rows if "loss" in row)
    assert (out / "watched-000010.png").stat().st_size > 1000
    assert (out / "losses.png").stat().st_size > 1000
    assert list((out / "tensorboard").rglob("events.out.*"))
    pipe = Zero123Pipeline.from_pretrained(out / "model")
    assert pipe.image_size == 32


def test_an_adapter_is_trained_and_used(init, tmp_path, capsys):
    more = "--steps", "2", "--lora-rank", "2", "--no-trains-image-encoder"
    main(command(init, tmp_path / "run", *more))
    adapter = tmp_path / "run" / "adapter.safetensors"
    assert capsys.readouterr().out.splitlines()[-1] == str(adapter)
    Zero123Pipeline.from_pretrained(init, lora=adapter)


def test_micro_batches_are_found_and_kept_when_going_on(init, tmp_path, capsys):
    out = tmp_path / "run"
    main(command(init, out, "--steps", "2", "--fit-memory"))
    assert "--micro-batches 1" in capsys.readouterr().err
    noted = json.loads((out / "config.json").read_text())
    assert noted["micro_batches"] == 1
    main(command(init, out, "--steps", "2", "--fit-memory", "--resume"))


def test_killed_and_resumed_is_the_same_model(init, tmp_path):
    steps = "--steps", "12", "--save-every", "2"
    main(command(init, tmp_path / "straight", *steps))
    run = [sys.executable, "-m", "zero123", *command(init, tmp_path / "killed", *steps)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here: sums depend on it
    process = subprocess.Popen(
        run, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=one_thread
    )
    while len(checkpoints(tmp_path / "killed")) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    main(command(init, tmp_path / "killed", *steps, "--resume"))
    straight, killed = (
        json.loads((tmp_path / run / "model" / "manifest.json").read_text())
        for run in ("straight", "killed")
    )
    assert straight == killed


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--weight", "1", "2"], "--weight must be one positive number"),
        (["--weight", "0"], "--weight must be one positive number"),
        (["--data", "nothing/there"], "nothing/there is no data set"),
        (["--init", "nothing-there"], "nothing-there"),
        (["--photos", "0"], "photos must be at least 1"),
        (["--micro-batches", "5"], "photos must be a multiple"),
        (["--resume"], "no checkpoint to resume from"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(init, tmp_path, capsys, more, sentence):
    with pytest.raises(SystemExit) as stopped:
        main(command(init, tmp_path / "run", *more))
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_every_preset_says_what_it_is_for():
    assert _ABOUT.keys() == PRESETS.keys()
