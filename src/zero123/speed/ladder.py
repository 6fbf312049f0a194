"""Plan after plan beside the plain pipeline: time, memory, and how far the picture moved."""

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from zero123.pipeline import Zero123Pipeline
from zero123.speed.accelerate import accelerate, restore
from zero123.speed.measure import Cost, Sameness, measured
from zero123.speed.peer import Peer
from zero123.speed.plan import PRESETS, Plan, has_openvino, in_bfloat16, preset
from zero123.speed.telling import FastTell

_Plain = TypeVar("_Plain")
_Other = TypeVar("_Other")

_SWITCHES: dict[str, Plan] = {
    "plain": Plan(),
    "written-out attention": Plan(written_out_attention=True),
    "constant attention": Plan(constant_attention=True),
    "constant times": Plan(constant_times=True),
    "constant photo": Plan(constant_photo=True),
    "sub-pixel": Plan(sub_pixel=True),
    "winograd": Plan(winograd=True),
    "fused qkv": Plan(fused_qkv=True),
    "channels-last": Plan(channels_last=True),
    "traced": Plan(engine="traced"),
    "compiled": Plan(engine="compiled"),
    "float16": Plan(dtype="float16"),
    "bfloat16": Plan(dtype="bfloat16"),
    "bfloat16, channels-last": Plan(dtype="bfloat16", channels_last=True),
    "int8 weights": Plan(rounded=True),
}
"""One by one. The first is measured against itself: what differs there is noise."""


def ladder(names: Sequence[str], device: str, tiny_decoder: Path | None = None) -> dict[str, Plan]:
    """The rungs of these names, or all: switches one by one, what is built on exact, presets.

    Args:
        names: which; none for all.
        device: kind that they are for.
        tiny_decoder: folder of a small autoencoder, which is then a rung too.

    Raises:
        ValueError: if there is no such rung.
    """
    exact = preset("exact", device)
    rungs = _SWITCHES | {
        "exact": exact,
        "exact, bfloat16": in_bfloat16(exact),
        "exact, compiled": replace(exact, engine="compiled"),
        "exact, bfloat16, compiled": replace(in_bfloat16(exact), engine="compiled"),
        "exact, guided to 0.7": replace(exact, guided=(0.0, 0.7)),
        "exact, deep every 2": replace(exact, deep_every=2),
        "exact, deep every 3": replace(exact, deep_every=3),
        "exact, dpm++ 20": replace(exact, solver="dpm++", most_steps=20),
        "exact, unipc 10": replace(exact, solver="unipc", most_steps=10),
        **{name: preset(name, device) for name in PRESETS},
    }
    if has_openvino(device):
        rungs |= {
            "openvino": Plan(engine="openvino"),
            "exact, openvino": replace(exact, winograd=False, engine="openvino"),
        }
    if tiny_decoder is not None:
        rungs["exact, tiny decoder"] = replace(exact, tiny_decoder=tiny_decoder)
    for name in names:
        if name not in rungs:
            raise ValueError(f"no rung {name!r}: one of {', '.join(rungs)}")
    return {name: rungs[name] for name in names or rungs}


@dataclass(frozen=True)
class Rung:
    """A plan as measured; each cost stands beside one of the plain pipeline, taken in turn."""

    name: str
    plan: Plan | None
    """As it ran; None for the authors' code."""
    first_seconds: float
    """Of the first call, with all that is compiled or converted."""
    weights_mib: float
    """Of the networks where the work is done."""
    costs: tuple[Cost, ...]
    plain: tuple[Cost, ...]
    sameness: Sameness | None
    """None for the authors' code, whose weights are others."""

    @property
    def memory_mib(self) -> float:
        """Weights, and the most that was needed besides."""
        return self.weights_mib + self.middle("rise_mib")

    def middle(self, figure: str) -> float:
        """Median of a figure of ``Cost``."""
        return float(statistics.median(getattr(cost, figure) for cost in self.costs))

    def times_as_fast(self, figure: str = "seconds") -> float:
        """Median over the pairs of plain over accelerated."""
        pairs = zip(self.plain, self.costs, strict=True)
        return float(statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs))


