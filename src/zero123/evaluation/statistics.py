"""Means that say how sure they are, and views sorted by how far the camera moved."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from zero123.geometry import Orbit

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over objects."""

    mean: float
    low: float
    """Lower end of the 95 % interval; the mean itself where one object cannot say."""
    high: float
    objects: int


def over_objects(values: Float[np.ndarray, " objects"]) -> Estimate:
    """The mean, with a 95 % percentile bootstrap interval that draws objects, not views.

    Views of one object are alike: drawing views would promise too much. The draws are fixed.
    """
    if len(values) == 0:
        raise ValueError("there is no object to take the mean of")
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Estimate(float(values.mean()), float(low), float(high), len(values))


@dataclass(frozen=True)
class Bin:
    """Moves of a like size; angles in degrees, ``low`` inside, ``high`` outside."""

    title: str
    low: float
    high: float


AZIMUTH_BINS = (
    Bin("turn 0-45°", 0.0, 45.0),
    Bin("turn 45-90°", 45.0, 90.0),
    Bin("turn 90-135°", 90.0, 135.0),
    Bin("turn 135-180°", 135.0, 180.001),
)
ELEVATION_BINS = (
    Bin("climb below −30°", -181.0, -30.0),
    Bin("climb −30 to −10°", -30.0, -10.0),
    Bin("climb −10 to 10°", -10.0, 10.0),
    Bin("climb 10 to 30°", 10.0, 30.0),
    Bin("climb above 30°", 30.0, 181.0),
)


def binned(seat: Orbit, seats: Sequence[Orbit]) -> dict[Bin, Bool[np.ndarray, " targets"]]:
    """Say of each target whether its move falls into each bin."""
    turns = np.array(
        [abs(math.degrees(math.remainder(to.azimuth - seat.azimuth, math.tau))) for to in seats]
    )
    climbs = np.array([math.degrees(to.elevation - seat.elevation) for to in seats])
    # a hair, so that a move of 45 degrees does not fall either way by rounding
    turns, climbs = turns + 1e-6, climbs + 1e-6
    return {each: (each.low <= turns) & (turns < each.high) for each in AZIMUTH_BINS} | {
        each: (each.low <= climbs) & (climbs < each.high) for each in ELEVATION_BINS
    }
