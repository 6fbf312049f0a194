"""RTMV, a test set of ray-traced scenes, as its authors publish it.

Source: Tremblay et al., "RTMV: A Ray-Traced Multi-View Synthetic Dataset for Novel View Synthesis",
2022. A scene is a folder of ``00000.exr`` (linear RGBA) with ``00000.json`` (NViSII's camera), ...
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from zero123.data.color import srgb_from_linear
from zero123.data.rendered import RenderedObject
from zero123.data.stored import DataError, Fault
from zero123.geometry import Rigid

SIZE = 256
"""Side to which its 1,600 pixels are reduced, as the paper evaluates."""
_FIRST = "00000"


def is_rtmv(folder: Path) -> bool:
    """Whether a folder is a scene."""
    return (folder / f"{_FIRST}.exr").is_file() and (folder / f"{_FIRST}.json").is_file()


def read_rtmv(folder: Path) -> RenderedObject:
    """Read a scene as if it were one object: box centred, longest side 1, z up.

    NViSII's cameras have OpenGL axes; their matrices are written row by row for row vectors, and
    column by column in some scenes: both are read. Which way is up is written nowhere: it is the
    axis nearest to the mean of the cameras' own up.

    Raises:
        ModuleNotFoundError: without the package ``OpenEXR``.
        DataError: if a file is missing, damaged, or not of this layout.
    """
    stems = sorted(path.stem for path in folder.glob("[0-9]*.json"))
    frames = [_frame(folder, view, stem) for view, stem in enumerate(stems)]
    if not frames:
        raise DataError(Fault(folder.name, None, "holds no views"))
    ups = torch.stack([frame.world_from_camera.rotation[:, 1] for frame in frames]).mean(0)
    ours_from_theirs = _turned(ups)
    cameras = []
    for frame in frames:
        centred = frame.world_from_camera.translation - frame.center
        pose = Rigid(frame.world_from_camera.rotation, centred / frame.longest)
        cameras.append((ours_from_theirs @ pose).inverse)
    pictures = np.stack([_picture(folder, view, stem) for view, stem in enumerate(stems)])
    return RenderedObject(folder.name, pictures, tuple(cameras))


@dataclass(frozen=True)
class _Frame:
    world_from_camera: Rigid
    center: torch.Tensor
    longest: float


def _frame(folder: Path, view: int, stem: str) -> _Frame:
    try:
        told: dict[str, Any] = json.loads((folder / f"{stem}.json").read_bytes())["camera_data"]
        matrix = torch.tensor(told["cam2world"], dtype=torch.float64)
        if not matrix[3, :3].any():
            matrix = matrix.T
        low, high = (
            torch.tensor(told[f"scene_{end}_3d_box"], dtype=torch.float64) for end in ("min", "max")
        )
        longest = float((high - low).max())
        if not (math.isfinite(longest) and longest > 0):
            raise ValueError(f"the scene's longest side is {longest}")
        return _Frame(Rigid.from_matrix(matrix.T), (low + high) / 2, longest)
    except (OSError, LookupError, TypeError, ValueError) as problem:
        raise DataError(Fault(folder.name, view, f"camera: {problem!r}")) from problem


def _turned(up: torch.Tensor) -> Rigid:
    """The rotation of axes that brings the one nearest to ``up`` to +z."""
    axis = int(up.abs().argmax())
    rotation = torch.zeros(3, 3, dtype=torch.float64)
    rotation[2, axis] = up[axis].sign()
    rotation[0, (axis + 1) % 3] = 1.0
    rotation[1, (axis + 2) % 3] = up[axis].sign()
    return Rigid(rotation, torch.zeros(3, dtype=torch.float64))


def _picture(folder: Path, view: int, stem: str) -> UInt8[np.ndarray, "256 256 4"]:
    linear = _read_exr(folder, view, stem)
    height, width = linear.shape[:2]
    if height != width:
        raise DataError(Fault(folder.name, view, f"it is {width}×{height} pixels, not square"))
    alpha = np.clip(linear[..., 3:], 0, 1)
    lit = np.concatenate([np.clip(linear[..., :3], 0, 1) * alpha, alpha], axis=-1)
    small = torch.nn.functional.interpolate(
        torch.from_numpy(lit).permute(2, 0, 1)[None], (SIZE, SIZE), mode="area"
    )[0].permute(1, 2, 0)
    cover = small[..., 3:].numpy()
    color = small[..., :3].numpy() / np.where(cover > 0, cover, 1)
    seen = np.where(cover > 0, srgb_from_linear(color), 1.0)
    levels: UInt8[np.ndarray, "256 256 4"] = np.round(
        np.concatenate([seen, cover], axis=-1) * 255
    ).astype(np.uint8)
    return levels


def _read_exr(folder: Path, view: int, stem: str) -> Float32[np.ndarray, "H W 4"]:
    try:
        import OpenEXR
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "reading RTMV needs OpenEXR: pip install 'zero123[eval]'"
        ) from missing
    try:
        channels = OpenEXR.File(str(folder / f"{stem}.exr")).channels()
        if "RGBA" not in channels:
            raise ValueError(f"it holds {', '.join(sorted(channels))}, not RGBA")
    except (OSError, RuntimeError, ValueError) as problem:
        raise DataError(Fault(folder.name, view, f"picture: {problem}")) from problem
    pixels: Float32[np.ndarray, "H W 4"] = np.nan_to_num(channels["RGBA"].pixels.astype(np.float32))
    return pixels
