"""Pictures of cameras and of losses."""

import math

import numpy as np
import pytest
from PIL import Image

from zero123.geometry import Orbit
from zero123.images import plot_losses, plot_seats

PHOTO = Orbit(math.radians(80), 0.0, 1.85)


def seen(picture: Image.Image, channel: int) -> np.ndarray:
    """Where a channel stands out of the others: (x, y) of its pixels."""
    pixels = np.asarray(picture).astype(int)
    others = np.delete(pixels, channel, axis=2).max(axis=2)
    return np.argwhere(pixels[..., channel] - others > 60)[:, ::-1]


def test_the_photo_is_red_and_the_wanted_cameras_blue_where_they_belong():
    turned, raised = PHOTO.moved(0.0, math.radians(60)), PHOTO.moved(math.radians(70), 0.0)
    photo = seen(plot_seats(PHOTO, [turned]), 0).mean(axis=0)
    right = seen(plot_seats(PHOTO, [turned]), 2).mean(axis=0)
    above = seen(plot_seats(PHOTO, [raised]), 2).mean(axis=0)
    assert right[0] > photo[0] + 30  # counter-clockwise from above is to the right of the photo
    assert above[1] < photo[1] - 100


def test_the_photo_is_seen_though_a_view_is_wanted_from_its_seat():
    assert len(seen(plot_seats(PHOTO, [PHOTO]), 0)) == len(seen(plot_seats(PHOTO, []), 0))


def test_far_cameras_stay_on_the_page():
    far = [PHOTO.moved(0.0, math.radians(turn), 3.0) for turn in range(0, 360, 30)]
    where = seen(plot_seats(PHOTO, far), 2)
    assert where.min() > 5
    assert where.max() < 634


def height(picture: Image.Image) -> list[float]:
    """Of the curve at its two ends, from the top."""
    where = seen(picture, 2)
    where = where[where[:, 0] < 560]  # not its name
    columns, rows = where.T
    return [float(rows[columns == x].mean()) for x in (columns.min(), columns.max())]


def test_a_falling_loss_falls():
    first, last = height(plot_losses({"loss": [10 ** (-k / 50) for k in range(100)]}, 100))
    assert last > first + 200


def test_losses_some_steps_apart_fill_the_same_page():
    losses = [1 / (1 + k) for k in range(20)]
    apart = height(plot_losses({"loss": losses}, 200, every=10))
    assert apart == pytest.approx(height(plot_losses({"loss": losses}, 20)), abs=2)


def test_what_is_not_finite_is_left_out():
    whole = plot_losses({"loss": [1.0, 0.5, 0.2, 0.1]}, 4)
    holed = plot_losses({"loss": [1.0, 0.5, math.nan, 0.1]}, 4)
    assert height(holed) == height(whole)
    plot_losses({"loss": [math.nan]}, 1)
