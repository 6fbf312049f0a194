"""Write views where the user asked for them: one file, or a folder with cameras and pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zero123.app.moves import Moves
from zero123.geometry import Camera, colmap_model, nerfstudio_transforms
from zero123.images import (
    ImageError,
    Photo,
    contact_sheet,
    matte,
    plot_seats,
    save_picture,
    to_pil,
    write_text,
)

CameraFiles = Literal["nerfstudio", "colmap"]
"""Whose cameras are written beside views."""

_PICTURES = (".png", ".webp", ".jpg", ".jpeg")


def is_file(out: Path) -> bool:
    """Whether a place is meant as a picture file; else it is a folder."""
    return bool(out.suffix) and not out.is_dir()


def check_place(out: Path, count: int, transparent: bool) -> None:
    """Refuse early what could not be written, before the work is done.

    Raises:
        ValueError: if a picture file is named for several views, for a file type we do not write,
            and for a place that cannot be written.
    """
    if is_file(out):
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


def places(out: Path, photos: Sequence[Path]) -> list[Path]:
    """Where the views of each photo go: ``out`` itself, or for several photos folders in it."""
    if len(photos) == 1:
        return [out]
    alike = len({photo.stem.casefold() for photo in photos}) < len(photos)
    # photos of one name must not overwrite each other
    return [
        out / (f"{index:02d}_{photo.stem}" if alike else photo.stem)
        for index, photo in enumerate(photos)
    ]


def write_view(file: Path, view: Float[Tensor, "3 H W"], transparent: bool) -> None:
    """Write one view; see ``check_place`` and ``write_views``."""
    save_picture(_finished(view, transparent), file)


def write_views(
    place: Path,
    made: Float[Tensor, "poses samples 3 H W"],
    photo: Float[Tensor, "3 H W"],
    moves: Moves,
    transparent: bool,
    cameras: CameraFiles,
) -> None:
    """Write all views of a photo into a folder, with their cameras, a sheet and a plot.

    Args:
        place: the folder.
        made: the views.
        photo: as framed.
        moves: of the poses.
        transparent: whether the views' ground is taken away.
        cameras: how they are written; for COLMAP the views lie in ``images`` beside its model.
    """
    folder = place / "images" if cameras == "colmap" else place
    pictures, captions = [to_pil(photo)], ["photo"]
    files, seen_by = [], []
    for pose, (seat, caption) in enumerate(zip(moves.seats, moves.captions, strict=True)):
        for sample, view in enumerate(made[pose]):
            several = f"_{sample}" if made.shape[1] > 1 else ""
            files.append(f"view_{pose:03d}{several}.png")
            seen_by.append(Camera(seat.camera_from_world, made.shape[-1]))
            write_view(folder / files[-1], view, transparent)
            pictures.append(to_pil(view))
            captions.append(caption)
    save_picture(contact_sheet(pictures, captions, min(len(pictures), 6)), place / "sheet.png")
    save_picture(plot_seats(moves.photo_seat, moves.seats), place / "cameras.png")
    if cameras == "colmap":
        for name, text in colmap_model(seen_by, files).items():
            write_text(text, place / "sparse" / "0" / name)
    else:
        transforms = json.dumps(nerfstudio_transforms(seen_by, files), indent=1)
        write_text(transforms, place / "transforms.json")


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
