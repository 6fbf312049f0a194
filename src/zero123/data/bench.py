"""One object at a time: its mesh is had, drawn from all its seats, looked at, and written."""

import errno
import hashlib
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from zero123.data.cameras import sample_orbits
from zero123.data.cycles import CyclesRenderer, find_blender
from zero123.data.embree import find_embree, trace
from zero123.data.items import Item
from zero123.data.layouts import write_views
from zero123.data.mesh_files import load_mesh, write_glb
from zero123.data.meshes import Mesh, MeshError
from zero123.data.raster import render
from zero123.data.rendered import RenderedObject
from zero123.data.report import Row, Skipped, one_line
from zero123.data.studio import Studio, sample_studio
from zero123.data.views import ViewSet
from zero123.data.workers import Bounds
from zero123.geometry import Orbit

_FAST_ENDINGS = (".glb", ".gltf", ".obj", ".ply", ".stl")
"""Read without Blender."""
_FEWEST_PIXELS = 1e-3
"""Share of a picture that an object must cover."""
_WHITE = 250
"""A pixel without a channel below is white."""
_GREY = 4
"""The channels of a grey pixel differ by no more levels."""
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@dataclass(frozen=True)
class RenderJob:
    """How objects are rendered, and what one may take."""

    views: int = 12
    size: int = 512
    """Side of the pictures, pixels."""
    renderer: Literal["cycles", "embree", "fast"] = "cycles"
    """Blender's ray tracer; ours, on Embree; or ours that only rasterises."""
    seed: int = 0
    """With an object's name it decides where its cameras and its light are."""
    keep_grey: bool = False
    """Render objects without any colour too."""
    seconds: float = 600.0
    """Bound for an object, wall clock."""
    gigabytes: float = 4.0
    """Bound for a process with all that it starts, resident memory, GiB."""
    megabytes: float = 512.0
    """Bound for a mesh file."""

    def __post_init__(self) -> None:
        if not 1 <= self.views <= 1000:
            raise ValueError(f"views must be 1 to 1000, got {self.views}")
        if not 8 <= self.size <= 4096:
            raise ValueError(f"size must be 8 to 4096 pixels, got {self.size}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        for name in ("seconds", "gigabytes", "megabytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def bounds(self) -> Bounds:
        """Of a process and its tasks."""
        return Bounds(self.seconds, self.gigabytes)

    def seats(self, name: str) -> tuple[list[Orbit], Studio]:
        """Draw the cameras and the light of an object: by its name, whatever else is rendered."""
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        rng = np.random.default_rng([self.seed, number])
        return sample_orbits(rng, self.views), sample_studio(rng)

    def drawn_by(self) -> str:
        """Name the program that draws, with its version.

        Raises:
            ModuleNotFoundError: if it is Blender or Embree, and there is none.
        """
        if self.renderer == "cycles":
            return str(find_blender())
        return find_embree() if self.renderer == "embree" else "fast"


class Bench:
    """Where a process renders object after object; a context manager that closes its Blender."""

    def __init__(self, job: RenderJob, drawn_by: str, views: Path, scratch: Path) -> None:
        """Nothing is opened before the first object.

        Args:
            job: how.
            drawn_by: what the report says drew it.
            views: folder in the ``views_release`` layout to write to.
            scratch: folder of the folders in which processes unpack archives.
        """
        self._job = job
        self._drawn_by = drawn_by
        self._views = views
        self._scratch = scratch
        self._stack = ExitStack()
        self._blender: CyclesRenderer | None = None

    def __enter__(self) -> "Bench":
        # whatever this process and those it starts leave when they are killed is found in there
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(dir=self._scratch))
        )
        self._stack.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
        tempfile.tempdir = str(self._scratch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(self, item: Item) -> Row:
        """Render an object and write it, unless it is there already.

        Raises:
            OSError: if the disk is full.
        """
        try:
            if not (self._views / item.name).is_dir():
                write_views(self._views, self._rendered(item))
        except Skipped as why:
            return row_of(item, self._drawn_by, why)
        return row_of(item, self._drawn_by)

    def _rendered(self, item: Item) -> RenderedObject:
        orbits, studio = self._job.seats(item.name)
        try:
            found = item.origin.fetch(self._scratch / "unpacked", round(self._job.megabytes * 1e6))
            if self._job.renderer == "cycles":
                pictures = self._traced(found, orbits, studio)
            else:
                mesh = found if isinstance(found, Mesh) else self._mesh(found)
                draw = (
                    render if self._job.renderer == "fast" else partial(trace, seed=self._job.seed)
                )
                pictures = draw(mesh, orbits, self._job.size, studio.lighting())
        except (MeshError, ModuleNotFoundError) as problem:
            raise Skipped("unreadable", str(problem)) from problem
        except Image.DecompressionBombError as problem:
            raise Skipped("too big", f"a texture: {problem}") from problem
        except MemoryError as problem:
            raise Skipped("out of memory", "memory ended") from problem
        except OSError as problem:
            if problem.errno in _DISK_FULL:
                raise
            raise Skipped("unreadable", str(problem)) from problem
        _judge(pictures, self._job.keep_grey)
        return RenderedObject(
            item.name, pictures, tuple(orbit.camera_from_world for orbit in orbits)
        )

    def _traced(
        self, found: Path | Mesh, orbits: list[Orbit], studio: Studio
    ) -> UInt8[np.ndarray, "n H W 4"]:
        path = found if isinstance(found, Path) else self._scratch / "object.glb"
        if isinstance(found, Mesh):
            write_glb(found, path)
        return self._cycles.render(path, orbits, self._job.size, studio, self._patience)

    def _mesh(self, path: Path) -> Mesh:
        if path.suffix.lower() in _FAST_ENDINGS:
            return load_mesh(path)
        return self._cycles.read(path, self._patience)

    @property
    def _patience(self) -> float:
        return 2 * self._job.seconds  # the bounds of this process, Blender included, come first

    @property
    def _cycles(self) -> CyclesRenderer:
        if self._blender is None:
            renderer = CyclesRenderer(max_memory=round(2 * self._job.gigabytes * 2**30))
            self._blender = self._stack.enter_context(renderer)
        return self._blender


def row_of(item: Item, drawn_by: str, why: Skipped | None = None) -> Row:
    """Say what became of an object: done, or skipped for a reason."""
    return Row(
        name=item.name,
        source=one_line(item.source),
        licence=one_line(item.licence),
        status="skipped" if why else "done",
        reason=why.reason if why else "",
        detail=one_line(why.detail) if why else "",
        renderer=drawn_by,
    )


def _judge(pictures: UInt8[np.ndarray, "n H W 4"], keep_grey: bool) -> None:
    """Raise `Skipped` for pictures that nothing can be learned from."""
    for view, picture in enumerate(pictures):
        seen = picture[..., 3] > 0
        if seen.mean() < _FEWEST_PIXELS:
            raise Skipped("empty", f"view {view} shows {seen.sum()} pixels of it")
        if ViewSet.on_white(picture).min() >= _WHITE:
            raise Skipped("all white", f"view {view} shows nothing but white")
    colors = pictures[pictures[..., 3] > 0][:, :3].astype(int)
    if not keep_grey and np.ptp(colors, axis=1).max() <= _GREY:
        raise Skipped("no colour", "every view shows nothing but grey")
