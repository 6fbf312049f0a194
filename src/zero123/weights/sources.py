"""Where a model comes from: the bundled ones, a folder, a checkpoint file, or the hub."""

import logging
import re
import socket
import threading
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from zero123.geometry import PoseEncoding
from zero123.weights.checkpoint import SUFFIXES, read_checkpoint
from zero123.weights.components import Components, Settings, WeightsError
from zero123.weights.folders import INDEX, load_folder, needed_files, settings_in
from zero123.weights.manifest import MANIFEST, verify
from zero123.weights.original import Choice, from_original

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "bundled"
"""Models that come with the package."""

ANSWER_WITHIN = 1.5
"""Seconds to wait for a first sign of life from the hub."""

# hub 0.x speaks through requests, 1.x through httpx, 2.x through httpx2: the bases of its own
# error are what all of them raise
HUB_FAILURES: tuple[type[Any], ...] = (HFValidationError, OSError, *HfHubHTTPError.__bases__)

INSTEAD = (
    "use the bundled model 'mini', or download the files elsewhere and give their folder or file"
)


STABLE = re.compile(r"stable[-_ ]?zero[-_ ]?(123|1to3)", re.IGNORECASE)
PLAIN = re.compile(r"zero[-_ ]?(123|1to3)|\b(105000|165000)\.ckpt$", re.IGNORECASE)
"""Names that tell which pose encoding a published model was trained with."""


@dataclass(frozen=True)
class BundledModel:
    """A model that comes with the package."""

    name: str
    licence: str
    num_bytes: int


def bundled_models() -> tuple[BundledModel, ...]:
    """List the models that come with the package."""
    return tuple(
        BundledModel(
            name=folder.name,
            licence=settings_in(folder).get("licence", "not said"),
            num_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        )
        for folder in _bundled_folders()
    )


def open_model(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    weights: Choice = "ema",
    pose_encoding: PoseEncoding | None = None,
) -> Components:
    """Load a model, wherever it comes from.

    Args:
        source: the name of a bundled model (``mini``); a folder as diffusers writes it; an
            original checkpoint file; or on the hub a model (``owner/name``) or a checkpoint in
            one (``owner/name/105000.ckpt``).
        dtype: of the networks; the pose projection stays float32.
        weights: of the two UNets in an original checkpoint, ``ema`` takes the moving average if
            there is one, ``raw`` the last. A folder holds only one.
        pose_encoding: what the pose numbers mean. When not given: what the folder says,
            else what the name tells, else that of Zero-1-to-3 and a warning.

    Raises:
        WeightsError: one sentence that says what is wrong and what to do.
    """
    try:
        place, names = find(source)
        return _open(place, names, dtype, weights, pose_encoding)
    except OSError as unreadable:
        raise WeightsError(f"{source}: {unreadable.strerror or unreadable}") from unreadable


def _open(
    place: Path,
    names: tuple[str, ...],
    dtype: torch.dtype,
    weights: Choice,
    pose_encoding: PoseEncoding | None,
) -> Components:
    if place.is_file():
        raw = read_checkpoint(place)
        settings = Settings(_choose_encoding(pose_encoding, None, names))
        return from_original(raw, settings, dtype=dtype, weights=weights)
    if place.parent == BUNDLED:
        verify(place, remedy="reinstall it: pip install --force-reinstall --no-deps zero123")
    elif (place / MANIFEST).is_file():
        verify(place)
    told = settings_in(place)
    told["pose_encoding"] = _choose_encoding(pose_encoding, told.get("pose_encoding"), names)
    return load_folder(place, Settings(**told), dtype=dtype)


def _bundled_folders() -> list[Path]:
    return sorted(path for path in BUNDLED.glob("[!_.]*") if path.is_dir())