def climb(
    pipe: Zero123Pipeline,
    rungs: Mapping[str, Plan],
    steps: int,
    repeats: int,
    done: Callable[[str], None] = lambda _: None,
) -> Iterator[Rung]:
    """Measure plans one after the other, each in turn with the plain pipeline.

    Args:
        pipe: plain, in float32, where the work is to be done.
        rungs: plans by their names.
        steps: of the sampler, where a plan does not take fewer.
        repeats: pairs of calls to a rung.
        done: told of each call that is over.
    """
    pipe = twin(pipe)
    pipe.settings = replace(pipe.settings, steps=steps)
    plain_view = _view(pipe)
    plain_view()  # whatever the first call ever has to do
    for name, plan in rungs.items():
        other = twin(pipe)
        tell = accelerate(other, plan).tell
        assert isinstance(tell, FastTell)
        view = _view(other)
        _, first = view()
        done(name)
        plain, switched = _in_turn(plain_view, view, repeats, partial(done, name))
        yield Rung(
            name,
            tell.plan,
            first.seconds,
            _weights_mib(other),
            tuple(cost for _, cost in switched),
            tuple(cost for _, cost in plain),
            Sameness.of(switched[-1][0], plain[-1][0]),
        )
        restore(other)


def beside(
    pipe: Zero123Pipeline,
    peer: Peer,
    steps: int,
    repeats: int,
    done: Callable[[str], None] = lambda _: None,
) -> Rung:
    """Measure the authors' code in turn with the plain pipeline, which walks their timesteps.

    Args:
        pipe: plain, in float32, where the work is to be done.
        peer: on the same device.
        steps: as ``peer`` was started with.
        repeats: pairs of calls.
        done: told of each call that is over.

    Raises:
        ValueError: if the two are not of one size, or their code fails.
    """
    name, weights = "original code", sum(w.numel() for w in pipe.unet.parameters())
    if weights != peer.denoiser_weights:
        raise ValueError(
            f"the original's denoiser has {peer.denoiser_weights:,} weights and the model's "
            f"{weights:,}: compare it with --model full-random, or a model of its size"
        )
    plain_view = _view(twin(pipe), preset="original", num_inference_steps=steps)
    plain_view()
    first = peer.view()
    done(name)
    plain, theirs = _in_turn(plain_view, peer.view, repeats, partial(done, name))
    costs = tuple(cost for _, cost in plain)
    return Rung(name, None, first.seconds, peer.weights_mib, tuple(theirs), costs, None)


def _in_turn(
    plain: Callable[[], _Plain], other: Callable[[], _Other], repeats: int, done: Callable[[], None]
) -> tuple[list[_Plain], list[_Other]]:
    """What two calls give: now the one first, now the other; who is second finds caches warm."""
    plains: list[_Plain] = []
    others: list[_Other] = []
    calls: list[Callable[[], None]] = [
        lambda: plains.append(plain()),
        lambda: others.append(other()),
    ]
    for _ in range(repeats):
        for call in calls:
            call()
            done()
        calls.reverse()
    return plains, others


def twin(pipe: Zero123Pipeline) -> Zero123Pipeline:
    """A pipeline with the same weights, in the same place in memory, to be switched alone."""
    parts: dict[str, Any] = {
        name: _shared(part) if isinstance(part, nn.Module) else copy.deepcopy(part)
        for name, part in pipe.components.items()
    }
    other = Zero123Pipeline(**parts)
    other.settings = pipe.settings
    other.set_progress_bar_config(disable=True)
    return other


def _shared(network: nn.Module) -> nn.Module:
    weights: dict[int, Tensor] = {
        id(weight): nn.Parameter(weight.data, requires_grad=False)
        for weight in network.parameters()
    }
    return copy.deepcopy(network, weights)


def _weights_mib(pipe: Zero123Pipeline) -> float:
    networks = (part for part in pipe.components.values() if isinstance(part, nn.Module))
    weights = (weight for network in networks for weight in network.parameters())
    return sum(w.nbytes for w in weights if w.device.type == pipe.device.type) / 2**20


def _view(pipe: Zero123Pipeline, **asked: Any) -> Callable[[], tuple[Tensor, Cost]]:
    photo = _ball(pipe.image_size)

    def view(tick: Callable[[], None]) -> Tensor:
        made: Tensor = pipe(
            photo,
            azimuth=60,
            elevation=10,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
            callback_on_step_end=lambda *_: tick(),
            **asked,
        ).images
        return made

    return partial(measured, view, pipe.device)


def _ball(size: int) -> np.ndarray:
    """A striped ball on white, lit from the upper left."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j] / 0.75
    depth = np.sqrt(np.clip(1 - x**2 - y**2, 0, None))
    light = np.clip(0.35 + 0.65 * (depth - x - y) / np.sqrt(3), 0, 1)
    stripes = np.where(np.sin(9 * y + 2 * x) > 0, 1.0, 0.35)
    ball = np.stack([light, light * stripes, light * 0.4 * stripes], axis=-1)
    ball[depth == 0] = 1
    picture: np.ndarray = ball.astype(np.float32)
    return picture
