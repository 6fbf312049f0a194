"""Meshes in .zip and .tar files that strangers packed; nothing leaves the folder it goes to."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from zero123.data.report import Skipped

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST_FILES = 20_000
MOST_BYTES = 2 * 2**30
"""An archive that unpacks to more files or bytes is not opened."""
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    LZMAError,
    EOFError,
    NotImplementedError,  # a compression that this Python lacks
    UnicodeDecodeError,
)


def is_archive(path: Path) -> bool:
    """Tell by its ending whether a file is one that we open."""
    return path.name.lower().endswith(ARCHIVE_ENDINGS)


def list_members(archive: Path) -> list[str]:
    """Name the files in an archive, sorted, without unpacking any.

    Raises:
        Skipped: if it is broken or encrypted, holds a link, a device or a name that leads out of
            its folder, or would unpack to more than ``MOST_FILES`` or ``MOST_BYTES``.
        OSError: if it cannot be opened.
    """
    with _opened(archive) as files:
        return sorted(file.name for file in files)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack all files of an archive into a new folder.

    Raises:
        Skipped: as ``list_members``; nothing is left then.
        OSError: if a file cannot be read or written.
    """
    folder.mkdir(parents=True)
    try:
        with _opened(archive) as files:
            for file in files:
                target = folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open() as packed, target.open("xb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except BaseException:
        shutil.rmtree(folder)
        raise


@dataclass(frozen=True)
class _File:
    """A plain file in an archive, its name checked."""

    name: str
    open: Callable[[], IO[bytes]]


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_File]]:
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as packed:
                yield _checked(_zip_entries(packed), archive)
        else:
            with tarfile.open(archive, "r:*") as packed:
                yield _checked(_tar_entries(packed), archive)
    except FileExistsError as twice:
        raise Skipped("unsafe", f"{archive.name} holds two files of one name") from twice
    except _BROKEN as problem:
        raise Skipped("unreadable", f"{archive.name} is broken: {problem}") from problem


@dataclass(frozen=True)
class _Entry:
    """What an archive says of one of its members."""

    name: str
    size: int
    """Bytes once unpacked; readers of both formats stop there."""
    is_folder: bool
    trouble: str
    """Why it must not be unpacked; empty if it may."""
    open: Callable[[], IO[bytes]]


def _zip_entries(packed: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        trouble = "is encrypted" if info.flag_bits & 1 else ""
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            trouble = "is a link or a device"
        yield _Entry(
            info.filename,
            info.file_size,
            info.is_dir(),
            trouble,
            lambda info=info: packed.open(info),  # type: ignore[misc]
        )


def _tar_entries(packed: tarfile.TarFile) -> Iterator[_Entry]:
    for info in packed:  # its size is known before its bytes are decompressed
        plain = info.isreg() or info.isdir()
        yield _Entry(
            info.name,
            info.size,
            info.isdir(),
            "" if plain else "is a link or a device",
            lambda info=info: packed.extractfile(info),  # type: ignore[misc, arg-type]
        )


def _checked(entries: Iterator[_Entry], archive: Path) -> Iterator[_File]:
    num_bytes = 0
    for num_files, entry in enumerate(entries, 1):
        num_bytes += entry.size
        if num_files > MOST_FILES:
            raise Skipped("too big", f"{archive.name} holds more than {MOST_FILES} files")
        if num_bytes > MOST_BYTES:
            most = f"{MOST_BYTES / 1e9:.1f} GB"
            raise Skipped("too big", f"{archive.name} would unpack to more than {most}")
        name = entry.name.replace("\\", "/")
        trouble = entry.trouble or ("leads out of its folder" if _leads_out(name) else "")
        if trouble:
            raise Skipped("unsafe", f"in {archive.name}, {entry.name!r} {trouble}")
        if not entry.is_folder:
            yield _File(name, entry.open)


def _leads_out(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        not parts
        or name.startswith("/")
        or ".." in parts
        or ":" in parts[0]  # a drive
        or any(ord(letter) < 32 for letter in name)
    )
