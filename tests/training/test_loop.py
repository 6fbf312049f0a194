import copy
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.training.conftest import TINY, tiny_data, tiny_parts

from zero123.data.views import Leaning, draw_pairs
from zero123.geometry import UNTOLD
from zero123.models import PoseProjection, embed_photos, encode_latents
from zero123.training.checkpoints import CheckpointError, checkpoints, load_checkpoint
from zero123.training.config import PRESETS, TrainConfig
from zero123.training.loop import MAX_SKIPS, Share, TrainingError, batch_of, rate_factor, train
from zero123.training.student import Student


def run(folder, config: TrainConfig = TINY, data=None, **options):
    student = Student(tiny_parts(), config)
    average = train(student, 1.0, [Share(data or tiny_data())], folder, **options)
    names = student.trained()
    return {f"now {n}": p.detach() for n, p in names.items()} | average


def same(one, other, atol: float = 0.0) -> bool:
    assert one.keys() == other.keys()
    return all((one[name] - other[name]).abs().max() <= atol for name in one)


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_stopped_and_resumed_is_the_same_to_the_byte(tmp_path, stop_at):
    def stop(row):
        if row["step"] == stop_at:
            raise KeyboardInterrupt

    straight = run(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", report=stop)
    assert same(straight, run(tmp_path / "stopped", resume=True))


SCRIPT = textwrap.dedent(
    """
    import sys, time
    from dataclasses import replace
    from pathlib import Path
    import torch
    from tests.training.conftest import TINY, tiny_data, tiny_parts
    from zero123.training.loop import Share, train
    from zero123.training.student import Student

    torch.set_num_threads(1)
    folder, steps, micro, slow, resume = sys.argv[1:]
    config = replace(
        TINY, steps=int(steps), micro_batches=int(micro), photos=8, save_every=5,
        learning_rate=1e-4, projection_rate=1e-4,
    )
    student = Student(tiny_parts(), config)
    train(
        student, 1.0, [Share(tiny_data())], Path(folder), resume == "resume",
        report=lambda row: time.sleep(float(slow)),
    )
    """
)


def launch(folder, steps: int, micro: int = 1, processes: int = 1, slow: float = 0, resume=""):
    arguments = [str(a) for a in (folder, steps, micro, slow, resume)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(many if processes > 1 else []), str(script), *arguments]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def finished(process, folder) -> dict[str, torch.Tensor]:
    assert process.wait(timeout=240) == 0
    state = load_checkpoint(checkpoints(folder)[-1])
    return {f"now {n}": p for n, p in state["student"].items()} | state["average"]


def test_killed_and_resumed_is_the_same_to_the_byte(tmp_path):
    killed = launch(tmp_path / "killed", 40, slow=0.05)
    while not any("step-0000002" in path.name for path in checkpoints(tmp_path / "killed")):
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    straight = finished(launch(tmp_path / "straight", 40), tmp_path / "straight")
    resumed = finished(launch(tmp_path / "killed", 40, resume="resume"), tmp_path / "killed")
    assert same(straight, resumed)


@pytest.mark.parametrize(("micro", "processes"), [(2, 1), (1, 2)])
def test_a_batch_in_parts_is_the_same_batch(tmp_path, micro, processes):
    whole = finished(launch(tmp_path / "whole", 10), tmp_path / "whole")
    parts = finished(launch(tmp_path / "parts", 10, micro, processes), tmp_path / "parts")
    assert same(whole, parts, atol=1e-5)


def broken_data(bad_items: list[int]):
    data = tiny_data()
    latents = data.latents.copy()
    latents[bad_items] = np.nan
    return replace(data, latents=latents)


def test_a_bad_step_is_skipped_counted_and_said(tmp_path):
    said, rows = [], []
    run(
        tmp_path,
        replace(TINY, steps=12, photos=1),
        broken_data([0]),
        report=rows.append,
        say=said.append,
    )
    skipped = int(rows[-1]["skipped"])
    assert 0 < skipped < 12
    assert len(said) == skipped
    assert "its loss is nan" in said[0]
    state = load_checkpoint(checkpoints(tmp_path)[-1])
    assert all(p.isfinite().all() for p in [*state["student"].values(), *state["average"].values()])


def test_after_ten_bad_steps_it_goes_back_and_the_third_time_it_stops(tmp_path):
    said = []
    with pytest.raises(TrainingError, match=r"for the 3rd time.*is the last good state"):
        run(tmp_path, replace(TINY, steps=99), broken_data([0, 1, 2, 3, 4]), say=said.append)
    assert sum("back to step-00000000.pt" in sentence for sentence in said) == 2
    assert len(said) == 3 * MAX_SKIPS + 2
    state = load_checkpoint(checkpoints(tmp_path)[-1])
    fresh = Student(tiny_parts(), TINY).trained()
    assert all(torch.equal(state["student"][name], p) for name, p in fresh.items())


def test_a_full_disk_leaves_the_older_checkpoints(tmp_path, monkeypatch):
    save = torch.save

    def full(state, file):
        if state["step"] == 4:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"step 4 could not be written.*older ones are still there"):
        run(tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000000.pt", "step-00000002.pt"]
    assert not list(tmp_path.glob(".*"))


def test_resuming_wants_the_same_run(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        run(tmp_path / "none", resume=True)
    run(tmp_path / "done")
    with pytest.raises(TrainingError, match="holds a run"):
        run(tmp_path / "done")
    with pytest.raises(TrainingError, match="was trained with"):
        run(tmp_path / "done", replace(TINY, learning_rate=1.0), resume=True)
    newest = checkpoints(tmp_path / "done")[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step-00000004.pt is no readable checkpoint"):
        run(tmp_path / "done", resume=True)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    run(tmp_path, replace(TINY, steps=6, keep=2))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000004.pt", "step-00000006.pt"]


def test_a_fixed_batch_is_learnt(tmp_path):
    rows = []
    config = replace(
        TINY,
        steps=60,
        photos=1,
        targets=1,
        last=1.0,
        drop_share=0.0,
        learning_rate=3e-3,
        warmup=5,
        pictures=0,  # of noise, which no decoder makes
    )
    data = tiny_data()
    one = replace(data, latents=np.broadcast_to(data.latents[:1, :1], data.latents.shape))
    run(tmp_path, config, one, report=rows.append)
    assert np.mean([row["loss"] for row in rows[-5:]]) < 0.2 * rows[0]["loss"]


@pytest.mark.parametrize("rank", [2, 4])
def test_adapters_leave_the_weights_alone(tmp_path, rank):
    config = replace(TINY, lora_rank=rank, trains_image_encoder=False)
    trained = Student(tiny_parts(), config)
    before = {n: p.clone() for n, p in trained.named_parameters() if not p.requires_grad}
    train(trained, 1.0, [Share(tiny_data())], tmp_path)
    now = dict(trained.named_parameters())
    assert all(torch.equal(now[name], p) for name, p in before.items())
    assert all("lora" in name or "projection" in name for name in trained.trained())
    assert any(p.any() for name, p in trained.trained().items() if "lora_B" in name)


def test_a_step_draws_the_same_photos_in_however_many_parts(student):
    key, shares = (0, 0, 3), [Share(tiny_data())]
    whole = batch_of(shares, student, 1.0, key, range(4))
    half = batch_of(shares, student, 1.0, key, range(2, 4))
    assert torch.equal(whole.targets[4:], half.targets)
    assert torch.equal(whole.draws.noise[4:], half.draws.noise)


def test_augmented_photos_are_encoded_in_the_step_and_targets_stay():
    parts = tiny_parts()
    student, usual = (
        Student(parts, replace(TINY, augment=share, trains_image_encoder=False))
        for share in (1.0, 0.0)
    )
    shares, key = [Share(tiny_data())], (0, 0, 3)
    batch, clean = (batch_of(shares, each, 1.0, key, range(4)) for each in (student, usual))
    half = batch_of(shares, student, 1.0, key, range(2, 4))
    assert batch.photo_latents is None
    assert batch.embeddings is None
    assert torch.equal(batch.photos[2:], half.photos)
    for name in ("targets", "pictures", "pose"):
        assert torch.equal(getattr(batch, name), getattr(clean, name)), name
    known = replace(
        batch,
        photos=None,
        photo_latents=encode_latents(parts.vae, batch.photos),
        embeddings=embed_photos(parts.image_encoder, batch.photos),
    )
    with torch.no_grad():
        assert float(student(batch)) == pytest.approx(float(usual(known)), rel=1e-5)


def test_a_share_of_the_photos_does_not_say_from_how_high_it_was_taken():
    parts = tiny_parts()
    plain = Student(parts, TINY)
    parts = replace(
        parts,
        projection=PoseProjection(embed_dim=8, context_dim=8, pose_dim=5),
        settings=replace(parts.settings, pose_encoding="zero123-polar"),
    )
    told, some, untold = (Student(parts, replace(TINY, untold=u)) for u in (0.0, 0.3, 1.0))
    shares, key, data = [Share(tiny_data())], (0, 0, 3), tiny_data()
    batches = [batch_of(shares, each, 1.0, key, range(200)) for each in (plain, told, some, untold)]
    for batch in batches[1:]:  # the same photos and views, whatever is told of them
        assert torch.equal(batch.pose[:, :4], batches[0].pose)
        assert torch.equal(batch.targets, batches[0].targets)
    heights = [batch.pose[:, 4].view(200, -1) for batch in batches[1:]]
    assert np.isin(heights[0].numpy(), data.views.orbits[..., 0]).all()
    assert not heights[2].any()
    assert 0.2 < float((heights[1] == UNTOLD).float().mean()) < 0.4
    assert all(len(set(of_photo.tolist())) == 1 for of_photo in heights[1])


def test_plain_attention_has_the_loss_and_the_gradients_of_the_fused_one():
    parts = tiny_parts()
    fused, plain = (Student(copy.deepcopy(parts), TINY) for _ in range(2))
    plain.attend_plainly()
    batch = batch_of([Share(tiny_data())], fused, 1.0, (0, 0, 0), range(2))
    losses = [student(batch) for student in (fused, plain)]
    assert torch.allclose(*losses, atol=1e-6)
    torch.autograd.backward(losses)
    for name, p in fused.trained().items():
        other = plain.trained()[name].grad
        assert (p.grad is None) == (other is None), name
        assert p.grad is None or torch.allclose(p.grad, other, atol=1e-6), name


def test_a_share_of_the_photos_is_augmented():
    student = Student(tiny_parts(), replace(TINY, augment=0.4))
    data = tiny_data()
    views = data.views.images.astype(np.float32) / 255
    drawn = batch_of([Share(data)], student, 1.0, (0, 0, 0), range(100)).photos
    flat = views.reshape(-1, 32 * 32 * 3)
    is_clean = [
        (np.abs(flat - photo.permute(1, 2, 0).numpy().ravel()).max(1) < 1e-3).any()
        for photo in drawn
    ]
    assert 0.45 < np.mean(is_clean) < 0.75


@pytest.mark.parametrize("pictures", [0, 1])
def test_training_on_augmented_photos_leaves_the_encoder_alone(tmp_path, pictures):
    parts = tiny_parts()
    before = {name: p.clone() for name, p in parts.vae.encoder.named_parameters()}
    student = Student(parts, replace(TINY, augment=0.5, pictures=pictures))
    train(student, 1.0, [Share(tiny_data())], tmp_path)
    assert all(torch.equal(p, before[n]) for n, p in parts.vae.encoder.named_parameters())
    assert not any(name.startswith("vae.") for name in student.trained())
    assert any("decoder" in name for name in student.trained()) == bool(pictures)


def test_batches_drawn_ahead_by_others_train_the_same(tmp_path):
    averages = [
        train(
            Student(tiny_parts(), TINY),
            1.0,
            [Share(tiny_data())],
            tmp_path / str(workers),
            workers=workers,
        )
        for workers in (0, 2)
    ]
    alone, helped = averages
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_a_fixed_batch_is_learned_by_heart():
    student = Student(tiny_parts(), replace(TINY, drop_share=0.0, pictures=0))
    batch = batch_of([Share(tiny_data())], student, 1.0, (0, 0, 0), range(4))
    optimiser = torch.optim.AdamW(student.groups(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = student(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.02


def test_rates_rise_stay_and_fall():
    config = replace(TINY, steps=100, warmup=10, cooldown=0.5)
    factors = [rate_factor(config, step) for step in range(100)]
    assert factors[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert factors[10:50] == [1.0] * 40
    assert factors[-1] < 0.01
    assert factors[50:] == sorted(factors[50:], reverse=True)


def test_a_photo_is_never_its_own_target():
    views = tiny_data().views
    batch = draw_pairs(
        views, np.random.default_rng(0), photos=50, targets=4, leaning=Leaning(near=0.5)
    )
    assert (batch.target_view != batch.photo_view[:, None]).all()
    assert batch.photo_of_row == [row // 4 for row in range(200)]


def test_presets_are_what_they_say():
    paper = PRESETS["paper"]
    assert (paper.photos * paper.targets, paper.drop, paper.clip) == (1536, "original", None)
    assert (paper.learning_rate, paper.projection_rate) == (1e-4, 1e-3)
