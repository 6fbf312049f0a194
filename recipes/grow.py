"""A larger denoiser that says exactly what a smaller one says, until it is trained.

What has learnt all that it can hold need not start anew: layers and attention are added that at
first do nothing, for the last layer of each is zero.

Source: Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", 2016.
"""

import re

import torch
from diffusers import UNet2DConditionModel
from torch import nn

_SILENT = {
    "resnets": ("conv2",),
    "attentions": ("proj_out",),
    "transformer_blocks": ("attn1.to_out.0", "attn2.to_out.0", "ff.net.2"),
}
"""Of each kind of layer, what gives its word: without it only its input is left."""
_PLACE = re.compile(r"^(up_blocks\.\d+\.(?:resnets|attentions)\.)(\d+)(\..*)$")


@torch.no_grad()
def grown(small: UNet2DConditionModel, large: UNet2DConditionModel) -> UNet2DConditionModel:
    """Write a denoiser into a larger one of the same widths.

    The larger may have more layers in a block, more transformer blocks in an attention, and
    attention in more blocks.

    Args:
        small: has learnt.
        large: with fresh weights; it is written to.

    Returns:
        The larger one.

    Raises:
        ValueError: if the larger one has no place for something, such as for other widths.
    """
    more = large.config.layers_per_block - small.config.layers_per_block
    kept = {_place(name, more): tensor for name, tensor in small.state_dict().items()}
    fresh = large.state_dict()
    lost = [name for name in kept if name not in fresh or fresh[name].shape != kept[name].shape]
    if more < 0 or lost:
        raise ValueError(f"the larger denoiser has no place for {lost[0] if lost else 'a layer'}")
    added: list[str] = []
    for name, layer in large.named_modules():
        kind = name.split(".")[-2] if "." in name else ""
        is_new = not any(old.startswith(f"{name}.") for old in kept)
        if kind in _SILENT and is_new and not name.startswith(tuple(added)):
            added.append(f"{name}.")
            for last in _SILENT[kind]:
                _silence(layer.get_submodule(last))
            if kind == "resnets" and layer.conv_shortcut is not None:
                _pass_on(layer.conv_shortcut)
    large.load_state_dict(fresh | kept)
    return large


def _place(name: str, more: int) -> str:
    """Where a tensor goes. Of a block that goes up, the first layer takes what comes from below.

    The others take what the way down left at the same size, in reverse: so the last of them stay
    the last.
    """
    found = _PLACE.match(name)
    if found is None or found[2] == "0":
        return name
    return f"{found[1]}{int(found[2]) + more}{found[3]}"


def _silence(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _pass_on(shortcut: nn.Conv2d) -> None:
    """Pass what comes from below on, without what the way down left."""
    nn.init.dirac_(shortcut.weight)
    if shortcut.bias is not None:
        nn.init.zeros_(shortcut.bias)
