"""LPIPS and ST-LPIPS: how far two pictures are apart in the eyes of a trained network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64, UInt8
from torch import Tensor
from torch.nn import functional

from zero123.evaluation.backbones import ALEXNET, STLPIPS_ALEX, VGG16, BackboneMissing, Backbones
from zero123.evaluation.metrics import Judge, Metric, Scorer
from zero123.evaluation.scenes import Scene

Weights = Mapping[str, Tensor]
Trunk = Callable[[Float[Tensor, "n 3 H W"]], Sequence[Tensor]]
"""From pictures, shifted and scaled, to five layers of features, each (n, c, h, w)."""

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What LPIPS takes off pictures in [-1, 1], and divides them by, per channel."""


def lpips(network: str, backbones: Backbones) -> Judge:
    """Learned perceptual image patch similarity, version 0.1, linear heads as published.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features", 2018; the heads are
    those that torchmetrics carries.

    Args:
        network: "alex" or "vgg".
        backbones: where the weights of the network lie.

    Raises:
        BackboneMissing: without them, or without torchmetrics.
    """
    weights = backbones.load({"alex": ALEXNET, "vgg": VGG16}[network])
    try:
        folder = resources.files("torchmetrics") / "functional" / "image" / "lpips_models"
    except ModuleNotFoundError as missing:
        raise BackboneMissing("needs torchmetrics: pip install 'zero123[eval]'") from missing
    with resources.as_file(folder / f"{network}.pth") as file:
        heads = torch.load(file, map_location="cpu", weights_only=True)
    trunk = alexnet_trunk if network == "alex" else vgg_trunk
    return _judge(
        f"LPIPS ({network})",
        f"version 0.1, {network}, pictures on white at the size of the targets",
        lambda pictures: trunk(pictures, weights),
        heads,
    )


def stlpips(backbones: Backbones) -> Judge:
    """Shift-tolerant LPIPS on AlexNet: another figure than LPIPS, not to be compared with it.

    Source: Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", 2022.

    Raises:
        BackboneMissing: without its weights.
    """
    weights = backbones.load(STLPIPS_ALEX)
    return _judge(
        "ST-LPIPS (alex)",
        "shift-tolerant LPIPS, not LPIPS: weights vST0.0, alex, pictures on white at the size of "
        "the targets",
        lambda pictures: shift_tolerant_trunk(pictures, weights),
        weights,
    )


def distance(
    made: Sequence[Tensor], truth: Sequence[Tensor], heads: Weights
) -> Float[Tensor, " n"]:
    """Weigh the squared differences of unit features, layer by layer.

    Args:
        made: layers of one or more pictures, as ``unit_layers`` gives them.
        truth: likewise.
        heads: ``linK.model.1.weight``, a weight a channel of layer K.
    """
    total = made[0].new_zeros(len(made[0]))
    for number, (a, b) in enumerate(zip(made, truth, strict=True)):
        weighed = functional.conv2d((a - b) ** 2, heads[f"lin{number}.model.1.weight"])
        total = total + weighed.mean(dim=(1, 2, 3))
    return total


def unit_layers(pictures: Float[Tensor, "n 3 H W"], trunk: Trunk) -> list[Tensor]:
    """The layers that a network sees of pictures in [0, 1], unit length at each place."""
    shift, scale = (pictures.new_tensor(v).view(3, 1, 1) for v in (_SHIFT, _SCALE))
    layers = trunk((2 * pictures - 1 - shift) / scale)
    return [x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in layers]


def alexnet_trunk(x: Float[Tensor, "n 3 H W"], weights: Weights) -> list[Tensor]:
    """The five rectified layers of AlexNet."""
    layers = []
    for number, stride, pad in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
        if number in (3, 6):
            x = functional.max_pool2d(x, 3, 2)
        x = _rectified(x, weights, f"features.{number}", stride, pad)
        layers.append(x)
    return layers


def vgg_trunk(x: Float[Tensor, "n 3 H W"], weights: Weights) -> list[Tensor]:
    """The last rectified layer of VGG-16 at each of its five resolutions."""
    layers: list[Tensor] = []
    for numbers in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        if layers:
            x = functional.max_pool2d(x, 2, 2)
        for number in numbers:
            x = _rectified(x, weights, f"features.{number}", 1, 1)
        layers.append(x)
    return layers


def shift_tolerant_trunk(x: Float[Tensor, "n 3 H W"], weights: Weights) -> list[Tensor]:
    """AlexNet whose strides are blurred: a stride of one, then a blur that skips."""
    first = "net.slice1.0"
    x = functional.conv2d(x, weights[f"{first}.weight"], weights[f"{first}.bias"], padding=2)
    x = functional.relu(_blurred(x))
    layers = [x]
    for name, pad in (("slice2.5", 2), ("slice3.9", 1), ("slice4.11", 1), ("slice5.13", 1)):
        if name in ("slice2.5", "slice3.9"):
            x = _blurred(functional.max_pool2d(x, 3, 1))
        x = _rectified(x, weights, f"net.{name}", 1, pad)
        layers.append(x)
    return layers


def _rectified(x: Tensor, weights: Weights, name: str, stride: int, pad: int) -> Tensor:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return functional.relu(functional.conv2d(x, kernel, bias, stride, pad))


def _blurred(x: Tensor) -> Tensor:
    """Binomial blur at every second pixel, two pixels reflected beyond each edge."""
    channels = x.shape[1]
    row = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row[None]).expand(channels, 1, 3, 3)
    padded = functional.pad(x, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(padded, kernel, stride=2, groups=channels)


def _judge(title: str, definition: str, trunk: Trunk, heads: Weights) -> Judge:
    @torch.no_grad()
    def seen(pictures: UInt8[np.ndarray, "n H W 3"]) -> Iterator[list[Tensor]]:
        channels_first = rearrange(torch.from_numpy(pictures), "n H W c -> n c H W").float() / 255
        return (unit_layers(picture[None], trunk) for picture in channels_first)

    def look_at(scene: Scene) -> Scorer:
        truths = list(seen(scene.on_white))

        @torch.no_grad()
        def score(
            made: UInt8[np.ndarray, "targets H W 3"],
        ) -> Float64[np.ndarray, "metrics targets"]:
            far = [float(distance(x, y, heads)) for x, y in zip(seen(made), truths, strict=True)]
            return np.array([far], np.float64)

        return score

    return Judge((Metric(title, definition, "lower", 0.0, 3),), look_at)
