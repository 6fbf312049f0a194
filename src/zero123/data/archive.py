"""The ``views_release`` layout in one ``.tar`` or ``.tar.gz``, read from front to back."""

import gzip
import http.client
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import PurePosixPath
from typing import IO, cast

from zero123.data.place import Place
from zero123.data.rendered import check_name
from zero123.data.stored import DataError, Fault, StoredObject
from zero123.images import DEFAULT_LIMITS

_VIEW_FILE = re.compile(r"\d{3}\.(png|webp|npy)")
_END = bytes(2 * tarfile.BLOCKSIZE)
_BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, http.client.HTTPException)


class _Tail:
    """A stream that remembers its last bytes; tarfile takes any end for the end."""

    def __init__(self, file: BufferedIOBase) -> None:
        self.tail = b""
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.tail = (self.tail + data)[-len(_END) :]
        return data


@dataclass(frozen=True)
class ViewsArchive:
    """Objects in an archive that is read as it comes: from a disk or from a server.

    Each must lie in one piece, which is how ``tar`` packs a folder.
    """

    place: Place
    names: tuple[str, ...] | None = None
    """From a ``valid_paths.json`` beside the archive; None if only reading through it tells."""

    def __iter__(self) -> Iterator[StoredObject]:
        """All objects, or those in ``names``, in the order of the archive.

        Raises:
            DataError: the archive is cut short or damaged, an object in ``names`` is not in it, or
                it holds links, names with ``..`` or from the root, which no data set needs.
            OSError: it cannot be opened.
        """
        wanted = None if self.names is None else set(self.names)
        seen: set[str] = set()
        for obj in self._objects():
            if obj.name in seen:
                raise DataError(Fault(obj.name, None, f"lies in several pieces in {self.place}"))
            seen.add(obj.name)
            if wanted is None or obj.name in wanted:
                yield obj
        missing = sorted((wanted or set()) - seen)
        if missing:
            reason = f"not in {self.place}, and {len(missing) - 1} others are not"
            raise DataError(Fault(missing[0], None, reason))

    def _objects(self) -> Iterator[StoredObject]:
        name, files = "", dict[str, bytes]()
        try:
            for owner, file, data in self._members():
                if owner != name:
                    if name:
                        yield StoredObject(name, partial(dict, files))
                    name, files = owner, {}
                files[file] = data
        except _BROKEN as problem:
            # the object it breaks off in is not known to be whole
            where = f"within {name}" if name else "at its start"
            reason = f"cut short or damaged {where} ({problem})"
            raise DataError(Fault(self.place.name, None, reason)) from problem
        if name:
            yield StoredObject(name, partial(dict, files))

    def _members(self) -> Iterator[tuple[str, str, bytes]]:
        """Object, file name and content of each file that belongs to a view."""
        with closing(self.place.stream()) as raw, closing(self._unzipped(raw)) as file:
            plain = _Tail(file)
            with tarfile.open(fileobj=cast(IO[bytes], plain), mode="r|") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps all
                    path = self._checked(member)
                    if not member.isfile() or not _VIEW_FILE.fullmatch(path.name):
                        continue
                    content = archive.extractfile(member)
                    assert content is not None, "a regular file has content"
                    yield path.parent.name, path.name, content.read()
            while plain.read(1 << 20):  # behind the last member: gzip's checksum of it all
                pass
            if plain.tail != _END:
                raise EOFError("it does not end as a tar does")

    def _checked(self, member: tarfile.TarInfo) -> PurePosixPath:
        path = PurePosixPath(member.name)
        bad = ""
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            bad = "leads outside"
        elif not (member.isfile() or member.isdir()):
            bad = "is a link or a device"
        elif member.isfile() and _VIEW_FILE.fullmatch(path.name):
            try:
                check_name(path.parent.name)
            except ValueError as problem:
                bad = str(problem)
            if member.size > DEFAULT_LIMITS.file_bytes:
                bad = f"claims {member.size / 1e6:.0f} MB"
        if bad:
            raise DataError(Fault(self.place.name, None, f"refused: {member.name!r} {bad}"))
        return path

    def _unzipped(self, raw: BufferedIOBase) -> BufferedIOBase:
        zipped = self.place.name.endswith((".gz", ".tgz"))
        return gzip.GzipFile(fileobj=raw) if zipped else raw
