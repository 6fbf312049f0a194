"""Muon for filters of convolutions too; PyTorch's takes matrices alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 48
"""What has fewer rows or columns has too few directions to even out, and is left to AdamW."""


class FilterMuon(torch.optim.Muon):
    """Weights go by their momentum made orthogonal: as far in rare directions as in common ones.

    A filter is a matrix: a row for each channel that it gives, with all that it reads. Steps are as
    long as AdamW's of the same rate.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
    al., "Muon is Scalable for LLM Training", 2025.

    Args:
        weights: on the device where they stay; what ``is_hidden`` chooses.
        weight_decay: as AdamW's.
    """

    def __init__(self, weights: Sequence[nn.Parameter], weight_decay: float) -> None:
        self.weights = list(weights)
        self.matrices = [nn.Parameter(_matrix(weight.detach())) for weight in self.weights]
        super().__init__(self.matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self) -> None:  # type: ignore[override]
        """Go a step by the weights' gradients."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad)
        super().step()  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the weights' gradients."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            weight.grad = matrix.grad = None


def is_hidden(weight: nn.Parameter) -> bool:
    """Whether a weight is a matrix or a filter between what is hidden, large enough for Muon."""
    return weight.ndim in (2, 4) and min(len(weight), weight[0].numel()) >= LEAST


def _matrix(tensor: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows columns"]:
    """See a filter as a matrix, in place: columns in whatever order they lie in memory."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.movedim(1, -1).flatten(1)
    return tensor.flatten(1)
