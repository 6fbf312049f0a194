"""One object as its renderer hands it over: its pictures and where each was taken from."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from zero123.geometry import Rigid

# short enough for a file name to hold it with something added
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class RenderedObject:
    """All views of one object."""

    name: str
    """Unique in its data set, and a safe file name: see ``check_name``."""
    pictures: UInt8[np.ndarray, "views H W 4"]
    """Straight sRGB and alpha; white where nothing is."""
    cameras: tuple[Rigid, ...]
    """camera_from_world of each view, Blender/OpenGL camera axes."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.pictures) != len(self.cameras):
            raise ValueError(
                f"{self.name} has {len(self.pictures)} pictures and {len(self.cameras)} cameras"
            )


def check_name(name: str) -> None:
    """Refuse a name of an object that is no safe file name.

    Raises:
        ValueError: if it starts with a dot, is empty, longer than 200, or holds anything but
            ASCII letters, digits, ``.``, ``_`` and ``-``.
    """
    if not _SAFE_NAME.fullmatch(name):
        raise ValueError(
            "an object is named with up to 200 letters, digits, '.', '_' and '-', "
            f"the first not a dot; got {name!r}"
        )
