"""See an object from any other side, from one photo.

The public names are imported on first use, so that ``import zero123`` stays instant.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zero123.pipeline import Zero123Output, Zero123Pipeline

__all__ = ["Zero123Output", "Zero123Pipeline", "__version__"]

_HOME = {"Zero123Pipeline": "zero123.pipeline", "Zero123Output": "zero123.pipeline"}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'zero123' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
