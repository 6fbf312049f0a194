"""Everything that was made of a photo in one .zip file."""

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import zero123
from zero123.app.views import write_views
from zero123.files import written_whole
from zero123.images import FramedPhoto, animate, save_picture, to_pil, write_text
from zero123.web.visitor import Film, Seen, Visitor, moves_of


def write_bundle(visitor: Visitor, model: str) -> Path:
    """Write photo, views with their cameras, film, object and settings.

    Args:
        visitor: whose.
        model: as it was named.

    Returns:
        The file, in the visitor's folder.

    Raises:
        ValueError: without a photo.
        OSError: if it cannot be written.
    """
    shown, film, made = visitor.shown, visitor.film, visitor.object
    told: dict[str, Any] = {
        "zero123": zero123.__version__,
        "model": model,
        "placement": asdict(shown.placement),
    }
    with TemporaryDirectory(dir=visitor.folder) as name:
        folder = Path(name)
        save_picture(to_pil(shown.sharp.image), folder / "photo.png")
        told["views"] = _write_views(visitor.seen, shown.photo, folder)
        if film is not None:
            _write_film(film, shown.photo, folder / "orbit")
            told["orbit"] = {"drawing": asdict(film.drawing), "poses": film.poses}
        if made is not None:
            shutil.copy(made.file, folder / "object.glb")
            told["object"] = asdict(made.settings) | {"found": asdict(made.elevation)}
        write_text(json.dumps(told, indent=1), folder / "settings.json")
        return _zipped(folder, visitor.folder / "zero123.zip")


def _write_views(seen: Sequence[Seen], photo: FramedPhoto, folder: Path) -> list[dict[str, Any]]:
    """Write a folder for all that were drawn alike, and tell how."""
    told = []
    for number, (drawing, group) in enumerate(groupby(seen, key=lambda each: each.drawing)):
        alike = list(group)
        place = folder / (f"views_{number}" if number else "views")
        made = torch.stack([each.pictures for each in alike])
        poses = [each.pose for each in alike]
        moves = moves_of(poses, drawing)
        write_views(place, made, photo.image, moves, False, "nerfstudio")
        told.append({"folder": place.name, "drawing": asdict(drawing), "poses": poses})
    return told


def _write_film(film: Film, photo: FramedPhoto, folder: Path) -> None:
    moves = moves_of(film.poses, film.drawing)
    write_views(folder, film.pictures[:, None], photo.image, moves, False, "nerfstudio")
    shutil.copy(film.file, folder)
    animate([to_pil(picture) for picture in film.pictures], folder / "orbit.mp4")


def _zipped(folder: Path, archive: Path) -> Path:
    with written_whole(archive) as part, zipfile.ZipFile(part, "w") as packed:
        for file in sorted(folder.rglob("*")):
            packed.write(file, file.relative_to(folder))
    return archive
