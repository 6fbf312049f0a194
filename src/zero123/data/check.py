"""Is a data set what it should be, and what does it look like."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from zero123.data.archive import ViewsArchive
from zero123.data.pairs import DataSet, attempts, open_data
from zero123.data.shards import Shards, is_shard
from zero123.data.stored import DataError, Fault, StoredObject
from zero123.data.views import ViewSet
from zero123.geometry import Orbit, Rigid
from zero123.images import contact_sheet

PLAUSIBLE_RADII = (0.87, 5.0)
"""Camera distances, in units of the object's longest side: outside of the sphere around its box,
and near enough to see it."""

_AIM_TOLERANCE = 1e-3  # radians: a twentieth of a degree, half a pixel of 512
_FEWEST_PIXELS = 1e-3  # share of the picture
_WHITE = 250
_THUMBNAIL = (128, 128)  # pixels


def check(source: str | Path) -> list[Fault]:
    """List what is bad in a data set; an empty list is a clean bill.

    Looks at every byte that has a hash; at every camera: a rotation that looks at the origin
    without roll, from a plausible distance; at every picture: readable, square, RGBA, something to
    see that is not all white and not at the border alone. Number of views and size of pictures must
    be those that most objects have.

    Args:
        source: as `open_data` takes it.

    Raises:
        FileNotFoundError: there is no data set.
        OSError: a file cannot be read, or a server does not answer.
    """
    try:
        data = open_data(source)
    except DataError as problem:
        return [problem.fault]
    faults = list(_shard_faults(data)) if isinstance(data, Shards) else []
    looks = []
    for look in attempts(_look_at, iter(data)):
        if isinstance(look, DataError):
            faults.append(look.fault)
        else:
            looks.append(look)
            faults += look.faults
    return [*faults, *_odd_ones(looks)]


def show(source: str | Path, objects: int = 8, views: int = 6) -> Image.Image:
    """Lay out a data set's pictures: a row an object, with names and camera seats.

    Args:
        source: as `open_data` takes it.
        objects: how many, spread over the data set; of an archive the first ones.
        views: how many of each.

    Raises:
        DataError: there is nothing to show, or the list of objects is damaged. A damaged object is
            shown as its reason.
    """
    data = open_data(source)
    tiles: list[tuple[Image.Image, str]] = []
    for row in attempts(lambda obj: _row(obj, views), _spread(data, objects)):
        made = [(_blank(), str(row))] if isinstance(row, DataError) else row
        tiles += made + [(_blank(), "")] * (views - len(made))
    if not tiles:
        raise DataError(Fault(str(source), None, "holds no objects"))
    pictures, captions = zip(*tiles, strict=True)
    return contact_sheet(pictures, captions, columns=views)


@dataclass(frozen=True)
class _Look:
    """What one object looks like from the inside."""

    name: str
    num_views: int
    sizes: tuple[int, ...]
    """Side of each readable picture, pixels."""
    faults: tuple[Fault, ...]


def _look_at(obj: StoredObject) -> _Look:
    sizes: list[int] = []
    faults: list[Fault] = []

    def camera_reasons(view: int) -> Iterator[str]:
        return _camera_reasons(obj.camera(view))

    def picture_reasons(view: int) -> Iterator[str]:
        picture = obj.picture(view)
        sizes.append(len(picture))
        return _picture_reasons(picture)

    num_views = len(obj.pictures)
    for view in range(num_views):
        for reasons in (camera_reasons, picture_reasons):
            try:
                faults += [Fault(obj.name, view, reason) for reason in reasons(view)]
            except DataError as problem:
                faults.append(problem.fault)
    # what concerns the whole object was met at each view
    return _Look(obj.name, num_views, tuple(sizes), tuple(dict.fromkeys(faults)))


def _camera_reasons(camera: Rigid) -> Iterator[str]:
    x, y, z = camera.translation.tolist()  # the origin, as the camera sees it
    radius = math.hypot(x, y, z)
    if not PLAUSIBLE_RADII[0] <= radius <= PLAUSIBLE_RADII[1]:
        low, high = PLAUSIBLE_RADII
        yield f"camera: its distance is {radius:.3g}, not {low} to {high}"
    past = math.atan2(math.hypot(x, y), -z)
    if past > _AIM_TOLERANCE:
        yield f"camera: looks {math.degrees(past):.2g}° past the origin"
    right, up = camera.rotation[:2, 2].tolist()  # how far its own axes point upward
    if abs(right) > _AIM_TOLERANCE or up < -_AIM_TOLERANCE:
        yield f"camera: is rolled by {math.degrees(math.atan2(right, up)):.2g}°"


def _picture_reasons(picture: UInt8[np.ndarray, "H W 4"]) -> Iterator[str]:
    seen = picture[..., 3] > 0
    if seen.mean() < _FEWEST_PIXELS:
        yield f"picture: nothing is to be seen, {seen.sum()} pixels are not transparent"
        return
    if ViewSet.on_white(picture).min() >= _WHITE:
        yield "picture: all white"
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    middle = len(picture) / 4, 3 * len(picture) / 4
    if any(axis[-1] < middle[0] or axis[0] >= middle[1] for axis in (rows, columns)):
        yield "picture: the object is at the border, not in the middle half"


def _odd_ones(looks: list[_Look]) -> Iterator[Fault]:
    """Objects unlike most others."""
    if not looks:
        return
    views = Counter(look.num_views for look in looks).most_common(1)[0][0]
    size = Counter(size for look in looks for size in look.sizes).most_common(1)
    for look in looks:
        if look.num_views != views:
            yield Fault(look.name, None, f"has {look.num_views} views, most have {views}")
        odd = sorted({side for side in look.sizes if side != size[0][0]})
        if odd:
            reason = f"has pictures of {odd} pixels a side, most have {size[0][0]}"
            yield Fault(look.name, None, reason)


def _shard_faults(data: Shards) -> Iterator[Fault]:
    if data.root.is_remote:  # each object is read and compared anyway
        return
    folder = data.root.path
    for shard in data.shards:
        if not (folder / shard.file).is_file():
            yield Fault(shard.file, None, "missing")
        elif not shard.is_whole(folder):
            yield Fault(shard.file, None, "its size or its hash is not the noted one")
    listed = {shard.file for shard in data.shards}
    for path in sorted(folder.iterdir()):
        if is_shard(path.name) and path.name not in listed:
            yield Fault(path.name, None, "not in the index")


def _spread(data: DataSet, count: int) -> Iterator[StoredObject]:
    if isinstance(data, ViewsArchive):
        return islice(data, count)
    step = max(1, len(data.names) / count)
    chosen = [data.names[int(n * step)] for n in range(min(count, len(data.names)))]
    return (data[name] for name in chosen)


def _row(obj: StoredObject, views: int) -> list[tuple[Image.Image, str]]:
    tiles = []
    for view in range(min(views, len(obj.pictures))):
        picture = Image.fromarray(ViewSet.on_white(obj.picture(view)))
        seat = Orbit.from_camera(obj.camera(view))
        elevation, azimuth = math.degrees(seat.elevation), math.degrees(seat.azimuth)
        caption = f"{obj.name} {view} {elevation:+.0f}° {azimuth:+.0f}° {seat.radius:.2f}"
        tiles.append((picture.resize(_THUMBNAIL, Image.Resampling.BOX), caption))
    return tiles


def _blank() -> Image.Image:
    return Image.new("RGB", _THUMBNAIL, "lightgrey")
