"""Files and folders that are whole or not there: made on a bench beside their place."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from zero123.weights.components import WeightsError


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield where to make a file or folder; it comes to ``target`` when all went well.

    Until then, and if not, whatever was at ``target`` stays.

    Raises:
        WeightsError: the disk is full or refuses; nothing is left behind.
    """
    bench: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        bench = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield bench / target.name
        if target.is_dir():  # a folder cannot be renamed over one that holds something
            target.rename(bench / "before")
        (bench / target.name).replace(target)
    except OSError as failure:
        reason = failure.strerror or failure
        raise WeightsError(f"{target}: not written, and nothing left behind: {reason}") from failure
    finally:
        if bench:
            if (bench / "before").exists() and not target.exists():  # stopped between two renames
                (bench / "before").rename(target)
            shutil.rmtree(bench, ignore_errors=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, or in the ``.ckpt`` form that the original loads.

    Raises:
        OSError: the disk is full or refuses.
    """
    own = {name: _own(tensor) for name, tensor in tensors.items()}
    try:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(own, path, metadata={"format": "pt"})
        else:
            # torch tells the reason of a failure only through a file that Python opened
            with path.open("wb") as file:
                torch.save({"state_dict": own}, file)
    except (RuntimeError, SafetensorError) as failure:
        raise OSError(str(failure.__context__ or failure)) from failure


def _own(tensor: Tensor) -> Tensor:
    """Detach a tensor from what it may be a window on, the whole file that it came from."""
    here = tensor.detach().cpu().contiguous()
    return here if here.untyped_storage().nbytes() == here.nbytes else here.clone()
