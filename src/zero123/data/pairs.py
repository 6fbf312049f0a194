"""Training pairs from any data set: a photo, the same object from elsewhere, and the move.

For a seed and an epoch each object gives one pair. Which two views it shows depends on the seed,
the epoch and the object's name only. So the pairs of an epoch are the same whatever the format, the
number of ranks and of worker processes; these decide who reads which object, and no object is read
twice. With ``parts = world_size * workers``, part ``rank * workers + worker`` reads each
``parts``-th object of the epoch's order: shuffled, or as it lies in an archive.
"""

import json
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional
from torch.utils.data import IterableDataset, get_worker_info

from zero123.data.archive import ViewsArchive
from zero123.data.layouts import ViewsFolder, parse_valid_paths
from zero123.data.place import Place
from zero123.data.shards import INDEX, Shards
from zero123.data.stored import DataError, Fault, StoredObject
from zero123.data.views import Compositing, ViewSet
from zero123.files import written_whole
from zero123.geometry import Orbit, pose_token

DataSet: TypeAlias = ViewsFolder | Shards | ViewsArchive
"""Rendered objects, wherever and however they lie."""

Split = Literal["all", "train", "validation"]
"""The original trains on the first 99 % of the list of names and validates on the rest."""

Damaged = Literal["error", "skip"]
"""What a damaged object does: end the reading, or be warned of, noted and left out."""

T = TypeVar("T")

_ARCHIVES = (".tar", ".tar.gz", ".tgz")


class SkippedWarning(UserWarning):
    """A damaged object, or the rest of a damaged archive, was left out."""


def open_data(source: str | Path, valid_paths: Path | None = None) -> DataSet:
    """Find out what a data set is, and open it.

    Args:
        source: a folder of views or of shards, a ``.tar`` or ``.tar.gz`` of views, or the URL
            (http or https) of such an archive or of a folder of shards.
        valid_paths: the list of names that belongs to an archive; without it an archive gives all
            that it holds, and cannot be split.

    Raises:
        DataError: its list of names or its index is damaged.
        FileNotFoundError: there is nothing, or nothing of these kinds.
        OSError: the server does not answer.
    """
    place = Place(str(source))
    if place.name.endswith(_ARCHIVES) and (place.is_remote or place.path.is_file()):
        names = None if valid_paths is None else parse_valid_paths(valid_paths.read_bytes())
        return ViewsArchive(place, names)
    if valid_paths is not None:
        raise ValueError(f"valid_paths is for an archive, {source} has its own list of names")
    if place.is_remote or (place.path / INDEX).is_file():
        return Shards.open(place)
    if place.path.is_dir():
        return ViewsFolder.open(place.path)
    raise FileNotFoundError(
        f"{source} is no data set: name a folder of views or shards, or a {' or '.join(_ARCHIVES)}"
    )


def split_names(names: Sequence[str], split: Split) -> Sequence[str]:
    """The part of a list of names to train or to validate on.

    Source: the original's data loader.

    >>> split_names([f"{n:03d}" for n in range(200)], "validation")
    ['198', '199']
    """
    cut = len(names) * 99 // 100
    return {"all": names, "train": names[:cut], "validation": names[cut:]}[split]


@dataclass(frozen=True)
class Pair:
    """A photo of an object, and what is to be seen from elsewhere."""

    photo: Float[Tensor, "3 H W"]
    """Pixels in [0, 1], on white."""
    target: Float[Tensor, "3 H W"]
    """Pixels in [0, 1], on white."""
    pose: Float[Tensor, "4"]
    """The move from photo to target, see ``pose_token``."""
    name: str
    """Which object."""
    views: tuple[int, int]
    """Which of its views: photo, target."""


