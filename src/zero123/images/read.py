"""From a picture file to straight-alpha pixels, within bounds that its header must keep."""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from zero123.images.errors import ImageError

# Not here: EPS and PDF (they start other programs), ICO and ICNS (their header may lie about size).
_FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "QOI", "HEIF",
)  # fmt: skip

# What Pillow's decoders raise on damaged files.
_DECODING_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, EOFError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation: what turns the stored pixels upright."""

_pillow_lock = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """How large a file may be before it is opened, and a picture before it is decoded."""

    pixels: int = 40_000_000
    """Width times height."""
    side: int = 16_384
    """The longer side, pixels."""
    file_bytes: int = 20_000_000
    """Size on disk."""

    def __post_init__(self) -> None:
        for name in ("pixels", "side", "file_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


DEFAULT_LIMITS = Limits()
"""What cameras and phones take by default passes; 40 million pixels fill 640 MB once decoded."""


@dataclass(frozen=True)
class Photo:
    """A picture as it was given: nothing cut out, nothing put behind it.

    Transparent pixels keep the colour that the file holds under them; white is put behind them
    when the picture is framed.
    """

    rgba: Float[Tensor, "4 H W"]
    """Upright pixels in [0, 1], straight alpha: colours are not multiplied by it."""
    has_alpha: bool
    """Whether the file says what is transparent; if not, alpha is 1 everywhere."""

    @classmethod
    def opaque(cls, rgb: Float[Tensor, "3 H W"]) -> "Photo":
        """Take pixels in [0, 1] for a picture of which nothing is cut out."""
        return cls(torch.cat([rgb, torch.ones_like(rgb[:1])]), has_alpha=False)

    @classmethod
    def from_pil(cls, image: Image.Image) -> "Photo":
        """Take over a picture that is already in memory: any mode of Pillow, the current frame.

        16-bit greys are divided by 65535; floats must be in [0, 1].

        Raises:
            ImageError: if it holds NaN, infinity or values outside the range of its mode.
        """
        image.load()  # before EXIF is read: TIFF turns itself and then drops the tag
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            return cls._from_deep_grey(image)
        # an alpha channel, a palette's alpha and a transparent colour: all become alpha here
        pixels = torch.from_numpy(np.array(image.convert("RGBA"))).permute(2, 0, 1)
        rgba = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return cls(rgba, image.has_transparency_data)

    @classmethod
    def _from_deep_grey(cls, image: Image.Image) -> "Photo":
        # convert() would clip all these at 255
        values: NDArray[np.float64] = np.asarray(image).astype(np.float64)
        white = 1.0 if image.mode == "F" else 65535.0
        if not np.isfinite(values).all():
            raise ImageError("the picture holds NaN or infinity: save it as an 8-bit PNG")
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > white:
            raise ImageError(
                f"the picture's values must be in [0, {white:g}], got {low:g} to {high:g}: "
                "save it as an 8-bit PNG"
            )
        hidden = image.info.get("transparency")  # a grey that stands for "nothing here"
        alpha = np.ones_like(values) if hidden is None else values != hidden
        rgba = np.stack([values / white] * 3 + [alpha]).astype(np.float32)
        return cls(torch.from_numpy(rgba), hidden is not None)


def read_image(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> Photo:
    """Read a picture file: upright as its EXIF says, the first frame if it is animated.

    Args:
        path: PNG, JPEG, WebP, AVIF, GIF, TIFF, BMP, JPEG 2000, PPM, TGA or QOI, of any mode that
            Pillow reads; HEIC if its plug-in is registered with Pillow.
        limits: bounds that are checked before anything is decoded.

    Raises:
        ImageError: if there is no such file, if it is no picture, is damaged or breaks a limit.
    """
    path = Path(path)
    _check_file(path, limits)
    try:
        with path.open("rb") as file, _pillow_warnings_handled():
            image = _open(file, path)
            _check_size(image.size, path, limits)
            return _take_over(image, path)
    except ImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{path} has more than {limits.pixels / 1e6:g} million pixels: shrink it first"
        ) from error
    except PermissionError as error:
        raise ImageError(f"{path} may not be read: its permissions forbid it") from error
    except _DECODING_FAULTS as error:
        raise ImageError(
            f"{path} is damaged or cut short ({error}): save or download it again"
        ) from error


def list_pictures(paths: Sequence[Path]) -> list[Path]:
    """Name every picture: files as they are, folders by the pictures right inside, in their order.

    What is a picture in a folder is told by its suffix; hidden files are none.

    Raises:
        ImageError: if a folder holds no picture.
    """
    Image.init()  # makes Pillow know all suffixes
    suffixes = {suffix for suffix, kind in Image.EXTENSION.items() if kind in _FORMATS}
    listed: list[Path] = []
    for path in paths:
        if not path.is_dir():
            listed.append(path)
            continue
        inside = [
            file
            for file in sorted(path.iterdir())
            if file.suffix.lower() in suffixes and not file.name.startswith(".")
        ]
        if not inside:
            raise ImageError(f"{path} holds no picture file")
        listed += inside
    return listed


def _check_file(path: Path, limits: Limits) -> None:
    if path.is_dir():
        raise ImageError(f"{path} is a folder: name one picture in it")
    if not path.exists():
        raise ImageError(f"{path} does not exist: is the name spelt right?")
    if not path.is_file():
        raise ImageError(f"{path} is no ordinary file: copy the picture into one")
    size = path.stat().st_size
    if size == 0:
        raise ImageError(f"{path} is empty: was it downloaded completely?")
    if size > limits.file_bytes:
        raise ImageError(
            f"{path} takes {size / 1e6:.1f} MB on disk, more than the "
            f"{limits.file_bytes / 1e6:g} MB that are read: save it smaller"
        )


def _open(file: BinaryIO, path: Path) -> Image.Image:
    # the everyday formats first: loading the others takes a tenth of a second
    for register in (Image.preinit, Image.init):
        register()
        with suppress(UnidentifiedImageError):
            return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
    file.seek(0)
    raise ImageError(f"{path} {_explain(file.read(1024))}")


def _check_size(size: tuple[int, int], path: Path, limits: Limits) -> None:
    width, height = size
    if width * height > limits.pixels or max(size) > limits.side:
        raise ImageError(
            f"{path} is {width}×{height} pixels, more than the {limits.pixels / 1e6:g} million "
            f"and {limits.side} on a side that are read: shrink it first"
        )


def _take_over(image: Image.Image, path: Path) -> Photo:
    try:
        return Photo.from_pil(image)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _explain(head: bytes) -> str:
    """Say what a file is that Pillow does not know, from its first bytes."""
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "is a HEIC photo: save it as JPEG, or register the plug-in pillow-heif first"
    if b"<svg" in head:
        return "is an SVG drawing, not pixels: export it as PNG"
    if head.startswith((b"%PDF", b"%!PS")):
        return "is a document, not a picture: export the page as PNG"
    if min(head) >= ord("\t"):
        return "is text, not a picture: PNG, JPEG, WebP, AVIF, GIF, TIFF and BMP can be read"
    return (
        "is no picture of a known kind, or its first bytes are damaged: "
        "PNG, JPEG, WebP, AVIF, GIF, TIFF and BMP can be read"
    )


@contextmanager
def _pillow_warnings_handled() -> Iterator[None]:
    """Keep Pillow's remarks on metadata quiet, and turn its remark on size into an error."""
    # catch_warnings swaps what the whole process shares: one thread at a time
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
