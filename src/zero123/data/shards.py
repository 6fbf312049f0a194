"""Shards: tars of many objects that the ``webdataset`` library reads, and an index of hashes.

``shard-00000.tar`` holds one object after the other: ``NAME.000.png`` (or ``.webp``) for each view,
then ``NAME.cameras.json``. A dot within a name is written ``%2E``, because webdataset ends names at
the first dot. ``index.json`` says where each object lies, and the size and SHA-256 of each file.
So one object is one read, from a disk or by a range request, and no changed bit goes unseen.
"""

import hashlib
import http.client
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from zero123.data.layouts import ViewsFolder
from zero123.data.place import Place
from zero123.data.rendered import check_name
from zero123.data.stored import CAMERAS, DataError, Fault, StoredObject, cameras_file
from zero123.files import remove_partials, written_whole

INDEX = "index.json"
_SHARD = re.compile(r"shard-\d{5}\.tar")
_MEMBER = re.compile(r"\d{3}\.(png|webp)|cameras\.json")
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)  # what a tar ends with


@dataclass(frozen=True)
class PackedFile:
    """A file in a shard."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PackedObject:
    """An object in a shard."""

    name: str
    offset: int
    """Where its first header starts, bytes."""
    files: tuple[PackedFile, ...]
    """In the order of the shard, the cameras last."""

    @property
    def num_views(self) -> int:
        """How many pictures it has."""
        return len(self.files) - 1


@dataclass(frozen=True)
class Shard:
    """A file of objects."""

    file: str
    bytes: int
    sha256: str
    objects: tuple[PackedObject, ...]

    def is_whole(self, folder: Path) -> bool:
        """Whether the file is there, byte for byte."""
        path = folder / self.file
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def pack_shards(
    staging: Path, names: Sequence[str], dest: Path, objects_per_shard: int = 64
) -> "Shards":
    """Pack objects of a ``views_release`` folder into shards, in the order of ``names``.

    The same objects give the same bytes. A shard that is there already, holds the same names and
    matches its hash is kept, without a look at ``staging``; so a packing that was stopped goes on.
    Shards of another packing are removed. Nobody else may be writing into ``dest``.

    Args:
        staging: where ``write_views`` put the objects.
        names: which of them.
        dest: folder of the shards and their index.
        objects_per_shard: the last shard may hold fewer.

    Raises:
        DataError: an object is missing or damaged.
        ValueError: a name is given twice.
        OSError: the disk is full or refuses; finished shards stay, and are listed.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"a name is given twice among {len(names)}")
    if objects_per_shard < 1:
        raise ValueError(f"objects_per_shard must be at least 1, got {objects_per_shard}")
    dest.mkdir(parents=True, exist_ok=True)
    remove_partials(dest)
    starts = range(0, len(names), objects_per_shard)
    planned = {
        f"shard-{number:05d}.tar": list(names[start : start + objects_per_shard])
        for number, start in enumerate(starts)
    }
    done = {
        shard.file: shard
        for shard in _listed(dest)
        if planned.get(shard.file) == [obj.name for obj in shard.objects] and shard.is_whole(dest)
    }
    views = ViewsFolder(staging, tuple(names))
    for file, group in planned.items():
        if file not in done:
            done[file] = _write_shard(dest / file, [views[name] for name in group])
            _write_index(dest, [done[file] for file in planned if file in done])
    shards = [done[file] for file in planned]
    _write_index(dest, shards)
    for path in dest.iterdir():
        if is_shard(path.name) and path.name not in planned:
            path.unlink()
    return Shards(Place(str(dest)), tuple(shards))


