"""From what the user names (files, folders, archives, Objaverse, made-up objects) to items."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from zero123.data.cycles import BLENDER_FORMATS
from zero123.data.items import Item, Made, Member, MeshFile, Refused
from zero123.data.report import Skipped
from zero123.data.unpacking import ARCHIVE_ENDINGS, is_archive, list_members

MESH_ENDINGS = tuple(sorted(BLENDER_FORMATS))
_LONGEST_NAME = 100


def find_items(sources: Sequence[str], limit: int | None = None) -> list[Item]:
    """List the objects that are named, in a stable order, each under a name of its own.

    Args:
        sources: each a mesh file, an archive, a folder (searched through, archives too),
            ``procedural:N`` or ``procedural:FIRST-LAST``, ``objaverse:`` or ``objaverse-xl:``
            with filters (see ``zero123.data.objaverse``).
        limit: list the first ones only.

    Returns:
        Items named after their path within the source: ``cars/red one.glb`` is ``cars_red_one``.
        Where that is taken, a number drawn from the source follows. Archives that cannot be
        opened are listed too: rendering them says why not.

    Raises:
        ValueError: if a source is not there, is of no kind that we read, or holds no object.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"the limit must be at least 1, got {limit}")
    items: list[Item] = []
    taken: set[str] = set()
    for source in sources:
        left = None if limit is None else limit - len(items)
        found = [_renamed(item, source, taken) for item in islice(_listed(source), left)]
        if not found and left != 0:
            raise ValueError(f"{source} holds no object that we read")
        items += found
    return items


def _listed(source: str) -> Iterator[Item]:
    scheme, colon, rest = source.partition(":")
    if colon and scheme in ("objaverse", "objaverse-xl"):
        # pandas takes a second to import
        from zero123.data.objaverse import objaverse_items, objaverse_xl_items

        yield from (objaverse_items if scheme == "objaverse" else objaverse_xl_items)(rest)
    elif colon and scheme == "procedural":
        yield from _procedural(rest)
    else:
        path = Path(source)
        if path.is_dir():
            yield from _in_folder(path)
        elif not path.is_file():
            raise ValueError(
                f"{source} is not there: name a file, a folder, procedural:N, objaverse: "
                "or objaverse-xl:"
            )
        elif not is_archive(path) and path.suffix.lower() not in MESH_ENDINGS:
            listed = ", ".join((*MESH_ENDINGS, *ARCHIVE_ENDINGS))
            raise ValueError(f"{source} is no mesh or archive that we read: {listed}")
        else:
            yield from _in_file(path, PurePosixPath(path.name), path.name)


def _procedural(rest: str) -> Iterator[Item]:
    numbers = re.fullmatch(r"(?:(\d+)-)?(\d+)", rest)
    if numbers is None:
        raise ValueError(
            f"procedural:{rest} is no number of objects: write procedural:100, "
            "or procedural:100-199 for those with these seeds"
        )
    first, last = int(numbers[1] or 0), int(numbers[2]) - (numbers[1] is None)
    for seed in range(first, last + 1):
        yield Item(f"procedural_{seed:06d}", f"procedural:{seed}", Made(seed), "CC0")


def _in_folder(folder: Path) -> Iterator[Item]:
    paths = [Path(at, name) for at, _, names in os.walk(folder) for name in names]
    label = folder.resolve().name
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix()):
        if path.name.startswith("."):
            continue
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        yield from _in_file(path, relative, f"{label}/{relative}")


def _in_file(path: Path, relative: PurePosixPath, source: str) -> Iterator[Item]:
    if path.suffix.lower() in MESH_ENDINGS:
        yield Item(_plain(relative.with_suffix("")), source, MeshFile(path))
    elif is_archive(path):
        # chair.tar.gz names its meshes chair_...
        stem = relative.with_name(relative.name[: -len(_archive_ending(path))])
        try:
            meshes = [
                name
                for name in list_members(path)
                if PurePosixPath(name).suffix.lower() in MESH_ENDINGS
                and not PurePosixPath(name).name.startswith(".")
            ]
        except Skipped as why:
            yield Item(_plain(stem), source, Refused(why.reason, why.detail))
            return
        except OSError as problem:
            detail = f"{path.name}: {problem.strerror}"
            yield Item(_plain(stem), source, Refused("unreadable", detail))
            return
        if not meshes:
            yield Item(_plain(stem), source, Refused("empty", f"{path.name} holds no mesh"))
        for name in meshes:
            inner = stem / PurePosixPath(name).with_suffix("")
            yield Item(_plain(inner), f"{source}/{name}", Member(path, name))


def _archive_ending(path: Path) -> str:
    # the longest first: .tar.gz is not .gz
    return max((e for e in ARCHIVE_ENDINGS if path.name.lower().endswith(e)), key=len)


def _plain(path: PurePosixPath) -> str:
    """Make a safe file name of a path."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join(path.parts)).lstrip(".") or "_"
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{_number(str(path))}"


def _number(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def _renamed(item: Item, argument: str, taken: set[str]) -> Item:
    name, seed = item.name, f"{argument} {item.source}"
    # some file systems take chair and Chair for one
    while name.casefold() in taken:
        name = f"{item.name}-{_number(seed)}"
        seed += "+"  # the same source twice
    taken.add(name.casefold())
    return replace(item, name=name)
