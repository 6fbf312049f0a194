import json
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest

from zero123.data import Lighting, procedural_mesh, render
from zero123.data.compact import compact
from zero123.data.views import ViewSet
from zero123.geometry import Orbit
from zero123.training.sets import COMPACT, make_views, mirror, open_source, weights_of


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Two made-up objects and one that is broken, as one set, and mirrored."""
    folder = tmp_path_factory.mktemp("sets")
    (folder / "broken.mesh").write_bytes(b"no mesh")
    said: list[str] = []
    with ThreadPool(1) as pool:
        sources = ["procedural:4", str(folder / "broken.mesh"), "procedural:9"]
        make_views(pool, folder, "some", sources, 6, said.append)
        make_views(pool, folder, "again", sources[2:], 6)
    assert len(said) == 1
    assert "broken.mesh: no compact mesh" in said[0]
    mirror(folder, "some", "mirrored")
    return folder


def test_what_cannot_be_drawn_is_left_out(drawn):
    assert json.loads((drawn / "some.json").read_text()) == ["procedural:4", "procedural:9"]
    assert ViewSet.open(drawn, "some").images.shape == (2, 6, 128, 128, 3)


def test_an_object_has_the_same_pictures_in_every_set(drawn):
    some, again = ViewSet.open(drawn, "some"), ViewSet.open(drawn, "again")
    np.testing.assert_array_equal(some.images[1], again.images[0])
    np.testing.assert_array_equal(some.orbits[1], again.orbits[0])


def test_a_set_that_is_there_is_not_made_again(drawn):
    before = (drawn / "some.images.npy").stat().st_mtime_ns
    with ThreadPool(1) as pool:
        make_views(pool, drawn, "some", ["procedural:1"], 6)
    assert (drawn / "some.images.npy").stat().st_mtime_ns == before


def test_a_mirrored_object_is_seen_from_the_other_side_in_other_colours(drawn):
    some, mirrored = ViewSet.open(drawn, "some"), ViewSet.open(drawn, "mirrored")
    np.testing.assert_array_equal(mirrored.orbits, some.orbits * np.float32([1, -1, 1]))
    flipped = some.images[:, :, :, ::-1]
    np.testing.assert_array_equal(np.sort(mirrored.images, -1), np.sort(flipped, -1))
    assert not np.array_equal(mirrored.images, flipped)


def test_an_object_of_unlike_sides_is_drawn_more_often():
    seats = [Orbit(1.3, azimuth, 1.8) for azimuth in np.linspace(0, 5, 6).tolist()]
    views = ViewSet.on_white(render(procedural_mesh(4), seats, 128, Lighting()))
    orbits = np.array([[s.polar, s.azimuth, s.radius] for s in seats], np.float32)
    same_all_round = np.stack([views[0]] * 6)
    weights = weights_of(np.stack([views, same_all_round, views]), np.stack([orbits] * 3))
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == weights[2] == pytest.approx(5 * weights[1])


def test_a_set_of_nothing_is_refused(tmp_path):
    (tmp_path / "broken.mesh").write_bytes(b"no mesh")
    with ThreadPool(1) as pool, pytest.raises(ValueError, match="none of 1 sources"):
        make_views(pool, tmp_path, "none", [str(tmp_path / "broken.mesh")], 2, lambda said: None)


def test_a_packed_object_is_opened_by_its_suffix(tmp_path):
    file = (tmp_path / "ship").with_suffix(COMPACT)
    file.write_bytes(compact(procedural_mesh(4)))
    assert len(open_source(str(file)).faces) == len(procedural_mesh(4).faces)