@dataclass(frozen=True)
class Shards:
    """Objects in a folder of shards, on a disk or on a server."""

    root: Place
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, root: Place) -> "Shards":
        """Read the index.

        Raises:
            DataError: it is damaged, or names files outside of the folder.
            OSError: there is none, or the server does not answer.
        """
        with (root / INDEX).stream() as file:
            try:
                return cls(root, _parse_index(file.read()))
            except http.client.IncompleteRead as cut:
                raise DataError(Fault(INDEX, None, f"cut short: {cut!r}")) from cut

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All objects, in the order of the shards."""
        return tuple(obj.name for shard in self.shards for obj in shard.objects)

    def __getitem__(self, name: str) -> StoredObject:
        shard, obj = self._where[name]
        return StoredObject(name, partial(self._read, shard, obj))

    def __iter__(self) -> Iterator[StoredObject]:
        return (self[name] for name in self.names)

    @cached_property
    def _where(self) -> dict[str, tuple[Shard, PackedObject]]:
        return {obj.name: (shard, obj) for shard in self.shards for obj in shard.objects}

    def _read(self, shard: Shard, obj: PackedObject) -> Mapping[str, bytes]:
        """The object's files, after every byte of its part of the shard was found as packed."""
        heads = {note.file: _header(obj.name, note.file, note.bytes) for note in obj.files}
        length = sum(len(heads[note.file]) + _padded(note.bytes) for note in obj.files)
        end = _END if obj is shard.objects[-1] else b""
        place = self.root / shard.file
        if not (self.root.is_remote or place.path.is_file()):
            raise DataError(Fault(obj.name, None, f"{shard.file} is missing"))
        raw = place.read(obj.offset, length + len(end))
        if len(raw) < length + len(end):
            raise DataError(Fault(obj.name, None, f"{shard.file} is cut short"))
        files, at = {}, 0
        for note in obj.files:
            at += len(heads[note.file])
            data = raw[at : at + note.bytes]
            if hashlib.sha256(data).hexdigest() != note.sha256:
                view = int(note.file[:3]) if note.file != CAMERAS else None
                reason = f"{note.file} in {shard.file} does not match its hash"
                raise DataError(Fault(obj.name, view, reason))
            files[note.file] = data
            at += _padded(note.bytes)
        if raw != _packed(obj.name, files) + end:
            reason = f"{shard.file} is altered between the files of this object"
            raise DataError(Fault(obj.name, None, reason))
        return files


def is_shard(file: str) -> bool:
    """Whether a file is named as a shard."""
    return _SHARD.fullmatch(file) is not None


def _listed(dest: Path) -> tuple[Shard, ...]:
    if not (dest / INDEX).exists():
        return ()
    try:
        return _parse_index((dest / INDEX).read_bytes())
    except DataError:  # then everything is packed again
        return ()


def _write_shard(path: Path, objects: Sequence[StoredObject]) -> Shard:
    packed, offset, digest = [], 0, hashlib.sha256()
    with written_whole(path) as part, part.open("wb") as file:
        for obj in objects:
            files = {picture: obj.files[picture] for picture in obj.pictures}
            files[CAMERAS] = cameras_file(obj)
            raw = _packed(obj.name, files)
            notes = (
                PackedFile(name, len(data), hashlib.sha256(data).hexdigest())
                for name, data in files.items()
            )
            packed.append(PackedObject(obj.name, offset, tuple(notes)))
            offset += file.write(raw)
            digest.update(raw)
        offset += file.write(_END)
        digest.update(_END)
    return Shard(path.name, offset, digest.hexdigest(), tuple(packed))


def _packed(name: str, files: Mapping[str, bytes]) -> bytes:
    """The part of a tar that holds an object's files."""
    parts = []
    for file, data in files.items():
        parts += [_header(name, file, len(data)), data, bytes(_padded(len(data)) - len(data))]
    return b"".join(parts)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _header(name: str, file: str, size: int) -> bytes:
    # TarInfo's own date, owner and rights are constants
    member = tarfile.TarInfo(f"{name.replace('.', '%2E')}.{file}")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _write_index(dest: Path, shards: Sequence[Shard]) -> None:
    index = {
        "objects": sum(len(shard.objects) for shard in shards),
        "views": sum(obj.num_views for shard in shards for obj in shard.objects),
        "shards": [asdict(shard) for shard in shards],
    }
    with written_whole(dest / INDEX) as part:
        part.write_text(json.dumps(index) + "\n", encoding="utf-8")


def _parse_index(data: bytes) -> tuple[Shard, ...]:
    try:
        index = json.loads(data)
        shards = tuple(_parse_shard(shard) for shard in index["shards"])
        names = [obj.name for shard in shards for obj in shard.objects]
        if len(set(names)) < len(names):
            raise ValueError("an object is there twice")
        if index["objects"] != len(names):
            raise ValueError(f"it lists {len(names)} objects and counts {index['objects']}")
    except (AttributeError, LookupError, TypeError, ValueError) as problem:
        raise DataError(Fault(INDEX, None, f"damaged: {problem!r}")) from problem
    return shards


def _parse_shard(told: dict[str, Any]) -> Shard:
    if not is_shard(told["file"]) or int(told["bytes"]) < 0:
        raise ValueError(f"{told['file']!r} of {told['bytes']} bytes is no shard")
    objects = []
    for obj in told["objects"]:
        check_name(obj["name"])
        if int(obj["offset"]) < 0:
            raise ValueError(f"{obj['name']} starts at {obj['offset']}")
        files = tuple(PackedFile(f["file"], int(f["bytes"]), f["sha256"]) for f in obj["files"])
        for note in files:
            if not _MEMBER.fullmatch(note.file) or note.bytes < 0:
                raise ValueError(f"{note.file!r} of {note.bytes} bytes is no file of an object")
        objects.append(PackedObject(obj["name"], int(obj["offset"]), files))
    return Shard(told["file"], int(told["bytes"]), told["sha256"], tuple(objects))
