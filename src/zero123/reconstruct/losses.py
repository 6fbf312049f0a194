"""What a field is asked for, each a number that is zero once it is so."""

import torch
from jaxtyping import Float
from torch import Tensor

_SOFT = 0.02
"""Differences below this count squared, larger ones by their size: one wrong view must not win."""


def robust(
    made: Float[Tensor, "n c"], truth: Float[Tensor, "n c"], weight: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Charbonnier's distance, the weighted mean over rows."""
    apart = torch.sqrt((made - truth).square() + _SOFT**2) - _SOFT
    return (apart.mean(dim=1) * weight).sum() / weight.sum()


def input_view(made: Float[Tensor, "3 H W"], photo: Float[Tensor, "3 H W"]) -> Float[Tensor, ""]:
    """Mean squared error of pictures in [0, 1], counted in the original's [-1, 1]."""
    return 4 * (made - photo).square().mean()


def depth_smoothness(depth: Float[Tensor, "H W"]) -> Float[Tensor, ""]:
    """Half the sum of the mean steps of depth to the right and downward, scene units.

    Source: ``depth_smooth_loss`` of the original.
    """
    return ((depth.diff(dim=0)).abs().mean() + depth.diff(dim=1).abs().mean()) / 2


def near_view(
    made: Float[Tensor, "n c"],
    beside: Float[Tensor, "n c"],
    depth: Float[Tensor, " n"],
    depth_beside: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Mean difference of features and of depths between two views that are close together.

    Source: ``near_loss`` of the original.
    """
    return (made - beside).abs().mean() + (depth - depth_beside).abs().mean()


def block_smoothness(
    depth: Float[Tensor, "blocks 4"], opacity: Float[Tensor, "blocks 4"]
) -> Float[Tensor, ""]:
    """Steps of depth within blocks of 2×2 pixels, as far as the object covers all four."""
    covered = opacity.detach().amin(dim=1)
    steps = (depth[:, [0, 2, 0, 1]] - depth[:, [1, 3, 2, 3]]).abs().mean(dim=1)
    return (steps * covered).sum() / covered.sum().clamp(min=1)


def total_variation(grid: Float[Tensor, "1 c X Y Z"]) -> Float[Tensor, ""]:
    """Mean absolute step between neighbours along the three axes."""
    return sum((grid.diff(dim=axis).abs().mean() for axis in (2, 3, 4)), torch.zeros(())) / 3
