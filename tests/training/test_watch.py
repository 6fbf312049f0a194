import math

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.conftest import tiny_parts

from zero123 import Zero123Pipeline
from zero123.data.views import ViewSet
from zero123.pipeline import Zero123Output
from zero123.training.features import FeatureViews
from zero123.training.watch import MOST_CANDIDATES, Question, look, questions


def level_data(views: int) -> FeatureViews:
    """Three objects of noise, seen from evenly spaced seats at two heights."""
    rng = np.random.default_rng(0)
    turns = np.linspace(0, 2 * np.pi, views, endpoint=False)
    seats = np.stack([np.resize([1.3, 1.5], views), turns, np.full(views, 1.8)], axis=1)
    return FeatureViews(
        views=ViewSet(
            images=rng.integers(0, 256, (3, views, 32, 32, 3), dtype=np.uint8),
            orbits=np.stack([seats] * 3).astype(np.float32),
        ),
        latents=np.zeros((3, views, 4, 4, 4), np.float16),
    )


class Knowing(Zero123Pipeline):
    """A model that knows some answers by heart."""

    def __init__(self, parts, answers):
        blank = Zero123Pipeline.of_parts(parts)
        super().__init__(**blank.components)
        self.answers = iter(answers)

    def __call__(self, *args, **kwargs):
        views = torch.from_numpy(next(self.answers)).permute(0, 3, 1, 2) / 255
        return Zero123Output(images=views[None, :, None])


def told(asked: list[Question], shift: int) -> list[np.ndarray]:
    return [np.roll(q.candidates, -shift, axis=0)[: q.asked] for q in asked]


def test_the_truth_gives_perfect_figures():
    asked = questions(level_data(20), objects=3, held_views=3)
    figures, _ = look(Knowing(tiny_parts(), told(asked, 0)), asked)
    assert (figures.psnr, figures.ssim, figures.found, figures.angle) == (
        100,
        1,
        1,
        pytest.approx(0, abs=1e-4),
    )
    assert figures.chance == 1 / MOST_CANDIDATES


def test_another_view_than_the_asked_one_is_found_out_and_measured():
    asked = questions(level_data(8), objects=1, held_views=2)
    (question,) = asked
    answers = told(asked, 1)
    figures, _ = look(Knowing(tiny_parts(), answers), asked)
    assert figures.found == 0
    apart = [
        math.degrees(math.acos(float(one.position @ other.position) / one.radius / other.radius))
        for one, other in zip(question.seats, question.seats[1:3], strict=False)
    ]
    assert figures.angle == pytest.approx(np.mean(apart), abs=1e-4)


def test_held_views_are_the_last_ones_and_the_photo_is_none_of_them():
    data = level_data(12)
    for number, question in enumerate(questions(data, objects=3, held_views=2)):
        images = data.views.images[number]
        assert question.asked == 2
        assert (question.candidates[:2] == images[10:]).all()
        photo = [(question.photo == view).all() for view in images]
        assert sum(photo[:10]) == 1
        assert not any((view == question.photo).all() for view in question.candidates)


def test_the_sheet_shows_photo_truth_and_answer():
    asked = questions(level_data(12), objects=2, held_views=2)
    _, sheet = look(Zero123Pipeline.of_parts(tiny_parts()), asked)
    assert isinstance(sheet, Image.Image)
    assert sheet.width > 5 * 32


def test_looking_twice_gives_the_same_figures():
    asked = questions(level_data(8), objects=2, held_views=1)
    pipe = Zero123Pipeline.of_parts(tiny_parts())
    assert look(pipe, asked)[0] == look(pipe, asked)[0]
