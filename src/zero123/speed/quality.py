"""What plans cost in pictures, on made-up objects that no model was trained on."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from zero123.data import procedural_mesh, render, sample_lighting, sample_orbits
from zero123.data.views import ViewSet
from zero123.evaluation.candidates import Question, from_pipeline
from zero123.evaluation.metrics import psnr
from zero123.evaluation.statistics import Estimate, over_objects
from zero123.pipeline import Zero123Pipeline
from zero123.speed.accelerate import accelerate, restore
from zero123.speed.plan import Plan

_FIRST_SEED = 900_000_000
"""Trainings count their made-up objects from 0."""
_NUM_SEATS, _NUM_TARGETS = 16, 4


@dataclass(frozen=True)
class Loss:
    """A plan on all objects."""

    name: str
    psnr: Estimate
    """Against the truth, dB."""
    lost: Estimate
    """dB less than the plain pipeline, object by object; below 0 it gained."""
    moved: float
    """PSNR against the plain pipeline's own views, dB."""
    cpu_seconds: float
    """A view, of all cores by this process."""


def held_out(objects: int, size: int) -> list[tuple[Question, np.ndarray]]:
    """Draw objects, a photo of each, and true views from other seats (targets, H, W, 3)."""
    drawn = []
    for seed in range(_FIRST_SEED, _FIRST_SEED + objects):
        rng = np.random.default_rng(seed)
        # seats near eye level: no climb is more than a model can be asked for
        seats = sorted(sample_orbits(rng, _NUM_SEATS), key=lambda seat: abs(seat.elevation))
        seats = seats[: 1 + _NUM_TARGETS]
        pictures = render(procedural_mesh(seed), seats, size, sample_lighting(rng))
        photo, *truths = ViewSet.on_white(pictures)
        drawn.append((Question(photo, seats[0], tuple(seats[1:]), seed=seed), np.stack(truths)))
    return drawn


def losses(
    pipe: Zero123Pipeline,
    plans: Mapping[str, Plan],
    objects: int,
    done: Callable[[str], None] = lambda _: None,
) -> Iterator[Loss]:
    """Let each plan answer the same questions; the first is what the others are compared with.

    Args:
        pipe: plain; so it is again afterwards.
        plans: by name.
        objects: how many.
        done: told of each object that is answered.
    """
    drawn = held_out(objects, pipe.image_size)
    truths = [truth for _, truth in drawn]
    plain: list[np.ndarray] = []
    for name, plan in plans.items():
        answer = from_pipeline(name, accelerate(pipe, plan), "default").answer
        answer(drawn[0][0])  # compiled
        begin, views = time.process_time(), []
        for question, _ in drawn:
            views.append(answer(question)[:, 0])
            done(name)
        spent = time.process_time() - begin
        restore(pipe)
        plain = plain or views
        own, first = _scores(views, truths), _scores(plain, truths)
        yield Loss(
            name,
            over_objects(own),
            over_objects(first - own),
            float(_scores(views, plain).mean()),
            spent / (objects * _NUM_TARGETS),
        )


def _scores(views: list[np.ndarray], truths: list[np.ndarray]) -> np.ndarray:
    """PSNR an object, dB, the mean of its views."""
    return np.array(
        [
            np.mean([psnr(view, truth) for view, truth in zip(made, true, strict=True)])
            for made, true in zip(views, truths, strict=True)
        ]
    )
