"""Objects that others rendered: any data set of ours, and test sets as they were published."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from zero123.data.layouts import ViewsFolder
from zero123.data.pairs import open_data
from zero123.data.rendered import RenderedObject
from zero123.data.shards import Shards
from zero123.data.stored import DataError
from zero123.evaluation.rtmv import SIZE, is_rtmv, read_rtmv
from zero123.evaluation.scenes import Scene, SceneError, Trial, on_white
from zero123.geometry import Orbit

_ESCHERNET = Path("render_mvs_25") / "model"
"""Where EscherNet's copy of Google Scanned Objects keeps an object's 25 views."""


def folder_trial(
    folder: Path,
    limit: int | None = None,
    samples: int = 1,
    seed: int = 0,
    sampler: Literal["default", "original"] = "default",
) -> Trial:
    """Ask about rendered objects: the first view of each is the photo, all others are targets.

    Read are folders of the ``views_release`` layout, shards, EscherNet's GSO30
    (``NAME/render_mvs_25/model/000.png`` and ``.npy``, Blender camera axes) and RTMV.

    Args:
        folder: of all objects.
        limit: only so many objects, the first; the title says so.
        samples: answers asked for each view.
        seed: of all noise.
        sampler: each model's own, or the authors'.

    Raises:
        ValueError: if it holds no objects, or its list of names is damaged.
        OSError: if it cannot be read.
    """
    names, read, layout = _reader(folder)
    asked = names[:limit]
    partly = f", only {len(asked)} of {len(names)} objects" if len(asked) < len(names) else ""
    return Trial(
        title=f"{folder.name} (custom){partly}",
        about=(
            f"{layout}; the first view of each object is the photo, all others are targets",
            "pictures at the size in which they are stored, composited on white",
        ),
        names=asked,
        open=lambda name: _scene(name, read),
        samples=samples,
        seed=seed,
        sampler=sampler,
    )


def _reader(folder: Path) -> tuple[tuple[str, ...], Callable[[str], RenderedObject], str]:
    if folder.is_dir():
        found = sorted(path.name for path in folder.iterdir() if (path / _ESCHERNET).is_dir())
        if found:
            return tuple(found), lambda name: _of_eschernet(folder, name), "EscherNet's layout"
        scenes = sorted(path.name for path in folder.iterdir() if is_rtmv(path))
        if scenes:
            layout = (
                f"RTMV's layout, reduced to {SIZE}², each scene as one object; its cameras have "
                "another field of view than models learned, and need not look at the middle"
            )
            return tuple(scenes), lambda name: read_rtmv(folder / name), layout
    data = open_data(folder)
    if not isinstance(data, ViewsFolder | Shards):
        raise ValueError(f"{folder} is an archive: unpack it, or pack it into shards")
    layout = "views_release layout" if isinstance(data, ViewsFolder) else "shards"
    return tuple(data.names), lambda name: data[name].decoded(), layout


def _of_eschernet(folder: Path, name: str) -> RenderedObject:
    views = folder / name / _ESCHERNET
    stored = ViewsFolder(views.parent, (views.name,))[views.name].decoded()
    return RenderedObject(name, stored.pictures, stored.cameras)


def _scene(name: str, read: Callable[[str], RenderedObject]) -> Scene:
    try:
        obj = read(name)
    except (DataError, OSError) as error:
        raise SceneError(str(error)) from error
    photo, *seats = (Orbit.from_camera(camera) for camera in obj.cameras)
    # a climb of more than a right angle is none that a model can be asked for
    near = [at for at, seat in enumerate(seats) if abs(seat.polar - photo.polar) <= math.pi / 2]
    left_out = len(seats) - len(near)
    note = f"{left_out} target view(s) more than 90° above or below the photo are left out"
    return Scene(
        name=name,
        photo=on_white(obj.pictures[0]),
        seat=photo,
        truths=obj.pictures[1:][near],
        seats=tuple(seats[at] for at in near),
        notes=(note,) if left_out else (),
    )
