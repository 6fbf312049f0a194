"""Small pictures to cover objects with: checks, stripes, noise, wood, labels."""

import math

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

Color = tuple[float, float, float]
"""sRGB in [0, 1]."""
SIDE = 64
"""Side of a pattern, pixels."""


def draw_pattern(rng: np.random.Generator, one: Color, two: Color) -> UInt8[np.ndarray, "S S 4"]:
    """Draw one of nine patterns in two colours, with a little grain."""
    across, down = np.meshgrid((np.arange(SIDE) + 0.5) / SIDE, (np.arange(SIDE) + 0.5) / SIDE)
    count = int(rng.integers(2, 9))
    match int(rng.integers(9)):
        case 0:  # checks
            share = ((across * count).astype(int) + (down * count).astype(int)) % 2.0
        case 1:  # bands
            share = (down * count * 2).astype(int) % 2.0
        case 2:  # stripes
            share = (across * count * 2).astype(int) % 2.0
        case 3:  # slanted stripes
            share = ((across + down) * count).astype(int) % 2.0
        case 4:  # fading
            share = down
        case 5:  # clouds
            share = np.clip(2 * _clouds(rng, count) - 0.5, 0, 1)
        case 6:  # spots
            share = _spots(rng, across, down)
        case 7:  # wood
            rings = 12 * across + 3 * _clouds(rng, 3)
            share = 0.5 + 0.5 * np.sin(2 * math.pi * rings) * (0.4 + 0.6 * _clouds(rng, 8))
        case _:  # bricks
            row = (down * count * 2).astype(int)
            shifted = across * count + 0.5 * (row % 2)
            mortar = (np.abs(shifted % 1 - 0.5) > 0.44) | (np.abs(down * count * 2 % 1 - 0.5) > 0.4)
            share = mortar.astype(np.float64)
    return _texels(_blended(one, two, share), rng)


def draw_label(
    rng: np.random.Generator, paper: Color, ink: Color, accent: Color
) -> UInt8[np.ndarray, "S S 4"]:
    """Draw a printed label: a band, a badge and lines of words, on paper; never the same twice."""
    picture = np.empty((SIDE, SIDE, 3))
    picture[:] = paper
    band = int(rng.integers(8, 24))
    top = int(rng.integers(0, SIDE - band))
    picture[top : top + band] = accent
    down, across = np.mgrid[:SIDE, :SIDE] + 0.5
    middle = rng.uniform(14, SIDE - 14, size=2)
    away = np.hypot(across - middle[0], down - middle[1])
    picture[away < rng.uniform(6, 14)] = ink
    picture[away < rng.uniform(2, 7)] = accent
    row = int(rng.integers(3, 10))
    while row < SIDE - 6:
        height = int(rng.integers(2, 6))
        column = int(rng.integers(3, 14))
        while column < SIDE - 6:
            width = int(rng.integers(2, 10))
            if rng.random() < 0.55:
                picture[row : row + height, column : min(column + width, SIDE - 3)] = ink
            column += width + 2
        row += height + int(rng.integers(3, 14))
    return _texels(picture, rng)


def _blended(
    one: Color, two: Color, share: Float64[np.ndarray, "S S"]
) -> Float64[np.ndarray, "S S 3"]:
    blend: Float64[np.ndarray, "S S 3"] = np.asarray(one) + share[..., None] * np.subtract(two, one)
    return blend


def _texels(
    picture: Float64[np.ndarray, "S S 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "S S 4"]:
    grain = rng.normal(0, rng.uniform(0, 0.03), size=(*picture.shape[:2], 1))
    texels = np.full((*picture.shape[:2], 4), 255, np.uint8)
    texels[..., :3] = np.rint(255 * np.clip(picture + grain, 0, 1))
    return texels


def _clouds(rng: np.random.Generator, count: int) -> Float64[np.ndarray, "S S"]:
    """Smooth noise in [0, 1], ``count`` blobs across."""
    coarse = Image.fromarray(rng.random((count + 1, count + 1), dtype=np.float32))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth, 0, 1)


def _spots(
    rng: np.random.Generator,
    across: Float64[np.ndarray, "S S"],
    down: Float64[np.ndarray, "S S"],
) -> Float64[np.ndarray, "S S"]:
    covered = np.zeros_like(across)
    for _ in range(int(rng.integers(6, 20))):
        x, y = rng.random(2)
        dx, dy = np.abs(across - x), np.abs(down - y)
        away = np.hypot(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy))
        covered[away < rng.uniform(0.03, 0.12)] = 1
    return covered
