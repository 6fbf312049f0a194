import math

import numpy as np
import pytest

from zero123.data.studio import LAMP_PLACE, Studio, sample_studio


def test_the_panel_hangs_and_shines_within_the_published_ranges() -> None:
    studios = [sample_studio(np.random.default_rng(seed)) for seed in range(200)]
    watts = np.array([studio.panel_watts for studio in studios])
    places = np.array([studio.panel_place for studio in studios])
    for values, low, high in [
        (watts, 300, 600),
        (places[:, 0], -1, 1),
        (places[:, 1], -1, 1),
        (places[:, 2], 0.5, 1.5),
    ]:
        room = (high - low) / 20
        assert low <= values.min() < low + room
        assert high - room < values.max() <= high


def test_the_same_draw_is_the_same_light() -> None:
    assert sample_studio(np.random.default_rng(5)) == sample_studio(np.random.default_rng(5))


def test_the_fast_lamp_stands_where_the_real_one_does() -> None:
    (lamp,) = Studio().lighting().lamps
    np.testing.assert_allclose(
        lamp.direction, np.array(LAMP_PLACE) / np.linalg.norm(LAMP_PLACE), atol=1e-6
    )


def test_a_stronger_panel_brightens_what_looks_up_and_nothing_else() -> None:
    weak, strong = Studio(panel_watts=300.0).lighting(), Studio(panel_watts=600.0).lighting()
    assert strong.sky[0] - weak.sky[0] == pytest.approx(300 / (math.pi * 1e4))
    assert (strong.ground, strong.lamps) == (weak.ground, weak.lamps)


@pytest.mark.parametrize("watts", [-1.0, math.nan, math.inf])
def test_impossible_light_is_refused(watts: float) -> None:
    with pytest.raises(ValueError, match="panel"):
        Studio(panel_watts=watts)
