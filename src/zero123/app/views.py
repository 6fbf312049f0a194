"""Write views where the user asked for them: one file, or a folder with sheet and cameras."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zero123.geometry import Camera, Orbit, nerfstudio_transforms
from zero123.images import (
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


def single_file(out: Path, count: int) -> bool:
    """Tell whether ``count`` views go to one file, by the name of the place.

    Raises:
        ValueError: if a picture file is named for several views, or a file type we do not write.
    """
    if not out.suffix or out.is_dir():
        return False
    if out.suffix.lower() not in _PICTURES:
        raise ValueError(f"{out}: a view is written as {', '.join(_PICTURES)}, or into a folder")
    if count > 1:
        raise ValueError(f"{count} views need a folder: -o {out.with_suffix('')}, not {out.name}")
    return True


def write_views(
    out: Path,
    made: Float[Tensor, "images poses samples 3 H W"],
    names: Sequence[str],
    photos: Sequence[Float[Tensor, "3 H W"]],
    moves: Sequence[tuple[float, float, float]],
    image_elevation: float,
    transparent: bool,
) -> Path:
    """Write one view as a file; or all into a folder with a sheet and ``transforms.json``.

    Args:
        out: where to; see ``single_file``.
        made: the views.
        names: of the photos.
        photos: as framed.
        moves: azimuth, elevation (degrees) and distance of each pose.
        image_elevation: degrees; the photos' own, for the cameras' places in the world.
        transparent: whether the views' ground is taken away.
    """
    if single_file(out, made.shape[:3].numel()):
        save_picture(_finished(made[0, 0, 0], transparent), out)
        return out
    several_photos, several_samples = len(photos) > 1, made.shape[2] > 1
    for index, (name, photo) in enumerate(zip(names, photos, strict=True)):
        # two photos of one name must not overwrite each other
        folder = out / (name if names.count(name) == 1 else f"{name}_{index}")
        folder = folder if several_photos else out
        folder.mkdir(parents=True, exist_ok=True)
        pictures, captions = [to_pil(photo)], ["photo"]
        files, cameras = [], []
        for pose, (azimuth, elevation, distance) in enumerate(moves):
            for sample in range(made.shape[2]):
                file = f"view_{pose:03d}" + (f"_{sample}" if several_samples else "") + ".png"
                save_picture(_finished(made[index, pose, sample], transparent), folder / file)
                pictures.append(to_pil(made[index, pose, sample]))
                captions.append(_caption(azimuth, elevation, distance))
                files.append(file)
                seat = _seat(azimuth, elevation, distance, image_elevation)
                cameras.append(Camera(seat.camera_from_world, made.shape[-1]))
        columns = min(len(pictures), 6)
        save_picture(contact_sheet(pictures, captions, columns), folder / "sheet.png")
        transforms = json.dumps(nerfstudio_transforms(cameras, files), indent=1)
        write_text(transforms, folder / "transforms.json")
    return out


def _finished(view: Float[Tensor, "3 H W"], transparent: bool) -> Image.Image:
    if not transparent:
        return to_pil(view)
    # a view stands on white by training: a white rim says so, wherever the object touches the edge
    rim = 8
    framed = torch.nn.functional.pad(view, (rim, rim, rim, rim), value=1.0)
    return to_pil(matte(Photo.opaque(framed), "plain")[:, rim:-rim, rim:-rim])


def _caption(azimuth: float, elevation: float, distance: float) -> str:
    far = f", distance {distance:+g}" if distance else ""
    return f"azimuth {azimuth:+g}°, elevation {elevation:+g}°{far}"


def _seat(azimuth: float, elevation: float, distance: float, image_elevation: float) -> Orbit:
    photo = Orbit(math.radians(90 - image_elevation), 0.0, NOMINAL_RADIUS)
    return photo.moved(math.radians(elevation), math.radians(azimuth), distance)
