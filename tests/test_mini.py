"""The bundled model obeys the camera, on objects that it was never trained on."""

import math

import numpy as np
import pytest
import torch

from zero123 import Zero123Pipeline
from zero123.data import Lighting, procedural_mesh, render
from zero123.data.views import ViewSet
from zero123.geometry import Orbit

UNSEEN = range(1_000_000, 1_000_024)  # seeds; the recipe trains on those below 21500
MOVES = {"left": (-90.0, 0.0), "right": (90.0, 0.0), "above": (0.0, 55.0), "below": (0.0, -55.0)}


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    """For each object, wanted move and shown move: how far the view is from the true one."""
    pipe = Zero123Pipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    seat = Orbit(math.radians(75), 0.3, 1.8)
    seats = [seat.moved(math.radians(e), math.radians(a)) for a, e in MOVES.values()]
    off = []
    for seed in UNSEEN:
        mesh = procedural_mesh(seed)
        photo, *truth = ViewSet.on_white(render(mesh, [seat, *seats], 128, Lighting()))
        views = pipe(
            photo,
            azimuth=[a for a, _ in MOVES.values()],
            elevation=[e for _, e in MOVES.values()],
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images[0, :, 0]
        off.append([[np.square(v - t / 255).mean() for t in truth] for v in views])
    table = np.array(off)
    return {name: table[:, number] for number, name in enumerate(MOVES)}


UNDER_TRAINED = pytest.mark.xfail(reason="the bundled model is under-trained: see its model card")


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        pytest.param("left", "right", marks=UNDER_TRAINED),
        pytest.param("right", "left", marks=UNDER_TRAINED),
        ("above", "below"),
        ("below", "above"),
    ],
)
def test_a_view_is_nearer_to_the_wanted_side_than_to_the_opposite_one(answers, wanted, other):
    names = list(MOVES)
    nearer = answers[wanted][:, names.index(wanted)] < answers[wanted][:, names.index(other)]
    assert nearer.mean() >= 0.75, f"{nearer.sum()} of {len(nearer)}; chance is half"


def test_the_package_carries_it_whole_and_small():
    from zero123.weights import bundled_models

    (mini,) = (model for model in bundled_models() if model.name == "mini")
    assert mini.licence == "MIT"
    assert mini.num_bytes < 64e6
