"""One object as it lies in a data set: pictures and cameras as files, read view by view."""

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from zero123.data.rendered import RenderedObject
from zero123.geometry import Rigid
from zero123.images import DEFAULT_LIMITS

PictureFormat = Literal["png", "webp"]
"""How pictures are encoded; both without loss."""

CAMERAS = "cameras.json"
"""Name of the file that holds all cameras of an object; without it each view has its own."""

_PICTURE = re.compile(r"(\d{3})\.(png|webp)")
_DECODING_FAULTS = (
    EOFError,
    OSError,
    SyntaxError,  # Pillow's word for a bad checksum
    ValueError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Fault:
    """Something bad in a data set."""

    name: str
    """Which object, or which file of many objects."""
    view: int | None
    """None if it concerns the whole."""
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.name if self.view is None else f'{self.name}, view {self.view}'}: {self.reason}"
        )


class DataError(ValueError):
    """A data set, or an object in it, is damaged or not what it should be; holds a `Fault`."""

    @property
    def fault(self) -> Fault:
        """What is bad."""
        fault: Fault = self.args[0]
        return fault


@dataclass(frozen=True)
class StoredObject:
    """All views of one object; nothing is read before it is asked for.

    Everything raises `DataError` if the object is damaged.
    """

    name: str
    load: Callable[[], Mapping[str, bytes]]
    """Gives its files: ``000.png`` or ``.webp``, and ``000.npy`` for each or `CAMERAS` for all."""

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Its files by name."""
        return self.load()

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """Names of its picture files in the order of views, from 000 without a gap."""
        found = sorted(file for file in self.files if _PICTURE.fullmatch(file))
        for view, file in enumerate(found):
            if int(file[:3]) != view:
                reason = "missing" if int(file[:3]) > view else "there twice"
                raise DataError(Fault(self.name, min(view, int(file[:3])), reason))
        if not found:
            raise DataError(Fault(self.name, None, "holds no views"))
        return tuple(found)

    def picture(self, view: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight sRGB and alpha."""
        try:
            return _decoded(self.files[self.pictures[view]])
        except _DECODING_FAULTS as problem:
            if isinstance(problem, DataError):
                raise
            raise DataError(Fault(self.name, view, f"picture: {problem}")) from problem

    def camera(self, view: int) -> Rigid:
        """camera_from_world, Blender/OpenGL camera axes."""
        try:
            if CAMERAS in self.files:
                matrix = np.array(self._cameras[view], dtype=np.float64)
            else:
                matrix = _matrix_of_npy(self.files[f"{view:03d}.npy"])
            return Rigid.from_matrix(torch.from_numpy(matrix.reshape(3, 4)))
        except LookupError as problem:
            raise DataError(Fault(self.name, view, "its camera is missing")) from problem
        except (TypeError, ValueError) as problem:
            if isinstance(problem, DataError):
                raise
            raise DataError(Fault(self.name, view, f"camera: {problem}")) from problem

    @cached_property
    def _cameras(self) -> list[list[list[float]]]:
        try:
            told = json.loads(self.files[CAMERAS])
            cameras: list[list[list[float]]] = told["camera_from_world"]
            if told["name"] != self.name:
                raise ValueError(f"these are of {told['name']!r}")
        except (LookupError, TypeError, ValueError) as problem:
            raise DataError(Fault(self.name, None, f"{CAMERAS}: {problem!r}")) from problem
        return cameras

    def decoded(self) -> RenderedObject:
        """Read all views."""
        views = range(len(self.pictures))
        pictures = [self.picture(view) for view in views]
        shapes = {picture.shape for picture in pictures}
        if len(shapes) > 1:
            raise DataError(Fault(self.name, None, f"pictures of several sizes: {sorted(shapes)}"))
        cameras = tuple(self.camera(view) for view in views)
        return RenderedObject(self.name, np.stack(pictures), cameras)


def encoded(obj: RenderedObject, picture_format: PictureFormat = "png") -> dict[str, bytes]:
    """The files of an object: a picture and a camera a view; same pixels, same bytes."""
    files = {}
    for view, (pixels, camera) in enumerate(zip(obj.pictures, obj.cameras, strict=True)):
        picture, matrix = io.BytesIO(), io.BytesIO()
        if picture_format == "webp":
            # exact: also the colours where alpha is 0
            Image.fromarray(pixels).save(picture, "WEBP", lossless=True, exact=True)
        else:
            Image.fromarray(pixels).save(picture, "PNG")
        np.save(matrix, camera.matrix.numpy())
        files[f"{view:03d}.{picture_format}"] = picture.getvalue()
        files[f"{view:03d}.npy"] = matrix.getvalue()
    return files


def cameras_file(obj: StoredObject) -> bytes:
    """All cameras of an object in the form of `CAMERAS`."""
    cameras = [obj.camera(view).matrix.tolist() for view in range(len(obj.pictures))]
    return json.dumps({"name": obj.name, "camera_from_world": cameras}).encode()


def _decoded(data: bytes) -> UInt8[np.ndarray, "H W 4"]:
    def opened() -> Image.Image:
        return Image.open(io.BytesIO(data), formats=("PNG", "WEBP"))

    if not data:
        raise ValueError("empty")
    if len(data) > DEFAULT_LIMITS.file_bytes:
        raise ValueError(f"{len(data) / 1e6:.0f} MB is too much")
    image = opened()
    if image.width * image.height > DEFAULT_LIMITS.pixels:
        raise ValueError(f"{image.width}×{image.height} pixels are too many")
    if image.width != image.height:
        raise ValueError(f"it is {image.width}×{image.height} pixels, not square")
    if image.mode != "RGBA":
        raise ValueError(f"its mode is {image.mode}, not RGBA")
    image.verify()  # the checksums, which drawing pixels does not look at
    return np.array(opened())


def _matrix_of_npy(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"format {version} of .npy is not read")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    # before the numbers: a header may claim any size
    if shape != (3, 4) or dtype.kind != "f":
        raise ValueError(f"must be 3×4 floats, got {dtype} {shape}")
    matrix: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64)
    return matrix
