"""Whoever answers: models, and guesses that need no training, all with one face."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from zero123.evaluation.scenes import digest_of
from zero123.geometry import Camera, Orbit
from zero123.images import to_u8
from zero123.pipeline import Preset, Zero123Pipeline


@dataclass(frozen=True)
class Question:
    """What a candidate is told, and nothing more."""

    photo: UInt8[np.ndarray, "H W 3"]
    """sRGB on white."""
    seat: Orbit
    """Where it was taken from."""
    seats: tuple[Orbit, ...]
    """Where the object is to be seen from."""
    samples: int = 1
    """Answers for each seat."""
    seed: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        asked = f"{self.photo.shape} {self.seat} {self.seats} {self.samples} {self.seed}"
        return digest_of(asked.encode() + self.photo.tobytes())


@dataclass(frozen=True)
class Candidate:
    """A way to see an object from another side."""

    name: str
    """Unique in a report, and a safe file name."""
    fingerprint: str
    """Changes when its answers may change."""
    answer: Callable[[Question], UInt8[np.ndarray, "targets samples H W 3"]]
    settings: Mapping[str, object] = field(default_factory=dict)
    """What a reader must know to repeat it."""


def from_pipeline(name: str, pipe: Zero123Pipeline, sampler: Preset) -> Candidate:
    """Let a model answer; its views are resized to the photo's size.

    Stable-Zero123 cannot change the distance: it answers as if the distance stayed.
    """
    pipe.set_progress_bar_config(disable=True)
    stable = pipe.settings.pose_encoding == "stable-zero123"

    def answer(question: Question) -> UInt8[np.ndarray, "targets samples H W 3"]:
        seat = question.seat
        turns = [math.remainder(to.azimuth - seat.azimuth, math.tau) for to in question.seats]
        made: Float[Tensor, "targets samples 3 h w"] = pipe(
            Image.fromarray(question.photo),
            azimuth=[math.degrees(turn) for turn in turns],
            elevation=[math.degrees(to.elevation - seat.elevation) for to in question.seats],
            distance=[0.0 if stable else to.radius - seat.radius for to in question.seats],
            num_images_per_pose=question.samples,
            generator=torch.Generator().manual_seed(question.seed),
            preset=sampler,
            output_type="pt",
            image_elevation=math.degrees(seat.elevation),
        ).images[0]
        return _sized(made, len(question.photo))

    if sampler == "original":
        steps: dict[str, object] = {"sampler": "the authors' DDIM, 50 steps, guidance 3, eta 1"}
    else:
        own = pipe.settings
        steps = {
            "sampler": type(pipe.scheduler).__name__,
            "steps": own.steps,
            "guidance": own.guidance,
            "eta": own.eta,
        }
    distance = {"distance": "left as it is: the model cannot change it"} if stable else {}
    fingerprint = weights_digest(pipe)
    return Candidate(
        name=name,
        fingerprint=digest_of(f"{fingerprint} {steps}".encode()),
        answer=answer,
        settings={"weights_sha256": fingerprint, "image_size": pipe.image_size, **steps} | distance,
    )


def weights_digest(pipe: Zero123Pipeline) -> str:
    """SHA-256 over all networks: names, types, shapes and bytes of their tensors."""
    total = hashlib.sha256()
    for part in ("vae", "image_encoder", "unet", "cc_projection"):
        for name, tensor in sorted(getattr(pipe, part).state_dict().items()):
            total.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def baselines() -> list[Candidate]:
    """Guesses without training: what a figure is worth is its distance from theirs."""
    told = {
        "input copied": ("the photo itself, whatever the seat", _copied),
        "white": ("nothing but white", _white),
        "billboard": (
            "the photo on a plane through the object's middle that faces the photo's camera, seen "
            "from the wanted seat; mirrored from behind",
            _billboard,
        ),
    }
    return [
        Candidate(name, f"{name} 1", answer, {"shows": shown})
        for name, (shown, answer) in told.items()
    ]


def _copied(question: Question) -> UInt8[np.ndarray, "targets samples H W 3"]:
    return _repeated(np.stack([question.photo] * len(question.seats)), question.samples)


def _white(question: Question) -> UInt8[np.ndarray, "targets samples H W 3"]:
    return np.full_like(_copied(question), 255)


def _billboard(question: Question) -> UInt8[np.ndarray, "targets samples H W 3"]:
    views = [_plane_seen(question.photo, question.seat, to) for to in question.seats]
    return _repeated(np.stack(views), question.samples)


def _plane_seen(
    photo: UInt8[np.ndarray, "H W 3"], seat: Orbit, to: Orbit
) -> UInt8[np.ndarray, "H W 3"]:
    """Look from ``to`` at the photo, put up in the object's middle; white beside it."""
    size = len(photo)
    facing = seat.position / seat.position.norm()
    origin, rays = Camera(to.camera_from_world, size).rays()
    slope = rays @ facing
    along = -(origin @ facing) / torch.where(slope.abs() < 1e-9, 1e-9, slope)
    points = origin + along[..., None] * rays
    pixels, depth = Camera(seat.camera_from_world, size).project(points)
    seen = (along > 0) & (depth > 0)
    grid = torch.where(seen[..., None], pixels / size * 2 - 1, 2.0)
    ink = 1 - torch.from_numpy(photo).permute(2, 0, 1).double() / 255  # zero outside is white
    found = grid_sample(ink[None], grid[None], padding_mode="zeros", align_corners=False)
    view: UInt8[np.ndarray, "H W 3"] = to_u8(1 - found[0]).permute(1, 2, 0).contiguous().numpy()
    return view


def _repeated(
    views: UInt8[np.ndarray, "targets H W 3"], samples: int
) -> UInt8[np.ndarray, "targets samples H W 3"]:
    return np.repeat(views[:, None], samples, axis=1)


def _sized(
    views: Float[Tensor, "targets samples 3 h w"], size: int
) -> UInt8[np.ndarray, "targets samples H W 3"]:
    flat = views.float().flatten(0, 1)
    if flat.shape[-1] != size:
        flat = interpolate(flat, (size, size), mode="bicubic", antialias=True, align_corners=False)
    pictures = rearrange(to_u8(flat), "(t s) c H W -> t s H W c", s=views.shape[1])
    return np.ascontiguousarray(pictures.numpy())


def safe_name(source: str, taken: Sequence[str]) -> str:
    """A candidate's name from a model's source: its last part, numbered if taken."""
    last = source.rstrip("/").rsplit("/", 1)[-1] or "model"
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in last).lstrip(".") or "model"
    names = (safe if n == 1 else f"{safe}_{n}" for n in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
