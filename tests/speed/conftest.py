from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from zero123 import Zero123Pipeline
from zero123.speed import restore
from zero123.speed.drawn import TINY, drawn_pipeline


@pytest.fixture(scope="session")
def published() -> Zero123Pipeline:
    """The published build, tiny, with drawn weights."""
    return drawn_pipeline(TINY)


@pytest.fixture(scope="session")
def mini() -> Zero123Pipeline:
    """Trained weights, a tiny autoencoder, velocity prediction; walks ten guided steps."""
    pipe = Zero123Pipeline.from_pretrained("mini")
    pipe.settings = replace(pipe.settings, steps=10, guidance=2.0)  # its own are one, unguided
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=["published", "mini"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Zero123Pipeline]:
    yield (made := request.getfixturevalue(request.param))
    restore(made)


def views(pipe: Zero123Pipeline, **options: object) -> np.ndarray:
    """Two views in three guided steps."""
    photo = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    asked = {"azimuth": [30, 150], "elevation": [10, -20], "num_inference_steps": 3, **options}
    seeded = torch.Generator().manual_seed(0)
    made: np.ndarray = pipe(photo, generator=seeded, output_type="np", **asked).images
    return made


@pytest.fixture
def view() -> Callable[..., np.ndarray]:
    return views
