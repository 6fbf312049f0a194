"""An object to render, and how its mesh is had."""

import hashlib
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from zero123.data.downloads import download
from zero123.data.meshes import Mesh
from zero123.data.procedural import procedural_mesh
from zero123.data.report import Reason, Skipped
from zero123.data.unpacking import unpack


class Origin(ABC):
    """Where a mesh comes from."""

    @abstractmethod
    def fetch(self, scratch: Path, largest: int) -> Path | Mesh:
        """Bring the mesh here.

        Args:
            scratch: a folder for what must be unpacked; it outlives the object.
            largest: bytes that a mesh file may have.

        Returns:
            A file, with the files it refers to beside it; or a mesh made up.

        Raises:
            Skipped: if it cannot be had.
            OSError: if ``scratch`` cannot be written.
        """


@dataclass(frozen=True)
class Item:
    """An object to render."""

    name: str
    """Unique in its data set, and a safe file name."""
    source: str
    """The argument that named it, and where in there it is."""
    origin: Origin
    licence: str = ""
    """As its source states it; empty where it does not."""


@dataclass(frozen=True)
class MeshFile(Origin):
    """A file that is there."""

    path: Path

    def fetch(self, scratch: Path, largest: int) -> Path:
        """See ``Origin``."""
        return _bounded(self.path, largest)


@dataclass(frozen=True)
class Member(Origin):
    """A file in an archive."""

    archive: Path
    member: str

    def fetch(self, scratch: Path, largest: int) -> Path:
        """See ``Origin``. The archive stays unpacked until another takes its place."""
        folder = scratch / hashlib.sha256(bytes(self.archive.absolute())).hexdigest()[:16]
        if not folder.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
            unpack(self.archive, folder)
        return _bounded(folder / self.member, largest)


@dataclass(frozen=True)
class Download(Origin):
    """A file on the network, kept once it is here."""

    url: str
    path: Path
    """Where it is kept."""
    sha256: str
    largest: int | None = None
    """Bytes that were asked for at most."""

    def fetch(self, scratch: Path, largest: int) -> Path:
        """See ``Origin``."""
        most = largest if self.largest is None else min(largest, self.largest)
        return _bounded(download(self.url, self.path, self.sha256, most), most)


@dataclass(frozen=True)
class Made(Origin):
    """A procedural object."""

    seed: int

    def fetch(self, scratch: Path, largest: int) -> Mesh:
        """See ``Origin``."""
        return procedural_mesh(self.seed)


@dataclass(frozen=True)
class Refused(Origin):
    """Something that was found to be no mesh while sources were listed."""

    reason: Reason
    detail: str

    def fetch(self, scratch: Path, largest: int) -> Path:
        """See ``Origin``."""
        raise Skipped(self.reason, self.detail)


def _bounded(path: Path, largest: int) -> Path:
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise Skipped("unreadable", f"{path.name}: {problem.strerror}") from problem
    if size > largest:
        bound = f"{largest / 1e6:.0f} MB"
        raise Skipped("too big", f"{path.name} has {size / 1e6:.0f} MB, the bound is {bound}")
    return path
