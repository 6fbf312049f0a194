"""What a call takes, and how far its pictures are from others."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from jaxtyping import Float
from torch import Tensor

_EVERY = 0.01  # seconds between looks at the memory


@dataclass(frozen=True)
class Cost:
    """What one call took."""

    seconds: float
    """Of the clock."""
    cpu_seconds: float
    """Of all cores, by this process: what other programs take away does not count."""
    step_cpu_seconds: float
    """Of these, for one step of the walk; encoding and decoding are the rest."""
    rise_mib: float
    """Most memory during the call above what was in use before: on the accelerator where the work
    is done on one, else of the process."""


@dataclass(frozen=True)
class Sameness:
    """How far pictures in [0, 1] are from those of the plain way."""

    largest: float
    mean: float
    psnr: float
    """dB; infinite for the same bits."""

    @classmethod
    def of(cls, made: Float[Tensor, "*shape"], plain: Float[Tensor, "*shape"]) -> "Sameness":
        """Compare pictures."""
        off = (made - plain).abs().double()
        error = float(off.square().mean())
        psnr = math.inf if error == 0 else -10 * math.log10(error)
        return cls(float(off.max()), float(off.mean()), psnr)


def measured(
    call: Callable[[Callable[[], None]], Tensor], device: torch.device
) -> tuple[Tensor, Cost]:
    """Make pictures and say what it took.

    Args:
        call: makes them; calls what it is given after each step.
        device: where the work is done.
    """
    ticks: list[float] = []
    watch = _allocated(device) if device.type == "cuda" else resident(psutil.Process())
    _finish(device)
    with watch as rise:
        begin, cpu = time.perf_counter(), time.process_time()
        made = call(lambda: ticks.append(time.process_time()))
        _finish(device)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    between = len(ticks) - 1
    a_step = (ticks[-1] - ticks[0]) / between if between > 0 else math.nan
    return made, Cost(seconds, cpu, a_step, rise() / 2**20)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _allocated(device: torch.device) -> Iterator[Callable[[], int]]:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    yield lambda: torch.cuda.max_memory_allocated(device) - before


@contextmanager
def resident(process: psutil.Process) -> Iterator[Callable[[], int]]:
    """Look at a process's memory all the time; what is lent says how far it rose, bytes."""
    over = threading.Event()
    before = most = process.memory_info().rss

    def look() -> None:
        nonlocal most
        while not over.wait(_EVERY):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lambda: most - before
    finally:
        over.set()
        watcher.join()