@dataclass(frozen=True, eq=False)
class Pairs(IterableDataset[Pair]):
    """The pairs of one epoch that one rank is to see; ``dataclasses.replace`` gives the next.

    In the workers of a ``DataLoader`` each yields its own part.

    Iterating raises `DataError` for a damaged object, unless ``damaged`` is ``"skip"``.
    """

    data: DataSet
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    world_size: int = 1
    split: Split = "train"
    size: int | None = None
    """Side to scale pictures to, pixels; None leaves them as they are."""
    compositing: Compositing = "blended"
    damaged: Damaged = "error"
    skipped: list[Fault] = field(init=False, default_factory=list)
    """What was left out; each worker process of a ``DataLoader`` has its own list."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in [0, {self.world_size}), got {self.rank}")
        if self.split != "all":
            _known_names(self.data)

    def __iter__(self) -> Iterator[Pair]:
        return _whole_ones(attempts(self._pair, self._objects()), self.damaged, self.skipped)

    def _objects(self) -> Iterator[StoredObject]:
        worker = get_worker_info()
        part, parts = self.rank, self.world_size
        if worker is not None:
            part = part * worker.num_workers + worker.id
            parts *= worker.num_workers
        data = self.data
        if isinstance(data, ViewsArchive):
            return islice(_of_split(data, self.split), part, None, parts)
        names = split_names(data.names, self.split)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(names))
        return (data[names[at]] for at in order[part::parts].tolist())

    def _pair(self, obj: StoredObject) -> Pair:
        num_views = len(obj.pictures)
        if num_views < 2:
            raise DataError(Fault(obj.name, None, f"a pair takes two views, it has {num_views}"))
        rng = np.random.default_rng([self.seed, self.epoch, zlib.crc32(obj.name.encode())])
        photo, target = rng.choice(num_views, size=2, replace=False).tolist()
        cond, wanted = (Orbit.from_camera(obj.camera(view)) for view in (photo, target))
        pictures = (ViewSet.on_white(obj.picture(v), self.compositing) for v in (photo, target))
        seen, hidden = (_scaled(picture[None], self.size)[0] for picture in pictures)
        return Pair(seen, hidden, pose_token(cond, wanted), obj.name, (photo, target))


def pack_views(
    source: str | Path | DataSet,
    folder: Path,
    name: str,
    size: int,
    split: Split = "all",
    compositing: Compositing = "blended",
    damaged: Damaged = "error",
) -> ViewSet:
    """Write a data set in the form that ``ViewSet.open`` maps into memory.

    Writes ``NAME.images.npy``, then ``NAME.json`` (names, in order), last ``NAME.orbits.npy``.

    Args:
        source: the data set, or where it is.
        folder: where to write.
        name: of the set.
        size: side to scale pictures to, pixels.
        split: which objects.
        compositing: how pictures come onto white.
        damaged: what a damaged object, or one with another number of views, does.

    Raises:
        DataError: an object is damaged, or nothing is left.
        OSError: the disk is full or refuses; nothing is left behind.
    """
    data = open_data(source) if isinstance(source, str | Path) else source
    names: list[str] = []
    seats: list[list[list[float]]] = []

    def packed(obj: StoredObject) -> UInt8[np.ndarray, "views S S 3"]:
        rendered = obj.decoded()
        if seats and len(rendered.cameras) != len(seats[0]):
            reason = f"has {len(rendered.cameras)} views, the first object has {len(seats[0])}"
            raise DataError(Fault(obj.name, None, reason))
        pixels = _scaled(ViewSet.on_white(rendered.pictures, compositing), size)
        orbits = [Orbit.from_camera(camera) for camera in rendered.cameras]
        seats.append([[orbit.polar, orbit.azimuth, orbit.radius] for orbit in orbits])
        names.append(obj.name)
        return (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()

    with written_whole(folder / f"{name}.images.npy") as part, part.open("wb") as file:
        for pictures in _whole_ones(attempts(packed, _of_split(data, split)), damaged, []):
            if file.tell() == 0:
                _write_header(file, (0, *pictures.shape))
            file.write(pictures.tobytes())
        if not names:
            raise DataError(Fault(str(source), None, "no object is left to pack"))
        file.seek(0)
        _write_header(file, (len(names), *pictures.shape))
    with written_whole(folder / f"{name}.json") as part:
        part.write_text(json.dumps(names), encoding="utf-8")
    with written_whole(folder / f"{name}.orbits.npy") as part, part.open("wb") as file:
        np.save(file, np.array(seats, np.float32))
    return ViewSet.open(folder, name)


def _of_split(data: DataSet, split: Split) -> Iterator[StoredObject]:
    """Objects in the order of the data set."""
    if split == "all":
        return iter(data)
    names = tuple(split_names(_known_names(data), split))
    if isinstance(data, ViewsArchive):
        return iter(replace(data, names=names))
    return (data[name] for name in names)


def _known_names(data: DataSet) -> tuple[str, ...]:
    if data.names is None:
        raise ValueError(
            'without its valid_paths.json an archive has no split: give it, or take split="all"'
        )
    return data.names


def attempts(
    make: Callable[[StoredObject], T], objects: Iterator[StoredObject]
) -> Iterator[T | DataError]:
    """Make something of each object; the error takes its place where that fails.

    An archive that cannot be read on ends with an error.
    """
    while True:
        try:
            yield make(next(objects))
        except StopIteration:
            return
        except DataError as problem:
            yield problem


def _whole_ones(
    attempted: Iterator[T | DataError], damaged: Damaged, skipped: list[Fault]
) -> Iterator[T]:
    for made in attempted:
        if not isinstance(made, DataError):
            yield made
        elif damaged == "error":
            raise made
        else:
            skipped.append(made.fault)
            warnings.warn(f"skipped {made}", SkippedWarning, stacklevel=3)


def _scaled(rgb: UInt8[np.ndarray, "n H W 3"], size: int | None) -> Float[Tensor, "n 3 S S"]:
    """Pixels in [0, 1], scaled as the original does it: linear, over all pixels that it covers."""
    pixels = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255
    if size is None or pixels.shape[-1] == size:
        return pixels
    return functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    # numpy leaves room for the first number to grow: the header has one length for any count
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
