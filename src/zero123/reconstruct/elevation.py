"""From how high a photo was taken: where the model's own views agree on one body."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from zero123.geometry import Camera
from zero123.reconstruct.carving import silhouette_shares
from zero123.reconstruct.field import voxel_centres
from zero123.reconstruct.views import Move, Views, photo_seat, ring, seat_after

SCOUTS = (*ring(8), *ring(3, 30.0, 60.0), *ring(3, -20.0))
"""Moves to the views that are compared: a ring alone cannot tell, for it looks level from any
height."""
CANDIDATES = tuple(range(-20, 61, 5))
"""Elevations that are tried, degrees."""
_RESOLUTION = 40
_REACH = 0.7
"""Half the side of the cube of voxels, scene units."""
_PIXELS = 32
"""Side of the outlines that are compared: a pixel is larger than a voxel."""
_USUAL = 15.0
"""From how high photos usually are, degrees."""
_CLEAR = 0.05
"""An agreement so far above the middle of all stands out; less means less confidence."""
_NEAR = 10.0
"""Estimates that lie so close agree, degrees."""


@dataclass(frozen=True)
class Elevation:
    """From how high a photo was taken."""

    degrees: float
    """Above eye level."""
    confidence: float
    """Share of the estimates with one view left out that agree to 10°, less where all candidates
    agree about as well; 1 if it was given."""
    agreement: dict[int, float]
    """By candidate: the share of the outlines that one body can fill; empty if it was given."""

    @classmethod
    def given(cls, degrees: float) -> "Elevation":
        """As a person says.

        Raises:
            ValueError: if it is beyond ±89 degrees.
        """
        if not abs(degrees) <= 89:  # also if it is NaN
            raise ValueError(f"elevation must be in [-89, 89] degrees, got {degrees:g}")
        return cls(degrees, 1.0, {})


def estimate_elevation(alphas: Float[Tensor, "v S S"], moves: Sequence[Move]) -> Elevation:
    """Find the elevation from which views after these moves show one body.

    A body cut out by all outlines fills them all if the cameras stand where they are believed to
    stand, and is cut too small if not.

    Args:
        alphas: outlines of the photo or of views, in [0, 1].
        moves: away from the photo's seat, of each.
    """
    small = F.interpolate(alphas[:, None], (_PIXELS, _PIXELS), mode="area")[:, 0]
    agreement = np.stack([_agreement(small, moves, float(degrees)) for degrees in CANDIDATES])
    heights = np.array(CANDIDATES)
    usual = 1e-6 * np.abs(heights - _USUAL)  # decides where nothing else does
    estimates = heights[(agreement - usual[:, None]).argmax(axis=0)]
    close = np.abs(estimates[1:] - estimates[0]) <= _NEAR
    told = {
        degrees: float(of_all) for degrees, of_all in zip(CANDIDATES, agreement[:, 0], strict=True)
    }
    contrast = (agreement[:, 0].max() - np.median(agreement[:, 0])) / _CLEAR
    return Elevation(float(estimates[0]), float(close.mean() * min(1.0, contrast)), told)


def _agreement(
    alphas: Float[Tensor, "v S S"], moves: Sequence[Move], degrees: float
) -> Float64[np.ndarray, " v1"]:
    """Share of the outlines that their common body fills: of all, then without each in turn."""
    seat = photo_seat(degrees)
    seats = tuple(seat_after(move, seat) for move in moves)
    views = Views(alphas[:, None].expand(-1, 3, -1, -1), alphas, seats, torch.ones(len(seats)))
    points = voxel_centres(_RESOLUTION, _REACH).reshape(-1, 3)
    seen = silhouette_shares(views, points) > 0.5
    pixels = _pixels(views, points)
    outlines = alphas.flatten(1) > 0.5
    counts = seen.sum(dim=0)
    found = []
    for without in (None, *range(len(views))):
        kept = [index for index in range(len(views)) if index != without]
        body = counts - (0 if without is None else seen[without].long()) >= len(kept)
        found.append(
            float(np.mean([_filled(pixels[index][body], outlines[index]) for index in kept]))
        )
    return np.array(found)


def _pixels(views: Views, points: Float[Tensor, "n 3"]) -> Int64[Tensor, "v n"]:
    """Number of the pixel in which each view shows each point, the nearest for those outside."""
    rows = []
    for seat in views.seats:
        at, _ = Camera(seat.camera_from_world, views.size).project(points.double())
        column, row = at.long().clamp(0, views.size - 1).unbind(dim=-1)
        rows.append(row * views.size + column)
    return torch.stack(rows)


def _filled(pixels: Int64[Tensor, " m"], outline: Bool[Tensor, " p"]) -> float:
    shown = torch.zeros_like(outline)
    shown[pixels] = True
    return float((shown & outline).sum() / (shown | outline).sum().clamp(min=1))
