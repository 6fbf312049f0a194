"""Between the numbers files store (sRGB) and the numbers light adds in (linear)."""

import numpy as np
from jaxtyping import Float


def linear_from_srgb(srgb: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Decode sRGB in [0, 1] to linear light in [0, 1]. Source: IEC 61966-2-1."""
    low, high = srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4
    linear: Float[np.ndarray, "*n"] = np.where(srgb <= 0.04045, low, high)
    return linear


def srgb_from_linear(linear: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Encode linear light in [0, 1] to sRGB in [0, 1]. Source: IEC 61966-2-1."""
    clipped = np.clip(linear, 0.0, 1.0)
    low, high = clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055
    srgb: Float[np.ndarray, "*n"] = np.where(clipped <= 0.0031308, low, high)
    return srgb
