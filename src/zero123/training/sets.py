"""Pictures of many objects from random seats: the sets that the small model is trained on."""

import functools
import itertools
import json
import multiprocessing
import shutil
import zlib
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from zero123.data import (
    Mesh,
    MeshError,
    load_mesh,
    procedural_mesh,
    render,
    sample_lighting,
    sample_orbits,
)
from zero123.data.compact import expanded
from zero123.data.views import ViewSet, sidedness
from zero123.training.mini import IMAGE_SIZE

COMPACT = ".mesh"
"""Suffix of objects that ``zero123.data.compact`` wrote."""
SHARES = {"meshes": 0.3, "mirrored": 0.2, "procedural": 0.5}
"""How often a step draws from each kind of set."""
VIEWS = {"meshes": 24, "procedural": 12, "validation": 12}
"""Of each object."""
VALIDATION_EVERY = 40
"""One mesh in so many is kept for validation, chosen by its name."""
SIDED = (0.2, 4.0)
"""Least and most often that an object is drawn, compared with one of usual sides."""


def is_held(file: Path) -> bool:
    """Whether a mesh is kept for validation."""
    return zlib.crc32(file.stem.encode()) % VALIDATION_EVERY == 0


def open_source(name: str) -> Mesh:
    """Open ``procedural:SEED``, an object of suffix ``COMPACT``, or any other file of a mesh.

    Raises:
        MeshError: if there is nothing to draw.
    """
    kind, _, seed = name.partition(":")
    if kind == "procedural":
        return procedural_mesh(int(seed))
    path = Path(name)
    return expanded(path.read_bytes()) if path.suffix == COMPACT else load_mesh(path)


def painters(processes: int) -> Pool:
    """So many processes that draw, for ``make_views``."""
    return multiprocessing.get_context("spawn").Pool(processes)


def make_views(
    pool: Pool,
    folder: Path,
    name: str,
    sources: list[str],
    num_views: int,
    say: Callable[[str], None] = print,
    size: int = IMAGE_SIZE,
) -> None:
    """Render every source from random seats, in random light, into one set, as ``ViewSet`` opens.

    A source gives the same pictures in every set. One that cannot be drawn, or of which nothing is
    seen from some side, is left out. A set that is there is not made again.

    Args:
        pool: draws, see ``painters``.
        folder: where the set is to lie.
        name: of the set.
        sources: what ``open_source`` takes.
        num_views: of each.
        say: called with a sentence for each that cannot be drawn.
        size: of the pictures, pixels; it does not change what they show.

    Raises:
        ValueError: if nothing is left.
    """
    if _is_whole(folder, name):
        return
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(sources), num_views, size, size, 3)
    partial = folder / f"{name}.images.partial.npy"
    pictures = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    names: list[str] = []
    seats: list[Float32[np.ndarray, "views 3"]] = []
    drawing = functools.partial(_drawn, num_views=num_views, size=size)
    for source, made in zip(sources, pool.imap(drawing, sources, chunksize=8), strict=True):
        if isinstance(made, MeshError):
            say(f"skipped {source}: {made}")
        elif made[0].min(axis=(1, 2, 3)).max() < 250:  # something is seen
            pictures[len(names)] = made[0]
            seats.append(made[1])
            names.append(source)
    if not names:
        raise ValueError(f"{name}: none of {len(sources)} sources can be drawn")
    orbits = np.stack(seats)
    (folder / f"{name}.json").write_text(json.dumps(names))
    np.save(folder / f"{name}.weights.npy", weights_of(pictures[: len(names)], orbits))
    if len(names) == len(sources):
        partial.rename(folder / f"{name}.images.npy")
    else:
        np.save(folder / f"{name}.images.npy", pictures[: len(names)])
        partial.unlink()
    _finish(folder, name, orbits)


def mirror(folder: Path, name: str, to: str) -> None:
    """Make objects of the other hand and of other colours: sides swapped, channels exchanged."""
    if _is_whole(folder, to):
        return
    data, names = ViewSet.open(folder, name), json.loads((folder / f"{name}.json").read_text())
    orders = list(itertools.permutations(range(3)))[1:]
    partial = folder / f"{to}.images.partial.npy"
    shape = data.images.shape
    swapped = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    for item, source in enumerate(names):
        order = orders[zlib.crc32(source.encode()) % len(orders)]
        swapped[item] = data.images[item][:, :, ::-1, order]
    partial.rename(folder / f"{to}.images.npy")
    shutil.copy(folder / f"{name}.weights.npy", folder / f"{to}.weights.npy")
    _finish(folder, to, data.orbits * np.array([1, -1, 1], dtype=np.float32))


def weights_of(
    images: UInt8[np.ndarray, "objects views H W 3"],
    orbits: Float32[np.ndarray, "objects views 3"],
) -> Float64[np.ndarray, " objects"]:
    """How often each object is drawn: the more, the more unlike its sides are; adds up to one."""
    unlike = [
        sidedness(np.array(views), seats) for views, seats in zip(images, orbits, strict=True)
    ]
    usual = np.median(unlike) or 1.0  # 0 where hardly any two views are from the same height
    wanted = np.clip(np.array(unlike) / usual, *SIDED)
    weights: Float64[np.ndarray, " objects"] = wanted / wanted.sum()
    return weights


def _is_whole(folder: Path, name: str) -> bool:
    return (folder / f"{name}.orbits.npy").exists()


def _finish(folder: Path, name: str, orbits: Float32[np.ndarray, "objects views 3"]) -> None:
    """Write a set's seats: the last of its files."""
    partial = folder / f"{name}.orbits.partial.npy"
    np.save(partial, orbits)
    partial.rename(folder / f"{name}.orbits.npy")


def _drawn(
    name: str, num_views: int, size: int
) -> tuple[UInt8[np.ndarray, "views H W 3"], Float32[np.ndarray, "views 3"]] | MeshError:
    """Pictures on white and seats; or why there are none: errors do not stop the others."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    try:
        mesh = open_source(name)
    except MeshError as problem:
        return problem
    orbits = sample_orbits(rng, num_views)
    pictures = render(mesh, orbits, size, sample_lighting(rng))
    seats = np.array([[o.polar, o.azimuth, o.radius] for o in orbits], dtype=np.float32)
    return ViewSet.on_white(pictures), seats
