"""What a caller is told while an object is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Stage = Literal["elevation", "views", "field", "mesh"]


@dataclass(frozen=True)
class Progress:
    """How far the work is."""

    stage: Stage
    fraction: float
    """Of this stage, in [0, 1]."""
    preview: Float[Tensor, "3 S S"] | None = None
    """The latest picture of the object, in [0, 1], now and then."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Of the latest step, weighted."""
    said: str = ""
    """A sentence, when something is out of order."""


Report = Callable[[Progress], None]
"""Called from the thread that works; an exception that it raises ends the work."""


def silent(progress: Progress) -> None:
    """Tell nobody."""
