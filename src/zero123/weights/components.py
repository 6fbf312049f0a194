"""What a loaded model is: its networks, its scheduler, and how it likes to be sampled."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import torch
from diffusers import SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from zero123.geometry import PoseEncoding, move_token
from zero123.models import Autoencoder, PoseProjection, sweep_channels

Part: TypeAlias = Literal["unet", "vae", "image_encoder", "cc_projection"]
"""The networks of a model, by the names of their folders."""


class WeightsError(ValueError):
    """Weights that cannot be used as they are; the sentence says which file, why and what to do."""


@dataclass(frozen=True)
class Settings:
    """How a model was trained to be asked, and how it is sampled when nothing else is said."""

    pose_encoding: PoseEncoding = "zero123"
    """What the pose numbers mean to the network."""
    steps: int = 50
    """Evaluations of the network for a view."""
    guidance: float = 3.0
    """1 follows the condition; above 1 exaggerates it."""
    eta: float = 1.0
    """Fresh noise a DDIM step: 0 none, 1 as much as the original."""
    name: str | None = None
    """What people call the model."""
    licence: str | None = None
    """Under which terms the weights may be used."""

    def __post_init__(self) -> None:
        known = get_args(PoseEncoding)
        if self.pose_encoding not in known:
            raise WeightsError(
                f"pose_encoding must be one of {', '.join(known)}; got {self.pose_encoding!r}"
            )
        if not 1 <= self.steps <= 1000:
            raise WeightsError(f"steps must be in 1 to 1000, got {self.steps}")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise WeightsError(f"guidance must be 0 or more, got {self.guidance}")
        if not 0 <= self.eta <= 1:
            raise WeightsError(f"eta must be in [0, 1], got {self.eta}")


@dataclass(frozen=True)
class Components:
    """A whole model, in evaluation mode, on the CPU."""

    unet: UNet2DConditionModel
    """Reads ``[noisy, photo latent]`` and one posed token."""
    vae: Autoencoder
    """Pictures <-> latents."""
    image_encoder: CLIPVisionModelWithProjection
    """The photo's CLIP embedding."""
    projection: PoseProjection
    """Joins embedding and pose; float32 whatever the type of the others."""
    scheduler: SchedulerMixin
    """Which noise at which step."""
    settings: Settings
    """How to ask and sample it."""

    def __post_init__(self) -> None:
        latent = self.vae.config.latent_channels
        reads, predicts = self.unet.config.in_channels, self.unet.config.out_channels
        wanted = 2 * latent + (sweep_channels(latent) if self.projection.config.sweeps else 0)
        if (reads, predicts) != (wanted, latent):
            raise WeightsError(
                f"the UNet reads {reads} channels and predicts {predicts}, but with {latent} "
                f"latent channels it would read {wanted} and predict {latent}"
            )
        takes, encoding = self.projection.config.pose_dim, self.settings.pose_encoding
        given = len(move_token(0.0, 0.0, encoding=encoding))
        if takes != given:
            raise WeightsError(
                f"the pose projection takes {takes} pose numbers, but {encoding} gives {given}"
            )
        for one, width, other, wanted in (
            (
                "the image encoder gives",
                self.image_encoder.config.projection_dim,
                "the pose projection takes",
                self.projection.config.embed_dim,
            ),
            (
                "the pose projection gives",
                self.projection.config.context_dim,
                "the UNet takes",
                self.unet.config.cross_attention_dim,
            ),
        ):
            if width != wanted:
                raise WeightsError(f"{one} {width} numbers, but {other} {wanted}")

    @property
    def networks(self) -> dict[Part, Any]:
        """The parts that have weights."""
        return {
            "unet": self.unet,
            "vae": self.vae,
            "image_encoder": self.image_encoder,
            "cc_projection": self.projection,
        }


Network = TypeVar("Network", bound=nn.Module)
MISFITS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What the libraries raise at a configuration that makes no sense."""


def blank(make: Callable[[], Network], origin: str) -> Network:
    """Build a network without numbers, on the meta device: nothing random, and no time lost.

    Args:
        make: builds it.
        origin: names in messages what the sizes were read from.

    Raises:
        WeightsError: the sizes do not fit together.
    """
    try:
        with torch.device("meta"):
            return make()
    except MISFITS as misfit:
        reason = str(misfit).partition("\n")[0]
        raise WeightsError(f"{origin}: describes no network that fits ({reason})") from misfit


def fill(
    network: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype, origin: str
) -> None:
    """Give a network made on the meta device its weights: all of them, and nothing else.

    Neither library does this by itself: what a file lacks is left random, what it has too much
    of is dropped.

    Args:
        network: changed in place; afterwards in evaluation mode.
        tensors: by the network's own names; of the right type already, they are not copied.
        dtype: of the filled network.
        origin: names the file in messages.

    Raises:
        WeightsError: names the tensors that are missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    given = [name for name in wanted if name in tensors]
    faults = {
        "missing": [name for name in wanted if name not in tensors],
        "unknown": [name for name in tensors if name not in wanted],
        "misshapen": [
            f"{name} ({_shape(tensors[name])}, not {_shape(wanted[name])})"
            for name in given
            if tensors[name].shape != wanted[name].shape
        ],
        "without plain numbers": [name for name in given if not _is_plain(tensors[name])],
    }
    complain(origin, faults)
    network.load_state_dict({name: cast(tensors[name], dtype) for name in wanted}, assign=True)
    _count_patches(network)
    network.eval()


PIECE = 2**14
"""Numbers; torch shares out the work on 2**15 and more."""


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Change the type of a tensor, on this thread alone.

    Many short casts wait for each other's threads: on a busy machine that took ten times as long
    (2.0 s instead of 0.2 s for 28 million numbers on two cores, both in use).
    """
    tensor = tensor.contiguous()
    if tensor.dtype == dtype:
        return tensor
    result = torch.empty_like(tensor, dtype=dtype)
    pieces = (torch.split(flat.view(-1), PIECE) for flat in (result, tensor))
    for target, source in zip(*pieces, strict=True):
        target.copy_(source)
    return result


def complain(origin: str, faults: Mapping[str, list[str]]) -> None:
    """Raise one sentence that names what is wrong with the tensors of ``origin``, if anything is.

    Args:
        origin: names the file.
        faults: a kind of fault, and the tensors that have it.
    """
    found = [f"{_listed(names)} {kind}" for kind, names in faults.items() if names]
    if found:
        raise WeightsError(f"{origin}: {'; '.join(found)}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_floating_point()
        and not tensor.is_quantized
    )


def _count_patches(network: nn.Module) -> None:
    # CLIP numbers its patches in a buffer that no file carries and the meta device leaves empty
    for module in network.modules():
        positions = getattr(module, "position_ids", None)
        if isinstance(positions, Tensor):
            module.position_ids = torch.arange(positions.shape[-1]).expand(1, -1)
    assert not any(buffer.is_meta for buffer in network.buffers())
