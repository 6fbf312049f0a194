from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers made by the original code; see the README beside them."""
    return Path(__file__).parent / "golden"


@pytest.fixture
def untyped() -> Iterator[None]:
    """The checks of shapes, which only tests have, cannot be compiled."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()
