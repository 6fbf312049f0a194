import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from scenes import ball

from zero123.reconstruct.descent import Bench, Descent, descend, newest_state
from zero123.reconstruct.errors import ReconstructionError
from zero123.training.checkpoints import checkpoints

PLAN = Descent(steps=12, seed=1, save_every=4, prune_every=5, preview_every=6, cooldown=0.5)


def toward_half(field, bad=(), calls=None):
    """Densities that should all be a half, with noise of the generator; NaN at some calls."""
    calls = [] if calls is None else calls

    def losses(step, generator):
        calls.append(step)
        noise = torch.rand(field.raw_density.shape, generator=generator)
        loss = (field.raw_density - 0.5 * noise).square().mean()
        return {"half": loss * (float("nan") if len(calls) - 1 in bad else 1.0)}

    return losses


def bench(folder=None):
    field = ball(12, density=20.0)
    return Bench(field, torch.optim.Adam(field.parameters(), lr=0.05), folder)


def run(made, plan=PLAN, **options):
    told = []
    descend(
        made, plan, toward_half(made.field, **options), told.append, lambda: torch.zeros(3, 2, 2)
    )
    return told


def same(one, other):
    states = [each.field.state_dict() for each in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_losses_fall_and_all_is_told():
    made = bench()
    told = run(made)
    losses = made.history["half"]
    assert len(losses) == len(told) == 12
    assert losses[-1] < losses[0]
    assert told[-1].fraction == 1
    assert [each.preview is not None for each in told].count(True) == 2


def test_stopped_and_resumed_is_the_same_to_the_byte(tmp_path):
    straight, stopped = bench(), bench(tmp_path)
    run(straight)

    def stop(progress):
        if progress.fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        descend(stopped, PLAN, toward_half(stopped.field), stop, lambda: torch.zeros(3, 2, 2))
    resumed = bench(tmp_path)
    state = newest_state(tmp_path)
    assert state["step"] == 4
    resumed.take(state)
    run(resumed)
    assert same(straight, resumed)
    assert straight.history == resumed.history


def test_killed_and_resumed_is_the_same_to_the_byte(tmp_path):
    code = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path; import test_descent as t\n"
        f"made = t.bench(Path({str(tmp_path)!r}))\n"
        "t.descend(made, t.PLAN, t.toward_half(made.field), lambda told: time.sleep(0.3), "
        "lambda: None)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not any("step-00000004" in path.name for path in checkpoints(tmp_path)):
        assert killed.poll() is None
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    straight, resumed = bench(), bench(tmp_path)
    run(straight)
    resumed.take(newest_state(tmp_path))
    assert resumed.step >= 4
    run(resumed)
    assert same(straight, resumed)


def test_a_step_that_is_not_finite_is_undone_and_said():
    made, calls = bench(), []
    told = run(made, bad=(6,), calls=calls)
    assert [each.said for each in told if each.said] == [
        "step 6 of the field was not finite: back to step 4"
    ]
    assert calls == [*range(7), *range(4, 12)]
    assert made.step == 12
    assert len(made.history["half"]) == 12
    assert bool(torch.isfinite(made.field.raw_density).all())


def test_the_third_such_step_stops_the_work():
    with pytest.raises(ReconstructionError, match="for the 3rd time"):
        run(bench(), bad=(2, 3, 9))


def test_a_gradient_that_is_not_finite_counts_too():
    made = bench()

    def losses(step, generator):
        zero = (made.field.raw_density - made.field.raw_density.detach()).sum()
        return {"root": torch.sqrt(zero)}  # 0, with an infinite slope

    with pytest.raises(ReconstructionError, match="step 0"):
        descend(made, PLAN, losses, lambda told: None, lambda: torch.zeros(3, 2, 2))


def test_an_object_that_vanishes_is_told():
    made = bench()

    def losses(step, generator):
        return {"less": 100 * made.field.raw_density.mean() * 1e4}

    plan = Descent(steps=200, seed=0, prune_every=20)
    made.optimiser = torch.optim.Adam(made.field.parameters(), lr=1.0)
    with pytest.raises(ReconstructionError, match="the object has vanished"):
        descend(made, plan, losses, lambda told: None, lambda: torch.zeros(3, 2, 2))


def test_a_full_disk_leaves_the_older_checkpoints(tmp_path, monkeypatch):
    save = torch.save

    def full(state, file):
        if state["step"] == 8:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="older ones are still there"):
        run(bench(tmp_path))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000000.pt", "step-00000004.pt"]
    assert newest_state(tmp_path)["step"] == 4
