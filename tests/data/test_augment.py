"""Renders that are made to look like people's photos."""

import numpy as np
import pytest

from zero123.data.augment import augmented

SIDE = 128
RED = (180, 40, 30)


@pytest.fixture
def photo():
    """A red disc, 64 pixels wide, with a white glint, in the middle of white."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    far = np.hypot(y, x)
    made = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    made[(far < 32) & (far > 2)] = RED
    return made


def many(photo, count=200):
    return np.stack([augmented(photo, np.random.default_rng(seed)) for seed in range(count)])


def box(picture):
    rows, columns = (np.flatnonzero((picture.min(-1) < 128).any(axis)) for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


def test_the_same_numbers_give_the_same_photo(photo):
    before = photo.copy()
    one, same, other = (augmented(photo, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()
    assert (photo == before).all()
    assert (one.shape, one.dtype) == (photo.shape, np.uint8)


def test_the_colour_stays_and_so_does_the_white_around(photo):
    made = many(photo)
    ring = made[:, 40:48, 56:72].astype(float).mean(axis=(1, 2))
    assert np.abs(ring.mean(0) - RED).max() < 4
    assert np.abs(ring - RED).max() < 40
    glint = made[:, 54:74, 54:74].min(-1).max((1, 2))
    assert glint.min() > 120  # not painted over with what lies behind the object
    assert (made[:, :12] == 255).all()
    assert (made[:, :, -12:] == 255).all()


def test_places_sizes_and_sides_differ(photo):
    top, bottom, left, right = np.array([box(each) for each in many(photo)]).T
    middle = (left + right - SIDE + 1) / 2
    assert 0.3 < np.mean(np.abs(middle) >= 1) < 0.7
    assert np.abs(middle).max() <= 10
    high, wide = bottom - top + 1, right - left + 1
    assert high.min() < 60
    assert high.max() > 68
    assert 0.02 < np.mean(np.abs(high - wide) > 2) < 0.25  # cut off at a side


def test_outlines_and_surfaces_differ(photo):
    made = many(photo)
    is_still = np.array([box(each) == box(photo) for each in made])
    near = made[is_still].astype(float)
    edge = np.abs(near - photo)[:, 30:98, 30:98].mean(axis=(1, 2, 3))
    rough = near[:, 40:48, 56:72].std(axis=(1, 2)).max(-1)
    assert is_still.sum() > 20
    assert edge.max() > 4 * np.quantile(edge, 0.1)
    assert np.quantile(rough, 0.1) < 1
    assert rough.max() > 4


def test_nothing_stays_nothing():
    white = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    assert (many(white, 20) == 255).all()


def test_thin_parts_and_what_fills_the_picture_stay():
    thin = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    thin[30:100, 60:63] = 0
    full = np.full((SIDE, SIDE, 3), 90, dtype=np.uint8)
    left = (many(thin).min(-1) < 128).sum((1, 2)) / (thin[..., 0] < 128).sum()
    assert np.mean(left > 0.5) > 0.95
    assert (many(full, 50).mean((1, 2, 3)) < 140).all()
