"""Doubling of feature maps that is compiled rightly, see ``double_by_repeating``."""

from typing import Any

from diffusers.models.upsampling import Upsample2D
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn


def double_by_repeating(network: nn.Module) -> None:
    """Let a network that is about to be compiled double its maps by repeating every number.

    The same numbers come out, and networks keep their parameters and names. PyTorch 2.13 turns
    ``interpolate`` into an indexed sum on the way back, and on CPUs sometimes lets what needs the
    sum go before it: then all layers below get gradients of zero, or what memory held.

    Args:
        network: changed in place. Maps must be of sizes that halve evenly.
    """
    for module in network.modules():
        if isinstance(module, Upsample2D) and module.interpolate:
            module.interpolate = False
            module.register_forward_pre_hook(_repeat_first)


def doubled(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Every number four times, in a square."""
    return repeat(maps, "b c h w -> b c (h 2) (w 2)")


def _repeat_first(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    maps, *others = given
    return (doubled(maps), *others)
