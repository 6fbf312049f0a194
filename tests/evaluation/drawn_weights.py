"""Weights drawn from a seed: networks can be compared without their published files."""

import json
from pathlib import Path

import torch
from torch import Tensor


def pictures(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(7))


def _drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * 1.4 / shape_fan(shape) ** 0.5
        for name, shape in shapes.items()
    }


def shape_fan(shape: list[int]) -> int:
    fan = 1
    for side in shape[1:]:
        fan *= side
    return fan


def inception_weights() -> dict[str, Tensor]:
    text = (Path(__file__).parent / "inception_shapes.json").read_text(encoding="utf-8")
    shapes: dict[str, list[int]] = json.loads(text)
    weights = {f"{name}.conv.weight": w for name, w in _drawn(shapes).items()}
    generator = torch.Generator().manual_seed(1)
    for name, shape in shapes.items():
        for part in ("weight", "running_var"):
            weights[f"{name}.bn.{part}"] = torch.rand(shape[0], generator=generator) + 0.5
        for part in ("bias", "running_mean"):
            weights[f"{name}.bn.{part}"] = torch.randn(shape[0], generator=generator) * 0.1
    return weights


def shift_tolerant_weights() -> dict[str, Tensor]:
    shapes = {
        "net.slice1.0.weight": [64, 3, 11, 11],
        "net.slice2.5.weight": [192, 64, 5, 5],
        "net.slice3.9.weight": [384, 192, 3, 3],
        "net.slice4.11.weight": [256, 384, 3, 3],
        "net.slice5.13.weight": [256, 256, 3, 3],
    }
    weights = _drawn(shapes)
    for number, (name, shape) in enumerate(shapes.items()):
        weights[name.replace("weight", "bias")] = torch.full((shape[0],), 0.05)
        weights[f"lin{number}.model.1.weight"] = torch.full((1, shape[0], 1, 1), 1 / shape[0])
    return weights
