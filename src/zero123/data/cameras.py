"""Where the cameras of the training views sit."""

import math

import numpy as np

from zero123.geometry import Orbit

RADII = (1.5, 2.2)
"""Nearest and farthest camera, in units of the object's longest side."""


def sample_orbits(rng: np.random.Generator, num_views: int) -> list[Orbit]:
    """Draw camera seats as the original's training views were taken.

    Directions are points of a cube, normalised: denser toward the cube's corners than on an even
    sphere. Radii are uniform in ``RADII``.

    Source: ``scripts/render.py`` of the authors' rendering code.
    """
    orbits = []
    for _ in range(num_views):
        x, y, z = (float(v) for v in rng.uniform(-1, 1, size=3))
        radius = float(rng.uniform(*RADII))
        orbits.append(Orbit(math.atan2(math.hypot(x, y), z), math.atan2(y, x), radius))
    return orbits
