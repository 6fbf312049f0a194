"""Fréchet and kernel distances between two sets of pictures, in features of a trained network."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from zero123.evaluation.backbones import EFFICIENTNET_LITE0, INCEPTION, BackboneMissing, Backbones
from zero123.evaluation.metrics import Metric
from zero123.evaluation.run import FeatureNet, SetMetric

Weights = Mapping[str, Tensor]
_BATCH = 8  # pictures


def frechet_distance(truth: Float32[np.ndarray, "n d"], made: Float32[np.ndarray, "m d"]) -> float:
    """Fréchet distance between the Gaussians of the same means and covariances; torchmetrics'.

    Source: Heusel et al. 2017.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(truth.shape[1])).set_dtype(torch.float64)
    metric.update(torch.from_numpy(truth).double(), real=True)
    metric.update(torch.from_numpy(made).double(), real=False)
    return float(metric.compute())


def kernel_distance(truth: Float32[np.ndarray, "n d"], made: Float32[np.ndarray, "m d"]) -> float:
    """Unbiased squared MMD with the kernel (x·y/d + 1)³, all pictures in one block; torchmetrics'.

    Sets of different sizes are cut to the smaller. Unbiased means that equal sets may come out a
    little below zero.

    Source: Bińkowski et al. 2018.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    count = min(len(truth), len(made))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(
            feature=_Given(truth.shape[1]), subsets=1, subset_size=count
        ).set_dtype(torch.float64)
    metric.update(torch.from_numpy(truth[:count]).double(), real=True)
    metric.update(torch.from_numpy(made[:count]).double(), real=False)
    mean, _ = metric.compute()
    return float(mean)


def inception_features(backbones: Backbones) -> FeatureNet:
    """The network of the original FID, converted from TensorFlow: its 64 and its 2048 features.

    Raises:
        BackboneMissing: without its weights, or without torchmetrics.
    """
    weights = backbones.load(INCEPTION)
    _need_torchmetrics()
    told = "of the first sample of every view and of all targets, Inception 2015-12-05"
    return FeatureNet(
        extract=_extractor(lambda pictures: inception(pictures, weights)),
        metrics=(
            _metric("FID (64)", f"first max-pooling layer, {told}", "64", frechet_distance),
            _metric("FID (2048)", f"last average-pooling layer, {told}", "2048", frechet_distance),
            _metric("KID (2048)", f"the same layer, one block, {told}", "2048", kernel_distance),
        ),
    )


def efficientnet_features(backbones: Backbones) -> FeatureNet:
    """EfficientNet-lite0, trained on ImageNet: its 1280 pooled features.

    Raises:
        BackboneMissing: without its weights, or without torchmetrics.
    """
    weights = backbones.load(EFFICIENTNET_LITE0)
    _need_torchmetrics()
    told = "first sample of every view and all targets at 224 px, 1280 features; not FID, not KID"
    name = "EfficientNet-lite0"
    return FeatureNet(
        extract=_extractor(lambda pictures: efficientnet_lite0(pictures, weights)),
        metrics=(
            _metric(f"Fréchet distance, {name}", told, "1280", frechet_distance),
            _metric(f"kernel distance, {name}", told, "1280", kernel_distance),
        ),
    )


@torch.no_grad()
def inception(x: Float[Tensor, "n 3 H W"], weights: Weights) -> dict[str, Tensor]:
    """Features of pictures in [0, 255].

    Source: the layers, paddings and the resize of the TensorFlow graph ``inception-2015-12-05``,
    under torch-fidelity's names of weights.
    """

    def conv(x: Tensor, name: str, stride: int = 1, same: bool = True) -> Tensor:
        kernel = weights[f"{name}.conv.weight"]
        pad = [side // 2 if same and stride == 1 else 0 for side in kernel.shape[2:]]
        x = functional.conv2d(x, kernel, None, stride, pad)
        return functional.relu(_normalised(x, weights, f"{name}.bn"))

    def chained(x: Tensor, names: Sequence[str], last_stride: int = 1) -> Tensor:
        for name in names[:-1]:
            x = conv(x, name)
        return conv(x, names[-1], last_stride)

    def average(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def widest(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 1, 1)

    def wide(x: Tensor, block: str, towers: Sequence[Sequence[str]]) -> Tensor:
        made = [chained(x, [f"{block}.{name}" for name in tower]) for tower in towers]
        return torch.cat([*made, conv(average(x), f"{block}.branch_pool")], dim=1)

    def halving(x: Tensor, block: str, towers: Sequence[Sequence[str]]) -> Tensor:
        made = [chained(x, [f"{block}.{name}" for name in tower], 2) for tower in towers]
        return torch.cat([*made, functional.max_pool2d(x, 3, 2)], dim=1)

    def forked(x: Tensor, block: str, pool: Callable[[Tensor], Tensor]) -> Tensor:
        single = conv(x, f"{block}.branch3x3_1")
        double = chained(x, [f"{block}.branch3x3dbl_1", f"{block}.branch3x3dbl_2"])
        return torch.cat(
            [
                conv(x, f"{block}.branch1x1"),
                *(conv(single, f"{block}.branch3x3_2{fork}") for fork in "ab"),
                *(conv(double, f"{block}.branch3x3dbl_3{fork}") for fork in "ab"),
                conv(pool(x), f"{block}.branch_pool"),
            ],
            dim=1,
        )

    def numbered(name: str, count: int) -> list[str]:
        return [f"{name}_{number}" for number in range(1, count + 1)]

    x = (_resized_as_tensorflow(x, 299) - 128) / 128
    x = conv(x, "Conv2d_1a_3x3", 2)
    x = conv(x, "Conv2d_2a_3x3", same=False)
    x = conv(x, "Conv2d_2b_3x3")
    x = functional.max_pool2d(x, 3, 2)
    early = x.mean(dim=(2, 3))
    x = conv(x, "Conv2d_3b_1x1")
    x = conv(x, "Conv2d_4a_3x3", same=False)
    x = functional.max_pool2d(x, 3, 2)
    double = numbered("branch3x3dbl", 3)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = wide(x, block, (["branch1x1"], numbered("branch5x5", 2), double))
    x = halving(x, "Mixed_6a", (["branch3x3"], double))
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = wide(x, block, (["branch1x1"], numbered("branch7x7", 3), numbered("branch7x7dbl", 5)))
    x = halving(x, "Mixed_7a", (numbered("branch3x3", 2), numbered("branch7x7x3", 4)))
    x = forked(x, "Mixed_7b", average)
    x = forked(x, "Mixed_7c", widest)  # an oddity of that graph, which FID keeps
    return {"64": early, "2048": x.mean(dim=(2, 3))}


@torch.no_grad()
def efficientnet_lite0(x: Float[Tensor, "n 3 H W"], weights: Weights) -> dict[str, Tensor]:
    """Features of pictures in [0, 255].

    Source: Tan and Le 2019, and TensorFlow's "lite" variant: no squeeze-and-excitation, ReLU6.
    """

    def conv(x: Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        x = functional.conv2d(
            _padded_as_tensorflow(x, kernel.shape[-1], stride), kernel, None, stride, 0, 1, groups
        )
        return _normalised(x, weights, norm)

    x = functional.interpolate(x, (224, 224), mode="bicubic", antialias=True, align_corners=False)
    x = functional.relu6(conv((x - 127) / 128, "_conv_stem", "_bn0", 2))
    for number in range(16):
        block, stride = f"_blocks.{number}", 2 if number in (1, 3, 5, 11) else 1
        start = x
        if number > 0:
            x = functional.relu6(conv(x, f"{block}._expand_conv", f"{block}._bn0"))
        x = conv(x, f"{block}._depthwise_conv", f"{block}._bn1", stride, x.shape[1])
        x = conv(functional.relu6(x), f"{block}._project_conv", f"{block}._bn2")
        if stride == 1 and x.shape == start.shape:
            x = x + start
    x = functional.relu6(conv(x, "_conv_head", "_bn1"))
    return {"1280": x.mean(dim=(2, 3))}


class _Given(nn.Module):
    """Stands where torchmetrics wants a network, for features that are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _metric(
    title: str,
    definition: str,
    feature: str,
    distance: Callable[[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]], float],
) -> SetMetric:
    return SetMetric(Metric(title, definition, "lower", 0.0, 3), feature, distance)


