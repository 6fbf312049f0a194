"""Which switches are on, and the named choices."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

Engine: TypeAlias = Literal["eager", "traced", "compiled", "openvino"]
Solver: TypeAlias = Literal["dpm++", "unipc"]


@dataclass(frozen=True)
class Plan:
    """A choice of switches; none is on by itself."""

    constant_attention: bool = False
    """Exact. Cross-attention to the only token is its value, computed once a pose."""
    constant_times: bool = False
    """Exact. Time embeddings and their projections of all steps before the walk."""
    constant_photo: bool = False
    """Exact. The photo's share of the first convolution before the walk."""
    sub_pixel: bool = False
    """Exact. Doubling and convolving at the small size."""
    winograd: bool = False
    """Exact. 3×3 convolutions in fewer products; for processors, and for more memory."""
    fused_qkv: bool = False
    """Exact. Query, key and value in one product."""
    channels_last: bool = False
    """Exact. Pixels in memory with their channels together."""
    engine: Engine = "eager"
    """Exact. compiled fuses what stands between products, on CUDA in a graph; openvino does so on
    processors, in seconds; traced is the old way."""
    written_out_attention: bool = False
    """Exact, and slower: attention as the formula says. Only to measure what torch's saves."""
    dtype: Literal["bfloat16", "float16", "half"] | None = None
    """Near. What float32 weights become, narrower ones stay; half: where this machine multiplies
    bfloat16 faster, what ``in_bfloat16`` makes of the plan; elsewhere nothing."""
    solver: Solver | None = None
    """Fewer. A solver of higher order in place of the model's scheduler."""
    most_steps: int | None = None
    """Fewer. At most so many steps where the caller leaves the number open."""
    guided: tuple[float, float] = (0.0, 1.0)
    """Cheaper. The part of the walk that is guided, from noise 0 to picture 1; the rest costs
    half."""
    deep_every: int = 1
    """Cheaper. Only every so many steps is the whole network asked; between them its last layer,
    with what the others said before."""
    tiny_decoder: Path | None = None
    """Cheaper. A folder with a small autoencoder for the same latents (``AutoencoderTiny``, as
    TAESD is published), which decodes in place of the model's own: for previews."""
    rounded: bool = False
    """Memory, and near. Weights are kept in a byte each, and widened whenever their layer works."""
    memory_bound: float | None = None
    """Memory. GiB for the activations of one batch; the autoencoder works on slices of them."""
    offloaded: bool = False
    """Memory. Networks are on the accelerator only while they work."""

    def __post_init__(self) -> None:
        begin, end = self.guided
        if not 0 <= begin <= end <= 1:
            raise ValueError(f"guided must be two shares of the walk, 0 to 1, got {self.guided}")
        if self.deep_every < 1:
            raise ValueError(f"deep_every must be at least 1, got {self.deep_every}")
        if self.most_steps is not None and self.most_steps < 1:
            raise ValueError(f"most_steps must be at least 1, got {self.most_steps}")
        prepared = self.constant_attention or self.constant_times or self.constant_photo
        if self.offloaded and (prepared or self.engine != "eager"):
            raise ValueError("an offloaded network can neither be compiled nor asked for constants")

    def is_guided(self, step: int, steps: int) -> bool:
        """Whether a step, counted from 0, lies in the guided part."""
        begin, end = self.guided
        return begin * steps <= step < end * steps


ALWAYS = Plan(constant_attention=True, constant_times=True, constant_photo=True)
"""Exact, and neither memory nor preparation is the price: what commands do when nothing is said."""
EXACT = replace(ALWAYS, sub_pixel=True)
_EVERYWHERE: dict[str, Plan] = {
    "exact": EXACT,
    "fast": replace(EXACT, engine="compiled", dtype="half"),
    "turbo": replace(
        EXACT, engine="compiled", dtype="half", solver="dpm++", most_steps=20, guided=(0.0, 0.7)
    ),
    "low-memory": Plan(memory_bound=0.25),
}
PRESETS = tuple(_EVERYWHERE)
"""exact: the same picture to rounding. fast: near it, the first call compiles for minutes.
turbo: fewer and cheaper steps. low-memory: slower, and less than half the memory."""


def preset(name: str, device: str) -> Plan:
    """The plan of a name, as it suits a kind of device.

    Raises:
        ValueError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: one of {', '.join(PRESETS)}")
    plan, on_cpu = _EVERYWHERE[name], device == "cpu"
    if name == "low-memory":
        if on_cpu:  # the wide weights stay in the model's file, from which they are mapped
            return replace(ALWAYS, rounded=True, memory_bound=plan.memory_bound)
        return replace(plan, dtype="bfloat16", offloaded=True)
    return replace(plan, winograd=on_cpu, channels_last=not on_cpu)


def in_bfloat16(plan: Plan) -> Plan:
    """The plan in bfloat16, as matrix units like it.

    They read channels together, and multiply in less time than Winograd's sums take.
    """
    return replace(plan, dtype="bfloat16", winograd=False, channels_last=True)


def has_openvino(device: str) -> bool:
    """Whether OpenVINO is installed, and of use on this kind of device."""
    return device == "cpu" and find_spec("openvino") is not None
