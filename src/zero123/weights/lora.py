"""Adapters: what a short training adds to a model, in a file of its own.

The UNet's part lies in it as diffusers and peft name it, ``unet.MODULE.lora_A.weight``, so that
``unet.load_lora_adapter(FILE, prefix="unet")`` of diffusers reads it too; beside it the pose
projection, which is trained whole, and a few weights that tell for which model it was made.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from zero123.files import written_whole
from zero123.weights.checkpoint import read_tensors
from zero123.weights.components import Components, WeightsError, complain
from zero123.weights.writing import write_tensors

TARGETS = r".*\.(attn1\.to_q|attn1\.to_k|to_v|to_out\.0|proj_in|proj_out)"
"""Linear layers of the attention. Not query and key of the cross-attention: it looks at one token,
so that its softmax is 1 whatever they say."""

_MARK = "base"
_FACTOR = re.compile(r"unet\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_PROJECTION = "cc_projection."
_ALIKE = 0.01  # bfloat16 rounds by 0.4 %; of thousands of trained weights none stays within


def add_lora(unet: UNet2DConditionModel, rank: int) -> None:
    """Put adapters that do nothing yet on a UNet's attention, in place; only they are to learn.

    Raises:
        ModuleNotFoundError: peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "training adapters needs peft: pip install 'zero123[train]'"
        ) from missing
    # a scale of alpha / rank = 1: the file needs no note of it
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))


def save_lora(parts: Components, path: Path) -> None:
    """Write the adapters of a trained model and its pose projection.

    Args:
        parts: with the adapters of :func:`add_lora` on the UNet.
        path: a ``.safetensors`` file; one that is there is replaced.

    Raises:
        WeightsError: there are no adapters.
        OSError: the disk is full or refuses; nothing has changed then.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: an adapter is a .safetensors file")
    tensors = {
        f"unet.{name.replace('.default.', '.')}": tensor.float()
        for name, tensor in parts.unet.state_dict().items()
        if ".lora_" in name
    }
    if not tensors:
        raise WeightsError(f"{path}: not written, for the model has no adapters")
    whole = parts.projection.state_dict()
    tensors |= {f"{_PROJECTION}{name}": tensor for name, tensor in whole.items()}
    tensors[_MARK] = _mark(parts.unet)
    config = parts.unet.peft_config["default"]
    told = {
        "unet.r": config.r,
        "unet.lora_alpha": config.lora_alpha,
        "unet.target_modules": config.target_modules,
    }
    notes = {"lora_adapter_metadata": json.dumps(told), "base_model": parts.settings.name or ""}
    with written_whole(path) as partial:
        write_tensors(partial, tensors, notes)


def apply_lora(parts: Components, path: Path) -> None:
    """Add an adapter file to a model, in place: as fast as without it, and ready to be saved.

    Args:
        parts: the model that the adapter was trained on, in any precision.
        path: as :func:`save_lora` wrote it.

    Raises:
        WeightsError: the file is damaged or no adapter of Zero-1-to-3, or it was trained on
            another model; nothing has changed then.
    """
    tensors = read_tensors(path)
    factors = _factors(tensors, path)
    _check_base(parts, tensors, path)
    weights = {
        module: weight
        for name, weight in parts.unet.state_dict().items()
        if (module := name.removesuffix(".weight")) in factors
    }
    projection = parts.projection.state_dict()
    given = {
        name.removeprefix(_PROJECTION): tensor
        for name, tensor in tensors.items()
        if name.startswith(_PROJECTION)
    }
    complain(
        str(path),
        {
            "unknown": [*(factors.keys() - weights.keys()), *(given.keys() - projection.keys())],
            "missing": [name for name in projection if name not in given],
            "misshapen": [
                *(module for module in weights if not _fits(weights[module], *factors[module])),
                *(n for n in given if n in projection and given[n].shape != projection[n].shape),
            ],
        },
    )
    with torch.no_grad():
        for module, weight in weights.items():
            down, up = factors[module]
            change = up.flatten(1).float() @ down.flatten(1).float()
            weight.copy_(weight.float() + change.view_as(weight))
        for name, tensor in projection.items():
            tensor.copy_(given[name])


def _factors(tensors: Mapping[str, Tensor], path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The two factors of each module's change, by the module's name."""
    found = [(name, m) for name in tensors if (m := _FACTOR.fullmatch(name))]
    odd = tensors.keys() - {name for name, _ in found} - {_MARK}
    others = [name for name in odd if not name.startswith(_PROJECTION)]
    if not found or others or _MARK not in tensors:
        reason = (
            "an adapter, but of another kind of model"
            if any("lora" in name for name in tensors)
            else f"it holds {', '.join(sorted(others)[:3]) or 'no factors'}"
        )
        raise WeightsError(f"{path}: no adapter of Zero-1-to-3 ({reason})")
    sides: dict[str, dict[str, Tensor]] = {}
    for name, match in found:
        sides.setdefault(match["module"], {})[match["side"]] = tensors[name]
    complain(str(path), {"without its other half": [m for m, s in sides.items() if len(s) != 2]})
    return {module: (side["A"], side["B"]) for module, side in sides.items()}


def _check_base(parts: Components, tensors: Mapping[str, Tensor], path: Path) -> None:
    mine, noted = _mark(parts.unet), tensors[_MARK]
    if mine.shape == noted.shape and torch.allclose(mine, noted, rtol=_ALIKE, atol=1e-7):
        return
    name = _notes(path).get("base_model")
    raise WeightsError(
        f"{path}: this adapter was trained on another model{f', {name!r}' * bool(name)}, and fits "
        "no other"
    )


def _notes(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError:  # the same tensors in a torch.save file, which has no notes
        return {}


def _mark(unet: UNet2DConditionModel) -> Float[Tensor, "c 3 3"]:
    """Some weights that adapters leave alone and every training moves."""
    mark: Tensor = unet.conv_out.weight[0].detach().float()
    return mark


def _fits(weight: Tensor, down: Tensor, up: Tensor) -> bool:
    return (
        min(down.ndim, up.ndim) >= 2
        and down.shape[0] == up.flatten(1).shape[1]
        and (up.shape[0], down[0].numel()) == (weight.shape[0], weight[0].numel())
    )
