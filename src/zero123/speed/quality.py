"""What plans cost in pictures: against the truth, on the objects of a trial."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8

from zero123.evaluation.candidates import Question, from_pipeline
from zero123.evaluation.metrics import psnr
from zero123.evaluation.scenes import Trial
from zero123.evaluation.statistics import Estimate, over_objects
from zero123.pipeline import Zero123Pipeline
from zero123.speed.accelerate import accelerate, restore
from zero123.speed.plan import Plan

_Views: TypeAlias = list[UInt8[np.ndarray, "targets samples H W 3"]]


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


def losses(
    pipe: Zero123Pipeline,
    plans: Mapping[str, Plan],
    trial: Trial,
    done: Callable[[str], None] = lambda _: None,
) -> Iterator[Loss]:
    """Let the plain pipeline and then each plan answer the same questions.

    Args:
        pipe: plain; so it is again afterwards.
        plans: by name.
        trial: which objects, noise and sampler.
        done: told of each object that is answered.

    Raises:
        SceneError: if an object cannot be asked about.
    """
    scenes = [trial.open(name) for name in trial.names]
    questions = [
        Question(scene.photo, scene.seat, scene.seats, trial.samples, trial.seed)
        for scene in scenes
    ]
    truths = [np.repeat(scene.on_white[:, None], trial.samples, axis=1) for scene in scenes]
    plain: _Views = []
    for name, plan in {"plain": Plan(), **plans}.items():
        answer = from_pipeline(name, accelerate(pipe, plan), trial.sampler).answer
        answer(questions[0])  # compiled
        begin, views = time.process_time(), []
        for question in questions:
            views.append(answer(question))
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
            spent / sum(len(seen) * trial.samples for seen in views),
        )


def _scores(views: _Views, truths: _Views) -> np.ndarray:
    """PSNR an object, dB, the mean of its views."""
    return np.array(
        [
            np.mean([psnr(view, wanted) for view, wanted in zip(made, true, strict=True)])
            for made, true in zip(views, truths, strict=True)
        ]
    )
