"""A trial of seconds: made-up objects, six views of 48 pixels, and models that know the truth."""

import math

import numpy as np

from zero123.data import Lighting, procedural_mesh, render
from zero123.evaluation.candidates import Candidate
from zero123.evaluation.scenes import Scene, SceneError, Trial, on_white
from zero123.geometry import Orbit

SIZE = 48
PHOTO = Orbit(math.radians(70), math.radians(-60), 1.85)
TARGETS = tuple(
    Orbit(math.radians(polar), math.radians(-60 + turn), radius)
    for polar, turn, radius in (
        (60, 30, 1.85),
        (85, 75, 1.6),
        (50, 130, 2.1),
        (75, 180, 1.85),
        (95, 230, 1.7),
        (65, 290, 2.0),
    )
)
NAMES = ("one", "two", "three")
SEEDS = {"one": 3, "two": 11, "three": 24}


def drawn(name, seats):
    return render(procedural_mesh(SEEDS[name]), seats, SIZE, Lighting())


def scene(name):
    pictures = drawn(name, (PHOTO, *TARGETS))
    return Scene(name, on_white(pictures[0]), PHOTO, pictures[1:], TARGETS)


def trial(samples=1, names=NAMES, broken=()):
    def opened(name):
        if name in broken:
            raise SceneError(f"{name} is not what it was")
        return scene(name)

    return Trial("toy", ("made up",), tuple(names), opened, samples)


def oracle(name="oracle", seen=lambda photo, seat: seat, calls=None):
    """A model that renders the object that it recognises, from the seat that it understood."""
    known = {scene(each).photo.tobytes(): each for each in NAMES}

    def answer(question):
        shown = known[question.photo.tobytes()]
        if calls is not None:
            calls.append(shown)
        views = on_white(drawn(shown, [seen(question.seat, seat) for seat in question.seats]))
        return np.repeat(views[:, None], question.samples, axis=1)

    return Candidate(name, name, answer)
