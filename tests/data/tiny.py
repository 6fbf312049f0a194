"""Rendered objects small enough to write a hundred times."""

import zlib
from functools import cache
from pathlib import Path

import numpy as np

from zero123.data import Lighting, procedural_mesh, render, sample_orbits
from zero123.data.layouts import finish_views, write_views
from zero123.data.rendered import RenderedObject

SIZE = 32
VIEWS = 4


@cache
def tiny(name: str, num_views: int = VIEWS, size: int = SIZE) -> RenderedObject:
    seed = zlib.crc32(name.encode())
    orbits = sample_orbits(np.random.default_rng(seed), num_views)
    pictures = render(procedural_mesh(seed), orbits, size, Lighting())
    return RenderedObject(name, pictures, tuple(orbit.camera_from_world for orbit in orbits))


def names(count: int) -> list[str]:
    return [f"object.{n:03d}" for n in range(count)]


def views_folder(dest: Path, count: int = 5) -> Path:
    for name in names(count):
        write_views(dest, tiny(name))
    finish_views(dest)
    return dest


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
