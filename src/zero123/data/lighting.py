"""The light that an object stands in, whichever of our renderers draws it."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

Rgb = tuple[float, float, float]
"""Linear light; (1, 1, 1) shows a white surface as white."""


@dataclass(frozen=True)
class Lamp:
    """A light so far away that it comes from one direction."""

    polar: float
    """Angle of the direction it comes from, from +z, radians."""
    azimuth: float
    """Angle of the direction it comes from, around +z from +x, radians."""
    color: Rgb
    """What a white surface that faces it sends back."""

    @property
    def direction(self) -> Float32[np.ndarray, "3"]:
        """Unit vector from the object to the lamp."""
        flat = math.sin(self.polar)
        x, y = flat * math.cos(self.azimuth), flat * math.sin(self.azimuth)
        return np.array([x, y, math.cos(self.polar)], np.float32)


@dataclass(frozen=True)
class Lighting:
    """Light from all around, and lamps. The default is the lamp of the original's renders."""

    sky: Rgb = (0.62, 0.62, 0.62)
    """What a white surface that looks up receives from all around."""
    ground: Rgb = (0.36, 0.36, 0.36)
    """What a white surface that looks down receives from all around."""
    lamps: tuple[Lamp, ...] = (Lamp(polar=0.619, azimuth=0.240, color=(0.55, 0.55, 0.55)),)


def sample_lighting(rng: np.random.Generator) -> Lighting:
    """Draw soft light with a key lamp from above, a weak fill opposite, and slight tints."""

    def tinted(strength: float, spread: float) -> Rgb:
        warm = float(rng.normal(0, spread))
        return strength * (1 + warm), strength, strength * (1 - warm)

    key_azimuth = float(rng.uniform(-math.pi, math.pi))
    key = Lamp(
        polar=float(rng.uniform(0.3, 1.25)),
        azimuth=key_azimuth,
        color=tinted(float(rng.uniform(0.35, 0.75)), 0.05),
    )
    fill = Lamp(
        polar=float(rng.uniform(0.8, 1.8)),
        azimuth=key_azimuth + math.pi + float(rng.uniform(-1, 1)),
        color=tinted(float(rng.uniform(0.0, 0.25)), 0.05),
    )
    sky = float(rng.uniform(0.5, 0.7))
    return Lighting(
        sky=tinted(sky, 0.03),
        ground=tinted(sky * float(rng.uniform(0.5, 0.75)), 0.03),
        lamps=(key, fill),
    )
