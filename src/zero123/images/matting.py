"""Which pixels are the object: the file's own word, a background remover, or a plain backdrop."""

import socket
import threading
import warnings
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zero123.images.errors import ImageError
from zero123.images.plain import key_plain_background
from zero123.images.read import Photo

MatteMethod = Literal["auto", "alpha", "rembg", "plain"]
"""How an object is cut out; see `matte`."""

REMBG_MODEL = "isnet-general-use"
"""rembg's own general model is free for non-commercial use only; this one is Apache-2.0."""

_MODELS_COME_FROM = "github.com"
_PATIENCE = 3.0  # seconds until a network that does not answer counts as none


class MatteWarning(UserWarning):
    """The object was cut out in another way than the best one; the message says why."""


class _RemoverMissingError(ImageError):
    """The background remover, or its model, is not to be had."""


def matte(
    photo: Photo, method: MatteMethod = "auto", model: str = REMBG_MODEL
) -> Float[Tensor, "4 H W"]:
    """Cut the object out of its photo.

    Args:
        photo: as `read_image` gives it.
        method: ``"alpha"`` keeps the file's own transparency; ``"rembg"`` asks the background
            remover (the extra ``matte``; it downloads its model once); ``"plain"`` removes a
            background of one colour; ``"auto"`` takes the first of these three that can work.
        model: one of rembg's, by name; used by ``"rembg"`` and ``"auto"``.

    Returns:
        Straight-alpha pixels in [0, 1].

    Raises:
        ImageError: if the method cannot work on this photo, or on this computer.
    """
    if method == "alpha" or (method == "auto" and _is_cut_out(photo)):
        return _by_alpha(photo)
    if method == "rembg":
        return _by_rembg(photo, model)
    if method == "auto" and _is_remover_installed():
        try:
            return _by_rembg(photo, model)
        except _RemoverMissingError as error:
            warnings.warn(
                f"{error}; for now the background is taken to be plain", MatteWarning, stacklevel=2
            )
    return key_plain_background(_on_white(photo))


def _is_cut_out(photo: Photo) -> bool:
    return photo.has_alpha and bool((photo.rgba[3] < 0.5).any())


def _by_alpha(photo: Photo) -> Float[Tensor, "4 H W"]:
    if not _is_cut_out(photo):
        raise ImageError(
            "the picture has no transparent background: save the cut-out object as a PNG with "
            "transparency, or choose another way to cut it out"
        )
    return photo.rgba


def _by_rembg(photo: Photo, model: str) -> Float[Tensor, "4 H W"]:
    if not _is_remover_installed():
        raise _RemoverMissingError(
            "removing the background needs rembg: pip install 'zero123[matte]'"
        )
    session = _rembg_session(model)
    import rembg

    rgb = _on_white(photo)
    picture = Image.fromarray((rgb * 255).round().byte().permute(1, 2, 0).numpy())
    mask = np.array(rembg.remove(picture, session=session, only_mask=True).convert("L"))
    return torch.cat([rgb, torch.from_numpy(mask).float()[None] / 255])


def _is_remover_installed() -> bool:
    # rembg without its "cpu" extra ends the whole process when imported
    return find_spec("rembg") is not None and find_spec("onnxruntime") is not None


@lru_cache(maxsize=1)
def _rembg_session(model: str) -> Any:
    import rembg
    from rembg.sessions.base import BaseSession

    homes = [BaseSession.u2net_home()]
    if hasattr(BaseSession, "legacy_home"):
        homes.append(BaseSession.legacy_home())
    on_disk = any(any(Path(home).rglob(f"{model}.onnx")) for home in homes)
    missing = _RemoverMissingError(
        f"rembg's model {model!r} is not on this computer and cannot be downloaded now: "
        "connect to the internet once, or cut the object out yourself"
    )
    if not on_disk and not _is_online():
        raise missing
    try:
        return rembg.new_session(model)
    except OSError as error:
        raise missing from error
    except ValueError as error:
        raise ImageError(f"rembg cannot use the model {model!r}: {error}") from error


def _is_online() -> bool:
    """Whether the models' server, or the proxy towards it, answers within a few seconds."""
    proxy = getproxies().get("https", _MODELS_COME_FROM)
    door = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    answered = threading.Event()

    def knock() -> None:
        try:
            socket.create_connection((door.hostname, door.port or 443), _PATIENCE).close()
        except OSError:
            return
        answered.set()

    # in a thread, because looking up a name knows no time limit
    visitor = threading.Thread(target=knock, daemon=True)
    visitor.start()
    visitor.join(_PATIENCE)
    return answered.is_set()


def _on_white(photo: Photo) -> Float[Tensor, "3 H W"]:
    rgb, alpha = photo.rgba[:3], photo.rgba[3:]
    return rgb * alpha + (1 - alpha) if photo.has_alpha else rgb
