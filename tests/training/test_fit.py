from dataclasses import replace

import psutil
import pytest
import torch
from tests.training.conftest import TINY, tiny_data, tiny_parts

from zero123.training.fit import (
    _kept_bytes,
    _step_bytes,
    _Storages,
    fitting_micro_batches,
    usable_memory,
)
from zero123.training.loop import Share, train
from zero123.training.student import Batch, Student

CONFIG = replace(TINY, photos=8, pictures=0)
SHARES = [Share(tiny_data())]


def student_of(**changed) -> Student:
    return Student(tiny_parts(), replace(CONFIG, **changed))


def needed(student: Student, photos: int) -> int:
    """Bytes that a part of so many photos takes."""
    return _kept_bytes(student, 1) + _step_bytes(student, SHARES, photos)


def test_storages_are_counted_once_and_while_they_live():
    kept = torch.zeros(1000)
    with _Storages() as storages:
        one = kept + 1
        view = one[:10].add_(1)
        assert storages.live == 4000
        two = torch.cat([one, one])
        assert storages.live == 12_000
        del one, view
        assert storages.live == 8000
        kept.mul_(2)
        assert (storages.live, storages.peak) == (8000, 12_000)
    del two
    assert storages.live == 0


def test_less_memory_takes_more_parts():
    student = student_of()
    assert fitting_micro_batches(student, SHARES) == 1  # this machine has more than enough
    assert fitting_micro_batches(student, SHARES, needed(student, 8) - 1) == 2
    assert fitting_micro_batches(student, SHARES, needed(student, 1)) == 8
    with pytest.raises(MemoryError, match=r"one photo with 2 targets takes .* GiB beside"):
        fitting_micro_batches(student, SHARES, needed(student, 1) - 1)


def test_processes_share_the_photos_and_exchange_gradients():
    student = student_of()
    half = needed(student, 4)
    gradients = sum(p.nbytes for p in student.trained().values())
    assert fitting_micro_batches(student, SHARES, half + gradients, processes=2) == 1
    assert fitting_micro_batches(student, SHARES, half, processes=2) > 1
    with pytest.raises(ValueError, match="multiple of processes = 3"):
        fitting_micro_batches(student, SHARES, processes=3)


def test_checkpointing_and_adapters_take_less():
    plain = needed(student_of(), 4)
    assert needed(student_of(gradient_checkpointing=True), 4) < plain
    assert needed(student_of(lora_rank=2, trains_image_encoder=False), 4) < 0.7 * plain


def test_trying_leaves_nothing_behind(tmp_path):
    tried, fresh = student_of(), student_of()
    fitting_micro_batches(tried, SHARES)
    assert all(p.grad is None for p in tried.parameters())
    one = train(tried, 1.0, SHARES, tmp_path / "tried")
    two = train(fresh, 1.0, SHARES, tmp_path / "fresh")
    assert all(torch.equal(one[name], two[name]) for name in two)


class Narrow(Student):
    """On a device that runs out of memory at more than three photos."""

    def forward(self, batch: Batch) -> torch.Tensor:
        if len(batch.photo_latents) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


def test_a_device_that_runs_out_gets_smaller_parts():
    assert fitting_micro_batches(Narrow(tiny_parts(), CONFIG), SHARES) == 4


def test_some_memory_is_left_to_others():
    free = psutil.virtual_memory().available
    assert 0.8 * free < usable_memory(torch.device("cpu")) < 0.95 * free


@pytest.mark.gpu
def test_a_gpu_holds_what_was_promised():
    device = torch.device("cuda")
    student = student_of().to(device)
    bound = 2**30
    assert fitting_micro_batches(student, SHARES, bound) == 1
    assert usable_memory(device) < torch.cuda.get_device_properties(device).total_memory
