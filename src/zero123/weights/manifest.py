"""Hashes of a folder's files: what one flipped bit cannot hide from.

A safetensors file with a wrong byte among its numbers loads like a good one.
"""

import hashlib
import json
from pathlib import Path

from zero123.weights.components import WeightsError

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Note size and SHA-256 of every file in the folder, in ``manifest.json``."""
    (folder / MANIFEST).unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    noted = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _hash(path)}
        for path in files
    }
    (folder / MANIFEST).write_text(json.dumps({"files": noted}, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path, remedy: str = "copy or download it again") -> None:
    """Compare every file that the manifest names with its note.

    Args:
        folder: has a ``manifest.json``.
        remedy: what the message tells to do.

    Raises:
        WeightsError: names the first file that is missing or altered.
    """
    for name, (size, digest) in _read(folder, remedy).items():
        file = folder / name
        if not file.is_file():
            raise WeightsError(f"{file}: missing; {remedy}")
        if file.stat().st_size != size or _hash(file) != digest:
            raise WeightsError(f"{file}: altered, its hash is not the noted one; {remedy}")


def unnoted(folder: Path) -> list[str]:
    """Files in the folder that its manifest does not name; all of them if it has none."""
    noted = {MANIFEST, *_read(folder, "")} if (folder / MANIFEST).is_file() else set()
    inside = (path for path in folder.rglob("*") if not path.is_dir())
    return [name for path in inside if (name := path.relative_to(folder).as_posix()) not in noted]


def _read(folder: Path, remedy: str) -> dict[str, tuple[int, str]]:
    """Size and hash by file name."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        notes = {name: (int(note["bytes"]), str(note["sha256"])) for name, note in files.items()}
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as unreadable:
        raise WeightsError(f"{folder / MANIFEST}: missing or damaged; {remedy}") from unreadable
    outside = [name for name in notes if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise WeightsError(f"{folder / MANIFEST}: names {outside[0]!r}, outside of its folder")
    return notes


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
