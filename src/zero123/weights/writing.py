"""Tensors as files that cannot run code, or in the form that the original loads."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, or in the ``.ckpt`` form that the original loads.

    Args:
        path: its ending decides.
        tensors: by name.
        notes: for the header of a safetensors file.

    Raises:
        OSError: the disk is full or refuses.
    """
    own = {name: _own(tensor) for name, tensor in tensors.items()}
    try:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(own, path, metadata={"format": "pt", **(notes or {})})
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
