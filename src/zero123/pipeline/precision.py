"""Half precision may overflow: seen, computed again in float32, never shown as a black picture."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def finite_or_wider(compute: Callable[[], Tensor], network: torch.nn.Module) -> Tensor:
    """Compute; if half precision overflows, compute again in float32; never return NaN.

    Args:
        compute: asks the network; called once more if need be.
        network: converted in place for the second try, and back.

    Raises:
        FloatingPointError: if the network overflows even in float32.
    """
    result = compute()
    if bool(torch.isfinite(result).all()):
        return result
    narrow = next(network.parameters()).dtype
    if narrow != torch.float32:
        logger.warning("%s overflowed: once more in float32", narrow)
        with _widened(network, narrow):
            result = compute()
    if not bool(torch.isfinite(result).all()):
        raise FloatingPointError(
            f"{type(network).__name__} gave NaN or infinity in float32: damaged weights, or a "
            "guidance_scale far too high?"
        )
    return result


@contextmanager
def _widened(network: torch.nn.Module, narrow: torch.dtype) -> Iterator[None]:
    network.float()
    try:
        yield
    finally:
        network.to(narrow)
