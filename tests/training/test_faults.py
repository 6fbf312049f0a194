"""What goes wrong with data and disks, and what the user is told."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from tests.data.tiny import names, views_folder
from tests.training.conftest import TINY, tiny_data, tiny_parts
from tests.training.test_loop import finished, launch

from zero123.data.shards import pack_shards
from zero123.training.checkpoints import (
    PARTS,
    CheckpointError,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from zero123.training.dataset import open_dataset
from zero123.training.loop import Share, train
from zero123.training.student import Student

STATE = dict.fromkeys(PARTS, 1) | {"student": torch.arange(300_000).float()}  # 1.2 MB


def run(folder: Path, config=TINY, data=None, **options):
    student = Student(tiny_parts(), config)
    return train(student, 1.0, [Share(data or tiny_data())], folder, **options)


@pytest.fixture
def small_files():
    """Files of more than 2 MB cannot be written: like a disk that is full, for one test alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_older_one(tmp_path, small_files):
    save_checkpoint(tmp_path, 1, STATE, keep=1)
    large = STATE | {"step": 2, "student": torch.zeros(900_000)}
    with pytest.raises(OSError, match=r"step 2 could not be written .* older ones are still there"):
        save_checkpoint(tmp_path, 2, large, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert torch.equal(load_checkpoint(checkpoints(tmp_path)[-1])["student"], STATE["student"])
    save_checkpoint(tmp_path, 3, STATE, keep=1)  # there is space again
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003.pt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        save_checkpoint(tmp_path, 1, STATE, keep=5)
        save_checkpoint(tmp_path, 2, STATE, keep=5)
        with pytest.raises(OSError, match="step 3 could not be written"):
            save_checkpoint(tmp_path, 3, STATE, keep=5)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["step-00000001.pt", "step-00000002.pt"]
        assert torch.equal(load_checkpoint(checkpoints(tmp_path)[-1])["student"], STATE["student"])
    finally:
        subprocess.run(["umount", tmp_path], check=True)


KILLER = textwrap.dedent(
    """
    import itertools, os, random, signal, sys, time
    from pathlib import Path
    import torch
    from zero123.training.checkpoints import PARTS, checkpoints, load_checkpoint, save_checkpoint

    torch.set_num_threads(1)
    folder, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)

    def state_of(step):
        weights = torch.full((50_000,), float(step))
        return dict.fromkeys(PARTS, 0) | {"step": step, "student": weights}

    save_checkpoint(folder, 0, state_of(0), keep=2)
    last, whiles = 0, 0
    for _ in range(kills):
        told, tell = os.pipe()
        writer = os.fork()
        if not writer:
            for step in itertools.count(last + 1):
                save_checkpoint(folder, step, state_of(step), keep=2)
                os.write(tell, b".")
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        os.close(tell)
        with open(told, "rb") as dots:
            finished = last + len(dots.read())
        whiles += any(folder.glob(".*.partial"))
        state = load_checkpoint(checkpoints(folder)[-1])
        last = state["step"]
        assert last - finished in (0, 1), (last, finished)
        assert (state["student"] == last).all()
    save_checkpoint(folder, last + 1, state_of(last + 1), keep=1)
    print(whiles, *(path.name for path in folder.iterdir()))
    """
)


def test_killed_a_hundred_times_it_loses_one_interval_at_most(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), "100"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whiles, *left = done.stdout.split()
    assert int(whiles) > 10  # so often it was killed within a write
    assert len(left) == 1


@pytest.fixture
def stopped(tmp_path) -> Path:
    run(tmp_path)
    return tmp_path


def test_a_flipped_byte_is_seen(stopped):
    newest = checkpoints(stopped)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-00000004\.pt is damaged .*: remove it"):
        run(stopped, resume=True)
    newest.unlink()
    run(stopped, resume=True)
    assert load_checkpoint(newest)["step"] == 4


def test_a_checkpoint_without_a_part_is_no_checkpoint(stopped):
    newest = checkpoints(stopped)[-1]
    state = load_checkpoint(newest)
    del state["optimiser"]
    torch.save(state, newest)
    with pytest.raises(CheckpointError, match=r"step-00000004\.pt .* lacks optimiser"):
        run(stopped, resume=True)
    torch.save([1, 2], newest)
    with pytest.raises(CheckpointError, match="no checkpoint of a run"):
        run(stopped, resume=True)


def test_a_checkpoint_of_another_model_is_told_so(stopped):
    newest = checkpoints(stopped)[-1]
    state = load_checkpoint(newest)
    state["student"] = {n.replace("projection", "conv"): p for n, p in state["student"].items()}
    torch.save(state, newest)
    with pytest.raises(CheckpointError, match="of another model"):
        run(stopped, resume=True)


def test_a_pickle_that_runs_code_is_refused(stopped):
    canary = stopped / "canary"

    class Malice:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    newest = checkpoints(stopped)[-1]
    torch.save(load_checkpoint(newest) | {"step": Malice()}, newest)
    with pytest.raises(CheckpointError, match=r"step-00000004\.pt"):
        run(stopped, resume=True)
    assert not canary.exists()


def spoiled(**latents: float):
    """Data of which some objects have such latents."""
    data = tiny_data()
    changed = data.latents.astype(np.float32)
    for name, value in latents.items():
        changed[int(name[1:])] *= value
    return replace(data, latents=changed.astype(np.float16))


def test_bad_steps_touch_neither_weights_nor_average(tmp_path):
    student, said = Student(tiny_parts(), replace(TINY, steps=5)), []
    fresh = {name: p.detach().clone() for name, p in student.trained().items()}
    nothing = spoiled(_0=np.nan, _1=np.inf, _2=np.nan, _3=np.nan, _4=np.nan)
    average = train(student, 1.0, [Share(nothing)], tmp_path, say=said.append)
    assert len(said) == 5
    assert all(torch.equal(p, fresh[name]) for name, p in student.trained().items())
    assert all(torch.equal(mean, fresh[name]) for name, mean in average.items())


def test_an_exploding_loss_is_skipped_like_nan(tmp_path):
    said, rows = [], []
    config = replace(TINY, steps=60, photos=1, save_every=60)
    run(tmp_path, config, spoiled(_0=100.0), report=rows.append, say=said.append)
    late = [row for row in rows[25:] if row["loss"] > 100]
    assert len(late) > 3
    assert rows[-1]["skipped"] == len(said) >= len(late)
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert "its loss is nan" not in " ".join(said)
    weights = load_checkpoint(checkpoints(tmp_path)[-1])["student"]
    assert max(float(p.abs().max()) for p in weights.values()) < 10


def test_training_goes_on_without_the_broken_twentieth_of_a_shard(tmp_path):
    """One object of twenty has a flipped bit: named, counted, and trained without."""
    pack_shards(views_folder(tmp_path / "views", 20), names(20), tmp_path / "shards")
    (shard,) = (tmp_path / "shards").glob("*.tar")
    told = json.loads((tmp_path / "shards" / "index.json").read_text())["shards"][0]["objects"]
    broken = next(each for each in told if each["name"] == names(20)[7])
    content, said = bytearray(shard.read_bytes()), []
    content[broken["offset"] + 512 + 100] ^= 4
    shard.write_bytes(content)
    shards, out = str(tmp_path / "shards"), tmp_path / "run"
    features = open_dataset(shards, out, "data", tiny_parts(), 32, True, said.append)
    (sentence,) = said
    assert names(20)[7] in sentence
    assert len(features.views) == 19
    rows = []
    run(out, data=features, report=rows.append)
    assert [row["skipped"] for row in rows] == [0] * TINY.steps


@pytest.mark.slow
def test_a_dead_process_ends_the_job_and_a_restart_goes_on(tmp_path):
    job = launch(tmp_path / "run", 20, processes=2, slow=0.2)
    while not any(path.name > "step-00000004.pt" for path in checkpoints(tmp_path / "run")):
        assert job.poll() is None
        time.sleep(0.1)
    workers = [
        p for p in psutil.Process(job.pid).children() if "script.py" in " ".join(p.cmdline())
    ]
    assert len(workers) == 2
    workers[1].kill()
    assert job.wait(timeout=60) != 0
    resumed = launch(tmp_path / "run", 20, processes=2, resume="resume")
    straight = launch(tmp_path / "straight", 20, processes=2)
    one, two = finished(resumed, tmp_path / "run"), finished(straight, tmp_path / "straight")
    assert all(torch.equal(one[name], two[name]) for name in one)
