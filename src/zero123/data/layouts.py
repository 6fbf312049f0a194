"""Folders of views: the layout of the published ``views_release``, and nerfstudio's.

``views_release``: ``NAME/000.png`` (RGBA) and ``NAME/000.npy`` (3×4 world-to-camera, Blender camera
axes) for each view, and ``valid_paths.json``, the list of names, beside the objects.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zero123.data.rendered import RenderedObject, check_name
from zero123.data.stored import DataError, Fault, PictureFormat, StoredObject, encoded
from zero123.files import remove_partials, written_whole
from zero123.geometry import Camera, nerfstudio_transforms

VALID_PATHS = "valid_paths.json"


def write_views(dest: Path, obj: RenderedObject, picture_format: PictureFormat = "png") -> None:
    """Write an object into a folder of the ``views_release`` layout, all of it or nothing.

    An object that was there under this name is replaced.

    Args:
        dest: folder of all objects.
        obj: what to write; the same object gives the same bytes.
        picture_format: other programs read ``"png"`` only.

    Raises:
        OSError: the disk is full or refuses; nothing is left behind.
    """
    with written_whole(dest / obj.name) as folder:
        folder.mkdir()
        for file, data in encoded(obj, picture_format).items():
            (folder / file).write_bytes(data)


def finish_views(dest: Path) -> list[str]:
    """List the objects in ``valid_paths.json``, and remove what killed writers left.

    Nobody may be writing into ``dest`` meanwhile.

    Returns:
        The names, sorted.

    Raises:
        OSError: the disk is full or refuses.
    """
    remove_partials(dest)
    names = _subfolders(dest)
    with written_whole(dest / VALID_PATHS) as part:
        part.write_text(json.dumps(names, indent=0) + "\n", encoding="utf-8")
    return names


def write_nerfstudio(dest: Path, obj: RenderedObject) -> None:
    """Export an object for nerfstudio: ``dest/NAME/transforms.json`` with ``images/000.png`` ...

    Raises:
        OSError: the disk is full or refuses; nothing is left behind.
    """
    pictures = {
        f"images/{file}": data for file, data in encoded(obj).items() if file.endswith(".png")
    }
    size = obj.pictures.shape[1]
    cameras = [Camera(camera, size) for camera in obj.cameras]
    transforms = nerfstudio_transforms(cameras, list(pictures))
    with written_whole(dest / obj.name) as folder:
        (folder / "images").mkdir(parents=True)
        for file, data in pictures.items():
            (folder / file).write_bytes(data)
        (folder / "transforms.json").write_text(json.dumps(transforms, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class ViewsFolder:
    """Objects in a folder of the ``views_release`` layout."""

    root: Path
    names: tuple[str, ...]
    """As in ``valid_paths.json``; if there is none, all subfolders, sorted."""

    @classmethod
    def open(cls, root: Path) -> "ViewsFolder":
        """Find the objects.

        Raises:
            DataError: ``valid_paths.json`` is damaged, or a name is not safe.
        """
        listed = root / VALID_PATHS
        if listed.exists():
            return cls(root, parse_valid_paths(listed.read_bytes()))
        return cls(root, tuple(_subfolders(root)))

    def __getitem__(self, name: str) -> StoredObject:
        return StoredObject(name, lambda: _FilesOnDisk(self.root / name))

    def __iter__(self) -> Iterator[StoredObject]:
        return (self[name] for name in self.names)


def parse_valid_paths(data: bytes) -> tuple[str, ...]:
    """The names in the text of a ``valid_paths.json``.

    Raises:
        DataError: if it is no list of safe names.
    """
    try:
        names = json.loads(data)
        if not isinstance(names, list):
            raise ValueError("not a list")
        if len(set(names)) < len(names):
            raise ValueError("a name is there twice")
        for name in names:
            check_name(name)
    except (TypeError, ValueError) as problem:
        raise DataError(Fault(VALID_PATHS, None, f"no list of names: {problem}")) from problem
    return tuple(names)


def _subfolders(root: Path) -> list[str]:
    names = sorted(
        path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    for name in names:
        try:
            check_name(name)
        except ValueError as problem:
            raise DataError(Fault(name, None, str(problem))) from problem
    return names


class _FilesOnDisk(Mapping[str, bytes]):
    """The files of a folder, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(Fault(folder.name, None, "there is no such folder"))
        self._files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}

    def __getitem__(self, file: str) -> bytes:
        return self._files[file].read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