def find(source: str | Path) -> tuple[Path, tuple[str, ...]]:
    """Find the folder or file of a source, and the names that may tell what it is.

    Raises:
        WeightsError: there is none, or it could not be downloaded.
    """
    text, path = str(source), Path(source).expanduser()
    if isinstance(source, str) and text in [folder.name for folder in _bundled_folders()]:
        return BUNDLED / text, (text,)
    if path.exists():
        path = path.absolute()
        return path, (path.name, path.parent.name)
    on_hub = re.fullmatch(r"(\w[\w.-]*/[\w.-]+)(?:/(.+))?", text)
    # two words that end like a checkpoint are a path; three are one on the hub
    if isinstance(source, str) and on_hub and (on_hub[2] is not None) == text.endswith(SUFFIXES):
        return _fetch(on_hub[1], on_hub[2]), (text,)
    bundled = ", ".join(repr(folder.name) for folder in _bundled_folders()) or "none in this copy"
    raise WeightsError(
        f"{text}: no such file or folder. A model is the name of a bundled one ({bundled}), a "
        f"folder with a {INDEX}, a checkpoint file ({', '.join(SUFFIXES)}), or owner/name on the "
        "hub, with /file.ckpt for a checkpoint there"
    )


def _choose_encoding(
    asked: PoseEncoding | None, told: PoseEncoding | None, names: tuple[str, ...]
) -> PoseEncoding:
    known = asked or told
    if known:
        return known
    for name in names:
        if STABLE.search(name):
            return "stable-zero123"
        if PLAIN.search(name):
            return "zero123"
    logger.warning(
        "%s: nothing tells what its fourth pose number means; taken for the change of distance, "
        "as in Zero-1-to-3. If this is a Stable-Zero123, say pose_encoding='stable-zero123'",
        names[0],
    )
    return "zero123"


def _fetch(repository: str, file: str | None) -> Path:
    """Find a model's folder, or a file, on the hub or in its local cache; download what is new."""
    what = f"{repository}/{file}" if file else repository
    try:
        if constants.HF_HUB_OFFLINE or not _hub_answers():
            folder = _cached(repository, file or INDEX)
            state = "is switched off" if constants.HF_HUB_OFFLINE else "cannot be reached"
            if folder is None:
                raise WeightsError(f"{what}: not on this disk, and the hub {state}; {INSTEAD}")
        else:
            folder = _download(repository, file)
    except RepositoryNotFoundError as missing:
        raise WeightsError(f"{what}: the hub has no such model, or it is private") from missing
    except HUB_FAILURES as failure:
        reason = str(failure).partition("\n")[0]
        raise WeightsError(f"{what}: not downloaded ({reason}); {INSTEAD}") from failure
    return folder / file if file else folder


def _cached(repository: str, file: str) -> Path | None:
    found = huggingface_hub.try_to_load_from_cache(repository, file)
    return Path(found.removesuffix(file)) if isinstance(found, str) else None


def _download(repository: str, file: str | None) -> Path:
    """Download just what is read: no second precision, no safety checker, no code."""
    about = huggingface_hub.HfApi().model_info(repository, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    names = [sibling.rfilename for sibling in about.siblings or []]
    if (file or INDEX) not in names:
        checkpoints = [f"{repository}/{name}" for name in names if name.endswith(SUFFIXES)]
        raise WeightsError(
            f"{repository}: the hub's model has no {file or INDEX}; its checkpoints: "
            f"{', '.join(checkpoints[:5]) or 'none'}"
        )
    beside = [file, str(Path(file).with_suffix(".yaml"))] if file else []
    wanted = [name for name in beside if name in names] or needed_files(names)
    return Path(huggingface_hub.snapshot_download(repository, allow_patterns=wanted))


def _hub_answers() -> bool:
    """Knock at the hub's door, or its proxy's; name look-ups have no time-out of their own."""
    target = urllib.parse.urlsplit(constants.ENDPOINT)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    address = (target.hostname or "", target.port or (443 if target.scheme == "https" else 80))
    opened: list[bool] = []

    def knock() -> None:
        with suppress(OSError), socket.create_connection(address, timeout=ANSWER_WITHIN):
            opened.append(True)

    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(ANSWER_WITHIN)
    return bool(opened)
