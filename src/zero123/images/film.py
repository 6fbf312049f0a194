"""Views one after the other: an animation, a video, or a folder of numbered pictures."""

import math
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from PIL import Image

from zero123.files import written_whole
from zero123.images.errors import ImageError
from zero123.images.write import save_picture

_FASTEST = 50.0  # pictures a second; browsers play faster GIFs slowly
_SUFFIXES = (".webp", ".gif", ".mp4")


def check_film(path: Path, fps: float) -> None:
    """Refuse early what `animate` could not write, before the work is done.

    Raises:
        ImageError: for an unknown suffix, a folder that already holds something, a file where a
            folder is wanted, or an impossible ``fps``.
    """
    if not 0 < fps <= _FASTEST:
        raise ImageError(f"fps must be in (0, {_FASTEST:g}], got {fps:g}")
    if path.is_file() and not path.suffix:
        raise ImageError(f"{path} is a file, not a folder: name a new folder")
    if path.suffix and not path.is_dir() and path.suffix.lower() not in _SUFFIXES:
        raise ImageError(f"{path}: a film is written as {', '.join(_SUFFIXES)}, or into a folder")
    if path.is_dir() and any(path.iterdir()):
        raise ImageError(f"{path} is a folder with something in it: name a new one")


def animate(frames: Sequence[Image.Image], path: Path, fps: float = 12.0) -> Path:
    """Write frames as an endless animation (.webp, .gif), a video (.mp4) or a folder of PNG.

    Args:
        frames: of one size; transparent ones are put on white.
        path: its suffix decides; without one it is a folder, for ``000.png`` and so on.
        fps: frames a second; a GIF rounds their time to 10 ms.

    Returns:
        ``path``.

    Raises:
        ImageError: for what `check_film` refuses, and without ffmpeg.
        OSError: if it cannot be written.
    """
    check_film(path, fps)
    if not frames or len({frame.size for frame in frames}) > 1:
        raise ValueError(f"a film needs frames of one size, got {[frame.size for frame in frames]}")
    pictures = [_on_white(frame) for frame in frames]
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        _write_mp4(pictures, path, fps)
    elif suffix in _SUFFIXES:
        first, *others = pictures
        with written_whole(path) as part:
            first.save(
                part,
                save_all=True,
                append_images=others,
                duration=round(1000 / fps),
                loop=0,
                quality=90,  # of WebP; a GIF has no such choice
            )
    else:
        for number, picture in enumerate(pictures):
            save_picture(picture, path / f"{number:03d}.png")
    return path


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _write_mp4(pictures: Sequence[Image.Image], path: Path, fps: float) -> None:
    import imageio_ffmpeg

    width, height = pictures[0].size
    # H.264 with colour at half resolution, which every player knows, needs even sides
    even = (math.ceil(width / 2) * 2, math.ceil(height / 2) * 2)
    filters = f"pad={even[0]}:{even[1]}:color=white,scale=out_color_matrix=bt709:out_range=tv"
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ImageError("writing .mp4 needs ffmpeg: pip install imageio-ffmpeg") from error
    with written_whole(path) as part:
        command = [
            program, "-y", "-loglevel", "error",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}",
            "-framerate", str(Fraction(fps).limit_denominator(1001)), "-i", "-",
            "-vf", filters, "-colorspace", "bt709", "-color_range", "tv",
            "-codec:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "16",
            "-movflags", "+faststart", f"file:{part}",
        ]  # fmt: skip
        # not imageio_ffmpeg's writer: it neither looks at ffmpeg's exit code nor keeps its words
        pixels = b"".join(picture.tobytes() for picture in pictures)
        done = subprocess.run(command, input=pixels, capture_output=True, check=False)
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip() or "nothing"
            reason = words.splitlines()[-1].rpartition("] ")[2]  # without "[mp4 @ 0x55...]"
            raise OSError(f"ffmpeg says {reason}")