def _extractor(
    network: Callable[[Tensor], dict[str, Tensor]],
) -> Callable[[UInt8[np.ndarray, "n H W 3"]], dict[str, Float32[np.ndarray, "n _"]]]:
    def extract(
        pictures: UInt8[np.ndarray, "n H W 3"],
    ) -> dict[str, Float32[np.ndarray, "n _"]]:
        channels_first = rearrange(torch.from_numpy(pictures), "n H W c -> n c H W").float()
        starts = range(0, len(pictures), _BATCH)
        seen = [network(channels_first[start : start + _BATCH]) for start in starts]
        return {name: torch.cat([each[name] for each in seen]).numpy() for name in seen[0]}

    return extract


def _normalised(x: Tensor, weights: Weights, name: str) -> Tensor:
    mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    gain, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return functional.batch_norm(x, mean, var, gain, bias, eps=1e-3)


def _resized_as_tensorflow(x: Tensor, size: int) -> Tensor:
    """Bilinear as TensorFlow 1 does it: the first pixels' corners lie on each other."""
    for dim in (2, 3):
        at = torch.arange(size) * (x.shape[dim] / size)
        low = at.long()
        high = (low + 1).clamp_max(x.shape[dim] - 1)
        share = (at - low).view([-1 if d == dim else 1 for d in range(4)])
        x = torch.lerp(x.index_select(dim, low), x.index_select(dim, high), share)
    return x


def _padded_as_tensorflow(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad so that ``size / stride`` pixels come out; an odd pixel goes right and below."""
    height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
    return functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


def _need_torchmetrics() -> None:
    try:
        import torchmetrics  # noqa: F401
    except ModuleNotFoundError as missing:
        raise BackboneMissing("needs torchmetrics: pip install 'zero123[eval]'") from missing
