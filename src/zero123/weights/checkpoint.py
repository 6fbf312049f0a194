"""Files of tensors -> tensors by name, whoever wrote the file: nothing in it is ever run."""

import pickle
import pickletools
import re
import struct
import threading
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

from zero123.weights.components import WeightsError

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")


@dataclass(frozen=True)
class RawCheckpoint:
    """Everything that a file tells about a model."""

    path: Path
    tensors: Mapping[str, Tensor]
    """By the names in the file; mapped from the disk, so only what is used is read."""
    config: Mapping[str, object]
    """The training configuration that lay beside the file; empty without one."""


class _Inert:
    """Stands for a training class of which a checkpoint mentions the name."""

    def __init__(self, *values: object) -> None:
        """Forget everything."""


# numpy's maker of scalars, whose home numpy 2 has moved
_SCALAR = np.float64(0).__reduce__()[0]
# Lightning keys its callbacks by a class; the numbers it logs are numpy's
HARMLESS: list[Any] = [
    *(
        (_Inert, f"{package}.callbacks.{home}ModelCheckpoint")
        for package in ("pytorch_lightning", "lightning.pytorch")
        for home in ("model_checkpoint.", "")
    ),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (np.dtype, "numpy.dtype"),
    *(
        (kind, f"numpy.dtypes.{kind.__name__}")
        for kind in (type(np.dtype(name)) for name in ("float64", "float32", "int64"))
    ),
]
"""What a checkpoint may mention beyond torch's own list: each opens as something without power."""

_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
_turn = threading.Lock()


def read_checkpoint(path: Path) -> RawCheckpoint:
    """Read a checkpoint of any of the usual kinds, and the configuration beside it.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or wants to run code.
    """
    return RawCheckpoint(path, read_tensors(path), _read_config(path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or ``torch.save`` file; what it is decides the content.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or wants to run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as unreadable:
        raise WeightsError(f"{path}: {unreadable.strerror or unreadable}") from unreadable
    if not start:
        raise WeightsError(f"{path}: the file is empty")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: only a Git LFS pointer, not the weights; run: git lfs pull")
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    raise WeightsError(f"{path}: neither a safetensors nor a torch.save file; {_look(start)}")


def _look(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, perhaps of a failed download"
    printable = all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start)
    return "it is a text" if printable else "damaged?"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except _DAMAGE as damage:
        raise WeightsError(f"{path}: damaged safetensors file ({damage})") from damage


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        zipped = _check_archive(path)
        # safe_globals is one list for the process: two threads must not undo each other's
        with _turn, torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: refused or fine, both said
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except _DAMAGE as failure:
        raise WeightsError(_explain(path, failure)) from failure
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _check_archive(path: Path) -> bool:
    """Tell the zip archives of today's ``torch.save`` from its older plain pickles."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "data.pkl" not in names or "constants.pkl" in names:
        what = "a TorchScript program" if "constants.pkl" in names else "another zip archive"
        raise ValueError(f"this is {what}, not the tensors of torch.save")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        # a few bytes could unfold to more than the memory
        raise ValueError("its entries are compressed, which torch.save never does")
    return True


def _explain(path: Path, failure: BaseException) -> str:
    said = re.search(r"GLOBAL (\S+)", str(failure))
    refused = said[1] if said else None
    if refused is None and isinstance(failure, pickle.UnpicklingError):
        refused = _first_suspect(path)
    if refused:
        return (
            f"{path}: refused, and nothing was run: its pickle asks for {refused!r}, "
            "which no weights need"
        )
    reason = next(iter(str(failure).splitlines()), "") or type(failure).__name__
    return f"{path}: cannot be read as tensors, perhaps cut short ({reason})"


def _first_suspect(path: Path) -> str | None:
    """Find what a pickle would call, by reading its instructions without following them."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                with archive.open(name) as instructions:
                    return _suspect_in(instructions)
        with path.open("rb") as file:
            # the older format puts three short pickles before the one of the content
            return next(filter(None, (_suspect_in(file) for _ in range(4))), None)
    except _DAMAGE:
        return None


def _suspect_in(file: IO[bytes]) -> str | None:
    texts: list[str] = []
    for code, value, _ in islice(pickletools.genops(file), 100_000):
        if code.name == "GLOBAL":
            name = str(value).replace(" ", ".", 1)
        elif code.name == "STACK_GLOBAL":
            name = ".".join(texts[-2:])
        else:
            texts += [value] if isinstance(value, str) else []
            continue
        if not name.startswith(("torch.", "collections.", "numpy.")):
            return name
    return None


def dig(config: object, *names: str) -> Mapping[str, object]:
    """Follow names into nested mappings; empty where one of them is not there."""
    for name in names:
        config = config.get(name) if isinstance(config, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def _read_config(path: Path) -> Mapping[str, object]:
    """Read the YAML of the same name, or the only one in the folder if it describes a UNet."""
    beside = sorted(p for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    named = [p for p in beside if p.stem == path.stem]
    if not named and len(beside) != 1:
        return {}
    file = (named or beside)[0]
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not dig(config, "model", "params", "unet_config"):
            raise ValueError("it has no unet_config")
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as unfit:
        if not named:
            return {}  # some other program's
        reason = str(unfit).partition("\n")[0]
        raise WeightsError(f"{file}: not the configuration of a training ({reason})") from unfit
    return dig(config)
