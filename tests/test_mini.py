"""The bundled model obeys the camera, on objects that it was never trained on."""

import math
from typing import TypeAlias

import numpy as np
import pytest
import torch

from zero123 import Zero123Pipeline
from zero123.data import Lighting, procedural_mesh, render
from zero123.data.views import ViewSet
from zero123.geometry import Orbit

UNSEEN = 1_000_000  # first of the seeds; the recipe trains on those below 30500
MOVES = {
    "left": (-30.0, 0.0), "right": (30.0, 0.0), "far left": (-60.0, 0.0), "far right": (60.0, 0.0),
    "above": (0.0, 55.0), "below": (0.0, -55.0),
}  # fmt: skip
QUARTERS = {"left": (-90.0, 0.0), "right": (90.0, 0.0), "above": (0.0, 55.0), "below": (0.0, -55.0)}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
UNSURE = pytest.mark.xfail(reason="the bundled model tells too few sides apart: see its model card")

Errors: TypeAlias = dict[tuple[str, str], np.ndarray]
"""By wanted and shown move: how far each object's view is from the true one."""


def errors_of(seat: Orbit, moves: dict[str, tuple[float, float]], objects: int) -> Errors:
    pipe = Zero123Pipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    seats = [seat.moved(math.radians(e), math.radians(a)) for a, e in moves.values()]
    off = []
    for seed in range(UNSEEN, UNSEEN + objects):
        mesh = procedural_mesh(seed)
        photo, *truth = ViewSet.on_white(render(mesh, [seat, *seats], 128, Lighting()))
        views = pipe(
            photo,
            azimuth=[a for a, _ in moves.values()],
            elevation=[e for _, e in moves.values()],
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images[0, :, 0]
        off.append([[np.square(v - t / 255).mean() for t in truth] for v in views])
    table, names = np.array(off), list(moves)
    return {(w, s): table[:, names.index(w), names.index(s)] for w in names for s in names}


@pytest.fixture(scope="module")
def usual() -> Errors:
    """From the photo's seat of gso30."""
    return errors_of(Orbit(math.radians(70), math.radians(-60), 1.85), MOVES, 40)


@pytest.fixture(scope="module")
def frontal() -> Errors:
    """From nearly the front, where the two sides are each other's mirror image."""
    return errors_of(Orbit(math.radians(75), 0.3, 1.8), QUARTERS, 24)


def share_nearer(errors: Errors, wanted: str) -> float:
    return float((errors[wanted, wanted] < errors[wanted, OPPOSITE[wanted]]).mean())


@pytest.mark.parametrize("wanted", OPPOSITE)
def test_a_view_is_nearer_to_the_wanted_side_than_to_the_opposite_one(usual, wanted):
    assert share_nearer(usual, wanted) >= 0.75  # chance is half


@pytest.mark.parametrize(
    "wanted",
    ["left", pytest.param("right", marks=UNSURE), "above", "below"],
)
def test_so_is_a_quarter_turn_from_the_front(frontal, wanted):
    assert share_nearer(frontal, wanted) >= 0.75


def test_views_from_far_left_and_far_right_are_not_exchanged(usual):
    left, right = "far left", "far right"
    told = usual[left, left] + usual[right, right] < usual[left, right] + usual[right, left]
    assert told.mean() >= 0.75, f"{told.sum()} of {len(told)}; chance is half"


def test_the_package_carries_it_whole_and_small():
    from zero123.weights import bundled_models

    (mini,) = (model for model in bundled_models() if model.name == "mini")
    assert mini.licence == "MIT"
    assert mini.num_bytes < 64e6
