"""Weights kept in one byte each. Near."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_MOST = 127  # of an int8, either way


class Rounded(nn.Module):
    """Whole numbers, and a scale a row; widened again whenever the layer works."""

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(o, ...) -> whole numbers likewise, and the scales (o, 1, ...)."""
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
        scale = (largest / _MOST).clamp_min(torch.finfo(weight.dtype).tiny)  # a silent row
        return (weight / scale).round_().to(torch.int8), scale

    def forward(self, whole: Tensor, scale: Tensor) -> Tensor:
        """The weight, off by half a scale at most."""
        return whole * scale


@contextmanager
def rounded(network: nn.Module) -> Iterator[None]:
    """Every linear layer and convolution keeps its weight so; the wide ones come back after."""
    with ExitStack() as undo:
        for layer in list(network.modules()):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                undo.enter_context(_rounded_layer(layer))
        yield


@contextmanager
def _rounded_layer(layer: nn.Linear | nn.Conv2d) -> Iterator[None]:
    weight = layer.weight
    learning = weight.requires_grad
    weight.requires_grad_(False)  # whole numbers have no gradient
    parametrize.register_parametrization(layer, "weight", Rounded())
    try:
        yield
    finally:
        parametrize.remove_parametrizations(layer, "weight")
        layer.weight = weight.requires_grad_(learning)
