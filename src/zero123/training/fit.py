"""Into how many parts a step is cut so that it holds in memory: found by trying, not by a table.

The step itself stays what it is: the same photos, the same draws, the same gradient.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zero123.training.loop import Share, batch_of
from zero123.training.student import Student

_TO_USE = 0.9
"""Of free memory; the rest is for what the libraries take aside."""
_ASIDE = 1.7
"""On a CPU: by how much more resident memory grows than by the tensors that operators make, for the
scratch space of convolutions and what malloc keeps. Measured on ``mini`` with 1 to 16 photos: 1.2
to 1.3 times, with gradient checkpointing 1.5 to 1.7."""
_GIB = 2**30
_TOO_MUCH = 2**62


def usable_memory(device: torch.device) -> int:
    """Nine tenths of what a device has free, bytes; of the machine's memory for a CPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    return int(_TO_USE * free)


def fitting_micro_batches(
    student: Student, shares: list[Share], bound: int | None = None, processes: int = 1
) -> int:
    """Find the fewest micro-batches with which a step of ``student`` holds in memory.

    A part of one photo and one of two tell what a photo takes; the largest part that this
    promises to hold is then tried itself. Weights stay as they are.

    Args:
        student: on the device where it is to be trained.
        shares: data to try on.
        bound: bytes that training may take beside the student's weights: gradients, the optimiser's
            two moments, the running average and activations. None: :func:`usable_memory`.
        processes: among which a step is shared out.

    Raises:
        MemoryError: not even one photo at a time holds.
        ValueError: the photos of a step cannot be shared out evenly.
    """
    config, device = student.config, next(student.parameters()).device
    bound = usable_memory(device) if bound is None else bound
    mine, left = divmod(config.photos, processes)
    if left:
        raise ValueError(f"photos must be a multiple of processes = {processes}: {config.photos}")
    kept = _kept_bytes(student, processes)
    one = kept + _step_bytes(student, shares, 1)
    each = kept + _step_bytes(student, shares, 2) - one
    for parts in (n for n in range(1, mine + 1) if mine % n == 0):
        photos = mine // parts
        promised = one + (photos - 1) * each
        if promised <= bound and kept + _step_bytes(student, shares, photos) <= bound:
            return parts
    takes = f"{one / _GIB:.2f} GiB" if one < _TOO_MUCH else "more than there is"
    raise MemoryError(
        f"out of memory: one photo with {config.targets} targets takes {takes} beside the weights, "
        f"and {bound / _GIB:.2f} GiB may be used: set gradient_checkpointing, take fewer targets, "
        "or train adapters with lora_rank"
    )


def _kept_bytes(student: Student, processes: int) -> int:
    """What lies in memory between two steps beside weights and gradients."""
    copies = 2 + (processes > 1)  # two moments; gradients once more where they are exchanged
    trained = copies * sum(p.nbytes for p in student.trained().values())
    return trained + sum(p.nbytes for p in student.averaged().values())


def _step_bytes(student: Student, shares: list[Share], photos: int) -> int:
    """Most memory that a part of so many photos takes: gradients, activations; or ``_TOO_MUCH``.

    Gradients are there before it begins, as in all parts of a step but the first.
    """
    device = next(student.parameters()).device
    is_narrow = student.config.precision == "bf16"
    batch = batch_of(shares, student, 1.0, (0, 0, 0), range(photos)).to(device)
    try:
        # a compiled network takes less, and would be compiled for each size
        with _measured(device) as peak, torch.compiler.set_stance("force_eager"):
            for p in student.trained().values():
                p.grad = torch.zeros_like(p)
            with torch.autocast(device.type, torch.bfloat16, enabled=is_narrow):
                loss = student(batch)
            torch.autograd.backward(loss)
    except torch.OutOfMemoryError:
        return _TOO_MUCH
    finally:
        student.zero_grad(set_to_none=True)
    return peak.bytes


@dataclass
class _Peak:
    bytes: int = 0


@contextmanager
def _measured(device: torch.device) -> Iterator[_Peak]:
    """Find the most memory that is taken within, beyond what is taken already."""
    peak = _Peak()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with _Storages() as storages:
        yield peak
    peak.bytes = int(_ASIDE * storages.peak)


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operators make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        own = {tensor.untyped_storage().data_ptr() for tensor in given}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in own:
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self.known:
            return
        self.known.add(place)
        weakref.finalize(storage, self._drop, place, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _drop(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.live -= size
