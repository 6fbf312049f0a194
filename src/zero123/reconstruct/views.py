"""Pictures of one object from known seats: what a field is fitted to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float
from torch import Tensor

from zero123.geometry import Orbit
from zero123.images import FramedPhoto, ImageError, Photo, matte
from zero123.pipeline import Zero123Pipeline

PHOTO_RADIUS = 1.85
"""Middle of the distances that the models were trained at; a photo does not tell its own."""
PHOTO_AZIMUTH = -math.pi / 2
"""Where the photo's camera stands: so the front of a .glb faces +z, where viewers look from."""


@dataclass(frozen=True)
class Views:
    """Pictures, what of them is the object, and where they were taken from."""

    pictures: Float[Tensor, "v 3 S S"]
    """In [0, 1], on white."""
    alphas: Float[Tensor, "v S S"]
    """How much of each pixel is the object, in [0, 1]."""
    seats: tuple[Orbit, ...]
    trust: Float[Tensor, " v"]
    """How much each view counts."""

    def __post_init__(self) -> None:
        if not len(self.pictures) == len(self.alphas) == len(self.seats) == len(self.trust) > 0:
            raise ValueError(
                f"{len(self.pictures)} pictures, {len(self.alphas)} alphas, {len(self.seats)} "
                f"seats and {len(self.trust)} weights are no views"
            )

    def __len__(self) -> int:
        return len(self.seats)

    @property
    def size(self) -> int:
        """Side of the pictures, pixels."""
        return self.pictures.shape[-1]

    def __add__(self, other: "Views") -> "Views":
        return Views(
            torch.cat([self.pictures, other.pictures]),
            torch.cat([self.alphas, other.alphas]),
            self.seats + other.seats,
            torch.cat([self.trust, other.trust]),
        )

    def resized(self, size: int) -> "Views":
        """The same with pictures of another size."""
        if size == self.size:
            return self
        both = torch.cat([self.pictures, self.alphas[:, None]], dim=1)
        small = F.interpolate(both, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        return Views(small[:, :3], small[:, 3], self.seats, self.trust)


@dataclass(frozen=True)
class Move:
    """A camera move away from the photo's seat, degrees; up and counter-clockwise positive."""

    azimuth: float
    elevation: float

    def __str__(self) -> str:
        return f"azimuth {self.azimuth:+g}°, elevation {self.elevation:+g}°"


def ring(count: int, elevation: float = 0.0, first: float = 0.0) -> tuple[Move, ...]:
    """Moves once around the object, evenly, all climbing by the same; the first turns by ``first``.

    >>> [move.azimuth for move in ring(4)]
    [0.0, 90.0, 180.0, -90.0]
    """
    turns = (first + 360 * step / count for step in range(count))
    return tuple(Move(-math.remainder(-turn, 360), elevation) for turn in turns)


def photo_seat(elevation: float, radius: float = PHOTO_RADIUS) -> Orbit:
    """Where a photo was taken from, if ``elevation`` degrees above eye level."""
    return Orbit(math.radians(90 - elevation), PHOTO_AZIMUTH, radius)


def seat_after(move: Move, seat: Orbit) -> Orbit:
    """Where a move leads."""
    return seat.moved(math.radians(move.elevation), math.radians(move.azimuth))


def photo_view(photo: FramedPhoto, size: int, seat: Orbit, trust: float) -> Views:
    """The photo itself as a view."""
    return Views(photo.image[None], photo.alpha, (seat,), torch.tensor([trust])).resized(size)


def synthesise(
    pipe: Zero123Pipeline,
    photo: FramedPhoto,
    moves: Sequence[Move],
    seed: int,
    image_elevation: float | None,
    chained: bool = False,
    done: Callable[[int, Tensor], None] = lambda count, latest: None,
) -> Float[Tensor, "moves 3 S S"]:
    """Let the model make views, all from the same noise, which keeps the object steadier.

    Args:
        pipe: the model, with its own sampler.
        photo: what it sees.
        moves: where to go from the photo's seat.
        seed: of the noise.
        image_elevation: the photo's, degrees, where it is known; Stable-Zero123 needs it.
        chained: show the model the nearest view that is there already, instead of the photo.
        done: told how many views are there, and given the latest.
    """
    made: dict[Move, Tensor] = {}
    shown: dict[Move, Tensor] = {Move(0.0, 0.0): photo.image}
    each = 1 if chained else 4
    order = sorted(moves, key=_distance) if chained else list(moves)
    for first in range(0, len(order), each):
        batch = order[first : first + each]
        start = min(shown, key=lambda seen: _distance(_between(seen, batch[0])))
        steps = [_between(start, move) for move in batch]
        own = None if image_elevation is None else image_elevation + start.elevation
        views: Tensor = pipe(
            shown[start],
            azimuth=[step.azimuth for step in steps],
            elevation=[step.elevation for step in steps],
            generator=torch.Generator().manual_seed(seed),
            image_elevation=own,
            output_type="pt",
        ).images[0, :, 0]
        made |= dict(zip(batch, views, strict=True))
        if chained:
            shown |= made
        done(len(made), views[-1])
    return torch.stack([made[move] for move in moves])


def _between(start: Move, end: Move) -> Move:
    turn = -math.remainder(start.azimuth - end.azimuth, 360)
    return Move(turn, end.elevation - start.elevation)


def _distance(move: Move) -> float:
    return math.hypot(move.azimuth, move.elevation)


def alpha_on_white(picture: Float[Tensor, "3 S S"]) -> Float[Tensor, "S S"]:
    """Tell the object from the white ground that models put it on."""
    rim = 8  # a white rim says what the ground is, wherever the object touches the edge
    framed = F.pad(picture, (rim, rim, rim, rim), value=1.0)
    try:
        return matte(Photo.opaque(framed), "plain")[3, rim:-rim, rim:-rim]
    except ImageError:  # nothing but white
        return torch.zeros_like(picture[0])
