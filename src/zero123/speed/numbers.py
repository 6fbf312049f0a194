"""Narrower numbers, and their order in memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_PAYS = 1.2
"""So many times as fast must bfloat16 be to be worth its rounding."""


@contextmanager
def narrowed(network: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """All weights in another type; the wide ones come back as they were."""
    tensors = _floating(network)
    wide = [t.data.cpu() for t in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.to(dtype)
    try:
        yield
    finally:
        for tensor, before in zip(tensors, wide, strict=True):
            tensor.data = before.to(tensor.device)


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """Weights of convolutions with their channels together; answers follow."""
    strides = {t: t.stride() for t in _floating(network) if t.ndim == 4}
    for tensor in strides:
        tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for tensor, before in strides.items():
            data = torch.empty_strided(
                tensor.shape, before, dtype=tensor.dtype, device=tensor.device
            )
            tensor.data = data.copy_(tensor.data)


def half_for(device: torch.device) -> torch.dtype:
    """bfloat16 where it is faster, measured in a blink; else float32.

    Processors differ: with matrix units it is several times as fast, with the narrow instructions
    alone it can be half as fast.
    """
    seconds = {dtype: _product_seconds(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    pays = seconds[torch.float32] > _PAYS * seconds[torch.bfloat16]
    return torch.bfloat16 if pays else torch.float32


def _product_seconds(device: torch.device, dtype: torch.dtype) -> float:
    """The fastest of some convolutions, as in the middle of a UNet."""
    picture = torch.ones(2, 320, 32, 32, dtype=dtype, device=device)
    weight = torch.ones(320, 320, 3, 3, dtype=dtype, device=device)
    picture, weight = (t.contiguous(memory_format=torch.channels_last) for t in (picture, weight))
    spent = []
    for _ in range(5):
        begin = time.perf_counter()
        torch.conv2d(picture, weight, padding=1).sum().item()
        spent.append(time.perf_counter() - begin)
    return min(spent)


def _floating(network: nn.Module) -> list[Tensor]:
    tensors = [*network.parameters(), *network.buffers()]
    return [tensor for tensor in tensors if tensor.is_floating_point()]
