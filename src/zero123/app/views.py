"""Write views where the user asked for them: one file, or a folder with sheet and cameras."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zero123.geometry import Camera, Orbit, nerfstudio_transforms
from zero123.images import (
    ImageError,
    Photo,
    contact_sheet,
    matte,
    save_picture,
    to_pil,
    write_text,
)

NOMINAL_RADIUS = 1.85
"""Middle of the distances that the models were trained at; a photo does not tell its own."""
_PICTURES = (".png", ".webp", ".jpg", ".jpeg")


class Moves:
    """Wanted camera moves, and where they lead: one number each, or one a move."""

    def __init__(
        self,
        azimuth: Sequence[float],
        elevation: Sequence[float],
        distance: Sequence[float],
        image_elevation: float,
    ) -> None:
        """Lay out the moves: degrees, and scene units.

        Raises:
            ValueError: if counts differ, a number is not finite, or a camera would pass through
                the object's middle.
        """
        count = max(len(azimuth), len(elevation), len(distance))
        given = {"azimuth": azimuth, "elevation": elevation, "distance": distance}
        for name, values in given.items():
            if len(values) not in (1, count):
                raise ValueError(f"{name} has {len(values)} values where others have {count}")
            if not all(map(math.isfinite, values)):
                raise ValueError(f"{name} must be finite, got {list(values)}")
        if not abs(image_elevation) <= 90:
            raise ValueError(f"image_elevation must be in [-90, 90] degrees, got {image_elevation}")
        if min(distance) <= -NOMINAL_RADIUS:
            raise ValueError(f"distance must be above {-NOMINAL_RADIUS:g}, got {min(distance):g}")
        wide = [list(values) * (count if len(values) == 1 else 1) for values in given.values()]
        photo = Orbit(math.radians(90 - image_elevation), 0.0, NOMINAL_RADIUS)
        self._moves = list(zip(*wide, strict=True))
        self.seats = [photo.moved(math.radians(e), math.radians(a), d) for a, e, d in self._moves]

    def __len__(self) -> int:
        return len(self._moves)

    @property
    def captions(self) -> list[str]:
        """Say each move in words."""
        return [
            f"azimuth {azimuth:+g}°, elevation {elevation:+g}°"
            + (f", distance {distance:+g}" if distance else "")
            for azimuth, elevation, distance in self._moves
        ]


def check_place(out: Path, count: int, transparent: bool) -> None:
    """Refuse early what could not be written, before the work is done.

    Raises:
        ValueError: if a picture file is named for several views, for a file type we do not write,
            and for a place that cannot be written.
    """
    if _is_file(out):
        if out.suffix.lower() not in _PICTURES:
            listed = ", ".join(_PICTURES)
            raise ValueError(f"{out}: a view is written as {listed}, or into a folder")
        if count > 1:
            raise ValueError(f"{count} views need a folder: -o {out.with_suffix('')}, not {out}")
        if transparent and out.suffix.lower() in (".jpg", ".jpeg"):
            raise ValueError(f"{out}: JPEG has no transparency, write .png or .webp")
    elif out.is_file():
        raise ValueError(f"{out} is a file, not a folder: name a new folder")
    above = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(above, os.W_OK):
        raise ValueError(f"{above} may not be written: its permissions forbid it")


def write_views(
    out: Path,
    made: Float[Tensor, "images poses samples 3 H W"],
    names: Sequence[str],
    photos: Sequence[Float[Tensor, "3 H W"]],
    moves: Moves,
    transparent: bool,
) -> Path:
    """Write one view as a file; or all into a folder with a sheet and ``transforms.json``.

    Args:
        out: where to; see ``check_place``.
        made: the views.
        names: of the photos.
        photos: as framed.
        moves: of the poses.
        transparent: whether the views' ground is taken away.
    """
    if _is_file(out):
        save_picture(_finished(made[0, 0, 0], transparent), out)
        return out
    alike = len({name.casefold() for name in names}) < len(names)
    for index, (name, photo) in enumerate(zip(names, photos, strict=True)):
        # photos of one name must not overwrite each other
        folder = out / (f"{index:02d}_{name}" if alike else name) if len(photos) > 1 else out
        folder.mkdir(parents=True, exist_ok=True)
        _write_folder(folder, made[index], photo, moves, transparent)
    return out


def _write_folder(
    folder: Path,
    made: Float[Tensor, "poses samples 3 H W"],
    photo: Float[Tensor, "3 H W"],
    moves: Moves,
    transparent: bool,
) -> None:
    pictures, captions = [to_pil(photo)], ["photo"]
    files, cameras = [], []
    for pose, (seat, caption) in enumerate(zip(moves.seats, moves.captions, strict=True)):
        for sample, view in enumerate(made[pose]):
            several = f"_{sample}" if made.shape[1] > 1 else ""
            files.append(f"view_{pose:03d}{several}.png")
            cameras.append(Camera(seat.camera_from_world, made.shape[-1]))
            save_picture(_finished(view, transparent), folder / files[-1])
            pictures.append(to_pil(view))
            captions.append(caption)
    save_picture(contact_sheet(pictures, captions, min(len(pictures), 6)), folder / "sheet.png")
    transforms = json.dumps(nerfstudio_transforms(cameras, files), indent=1)
    write_text(transforms, folder / "transforms.json")


def _is_file(out: Path) -> bool:
    return bool(out.suffix) and not out.is_dir()


def _finished(view: Float[Tensor, "3 H W"], transparent: bool) -> Image.Image:
    if not transparent:
        return to_pil(view)
    # a view stands on white by training: a white rim says so, wherever the object touches the edge
    rim = 8
    framed = torch.nn.functional.pad(view, (rim, rim, rim, rim), value=1.0)
    try:
        cut = matte(Photo.opaque(framed), "plain")
    except ImageError:  # nothing but white
        cut = torch.cat([framed, torch.zeros_like(framed[:1])])
    return to_pil(cut[:, rim:-rim, rim:-rim])
