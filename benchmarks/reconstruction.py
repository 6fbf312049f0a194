"""Let Blender open a reconstructed object, and compare what it sees from the photo's side.

``python benchmarks/reconstruction.py PHOTO OBJECT ELEVATION PICTURE``: the photo as it was given to
``zero123 reconstruct``, the object that came out, the elevation that it printed, and where to
write Blender's picture. Needs bpy, which runs in a process of its own.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from zero123.evaluation.metrics import mask_iou, psnr
from zero123.geometry import FIELD_OF_VIEW, Orbit
from zero123.images import frame, matte, read_image, to_u8
from zero123.reconstruct.views import photo_seat

SIZE = 256


def seen_by_blender(path: Path, seat: Orbit, size: int, picture: Path) -> np.ndarray:
    """Picture an object file from a seat; RGBA levels, the ground transparent."""
    numbers = [str(size), str(FIELD_OF_VIEW), *map(str, seat.position.tolist())]
    script = Path(__file__).with_name("blender_look.py")
    subprocess.run(
        [sys.executable, str(script), str(path), str(picture), *numbers],
        check=True,
        capture_output=True,
    )
    with Image.open(picture) as opened:
        return np.array(opened)


def likeness(seen: np.ndarray, photo: np.ndarray, alpha: np.ndarray) -> tuple[float, float]:
    """PSNR on white (dB) and mask IoU; the photo as levels on white, its alpha in [0, 1]."""
    share = seen[..., 3:] / 255
    on_white = np.round(seen[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
    return psnr(on_white, photo), mask_iou(seen[..., 3] > 127, alpha > 0.5)


def main() -> None:
    """Print the two figures."""
    photo_file, object_file, elevation, picture = sys.argv[1:]
    photo = frame(matte(read_image(photo_file)), SIZE)
    seen = seen_by_blender(Path(object_file), photo_seat(float(elevation)), SIZE, Path(picture))
    levels = to_u8(photo.image).permute(1, 2, 0).numpy()
    found, overlap = likeness(seen, levels, photo.alpha[0].numpy())
    print(f"Blender, from the photo's side: PSNR {found:.1f} dB, mask IoU {overlap:.3f}")


if __name__ == "__main__":
    main()
