import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIZE, names, tiny, views_folder

from zero123.data import Lighting, procedural_mesh, render
from zero123.data.check import check, show
from zero123.data.layouts import write_views
from zero123.data.rendered import RenderedObject
from zero123.data.shards import pack_shards
from zero123.data.stored import DataError
from zero123.data.views import ViewSet
from zero123.geometry import Orbit, Rigid


@pytest.mark.parametrize("form", ["views", "shards", "views.tar", "views.tar.gz"])
def test_good_data_sets_have_no_faults(tmp_path: Path, form: str) -> None:
    folder = views_folder(tmp_path / "views", 3)
    pack_shards(folder, names(3), tmp_path / "shards", objects_per_shard=2)
    shutil.make_archive(str(tmp_path / "views"), "tar", tmp_path, "views")
    shutil.make_archive(str(tmp_path / "views"), "gztar", tmp_path, "views")
    assert check(tmp_path / form) == []


def test_cameras_at_the_poles_are_good(tmp_path: Path) -> None:
    orbits = [Orbit(0.0, 0.7, 1.6), Orbit(math.pi, -2.0, 1.6), Orbit(1e-4, 0.1, 2.0)]
    pictures = render(procedural_mesh(0), orbits, SIZE, Lighting())
    cameras = tuple(orbit.camera_from_world for orbit in orbits)
    write_views(tmp_path, RenderedObject("poles", pictures, cameras))
    assert check(tmp_path) == []


def painted(obj: RenderedObject, view: int, change: Callable[[np.ndarray], None]) -> RenderedObject:
    pictures = obj.pictures.copy()
    change(pictures[view])
    return replace(obj, pictures=pictures)


def filmed(obj: RenderedObject, view: int, camera: Rigid) -> RenderedObject:
    cameras = [*obj.cameras[:view], camera, *obj.cameras[view + 1 :]]
    return replace(obj, cameras=tuple(cameras))


def turned(camera: Rigid, axis: int, degrees: float) -> Rigid:
    """A camera turned around one of its own axes."""
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rows = np.roll(np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]), (axis, axis), (0, 1))
    turn = Rigid(torch.from_numpy(rows), torch.zeros(3, dtype=torch.float64))
    return turn @ camera


def emptied(picture: np.ndarray) -> None:
    picture[..., 3] = 0


def whitened(picture: np.ndarray) -> None:
    picture[..., :3] = 253


def pushed_aside(picture: np.ndarray) -> None:
    picture[...] = np.roll(picture, SIZE // 2, axis=1)
    picture[:, : SIZE * 3 // 4, 3] = 0


GOOD = tiny("good")
SEAT = Orbit.from_camera(GOOD.cameras[1])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (painted(GOOD, 1, emptied), "picture: nothing is to be seen"),
        (painted(GOOD, 1, whitened), "picture: all white"),
        (painted(GOOD, 1, pushed_aside), "picture: the object is at the border"),
        (filmed(GOOD, 1, turned(GOOD.cameras[1], 0, 1)), "camera: looks 1° past the origin"),
        (filmed(GOOD, 1, turned(GOOD.cameras[1], 1, 180)), "camera: looks 1.8e+02° past"),
        (filmed(GOOD, 1, turned(GOOD.cameras[1], 2, 1)), "camera: is rolled by"),
        (filmed(GOOD, 1, turned(GOOD.cameras[1], 2, 180)), "camera: is rolled by"),
        (filmed(GOOD, 1, replace(SEAT, radius=0.5).camera_from_world), "its distance is 0.5, not"),
        (filmed(GOOD, 1, replace(SEAT, radius=20.0).camera_from_world), "its distance is 20, not"),
    ],
)
def test_a_bad_view_is_named_with_its_reason(
    tmp_path: Path, bad: RenderedObject, reason: str
) -> None:
    write_views(tmp_path, replace(bad, name="bad"))
    write_views(tmp_path, GOOD)
    faults = check(tmp_path)
    assert [(fault.name, fault.view) for fault in faults] == [("bad", 1)]
    assert reason in faults[0].reason
    assert str(faults[0]).startswith("bad, view 1: ")


def test_the_odd_ones_are_named(tmp_path: Path) -> None:
    for name in "abc":
        write_views(tmp_path, tiny(name))
    write_views(tmp_path, tiny("few", 3))
    write_views(tmp_path, tiny("large", 4, 48))
    assert [str(fault) for fault in check(tmp_path)] == [
        "few: has 3 views, most have 4",
        "large: has pictures of [48] pixels a side, most have 32",
    ]


def test_everything_bad_is_listed_not_only_the_first(tmp_path: Path) -> None:
    for name in names(4):
        write_views(tmp_path, tiny(name))
    (tmp_path / names(4)[0] / "001.png").write_bytes(b"text")
    (tmp_path / names(4)[0] / "002.npy").write_bytes(b"text")
    (tmp_path / names(4)[2] / "000.png").unlink()
    shutil.rmtree(tmp_path / names(4)[3])
    (tmp_path / "valid_paths.json").write_text(str(names(4)).replace("'", '"'))
    faults = check(tmp_path)
    assert [(fault.name, fault.view) for fault in faults] == [
        (names(4)[0], 1),
        (names(4)[0], 2),
        (names(4)[2], 0),
        (names(4)[3], None),
    ]


def test_a_flipped_bit_in_a_picture_of_a_folder_is_found(tmp_path: Path) -> None:
    folder = views_folder(tmp_path, 1)
    path, rng = folder / names(1)[0] / "001.png", np.random.default_rng(0)
    data = path.read_bytes()
    needed = len(data) - 12  # the chunk at the end holds nothing
    for bit in rng.integers(8 * needed, size=100).tolist():
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert [(fault.name, fault.view) for fault in check(folder)] == [(names(1)[0], 1)]


def test_lost_and_foreign_shards_are_named(tmp_path: Path) -> None:
    folder = views_folder(tmp_path / "views", 3)
    pack_shards(folder, names(3), tmp_path / "shards", objects_per_shard=1)
    shards = tmp_path / "shards"
    (shards / "shard-00002.tar").rename(shards / "shard-00003.tar")
    assert [str(fault) for fault in check(shards)] == [
        "shard-00002.tar: missing",
        "shard-00003.tar: not in the index",
        "object.002: shard-00002.tar is missing",
    ]


def test_what_is_no_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no data set"):
        check(tmp_path / "nothing")


@pytest.mark.parametrize("form", ["views", "shards", "views.tar"])
def test_the_sheet_shows_objects_in_rows(tmp_path: Path, form: str) -> None:
    folder = views_folder(tmp_path / "views", 3)
    pack_shards(folder, names(3), tmp_path / "shards")
    shutil.make_archive(str(tmp_path / "views"), "tar", tmp_path, "views")
    sheet = show(tmp_path / form, objects=2, views=3)
    wider = show(tmp_path / form, objects=2, views=5)
    taller = show(tmp_path / form, objects=9, views=3)
    assert wider.width > sheet.width > 3 * 128
    assert taller.height > sheet.height > 2 * 128
    if form != "views.tar":  # which has its own order
        first = Image.fromarray(ViewSet.on_white(tiny(names(3)[0]).pictures[0]))
        tile = first.resize((128, 128), Image.Resampling.BOX)
        np.testing.assert_array_equal(np.array(sheet)[8:136, 8:136], np.array(tile))


def test_a_damaged_object_is_shown_as_its_reason(tmp_path: Path) -> None:
    folder = views_folder(tmp_path, 2)
    before = show(folder, objects=2, views=2)
    (folder / names(2)[1] / "000.png").write_bytes(b"text")
    after = show(folder, objects=2, views=2)
    one, two = (np.array(sheet)[8:136] for sheet in (before, after))
    np.testing.assert_array_equal(one, two)
    assert np.array(after)[-100, 60].tolist() == [211, 211, 211]


def test_an_empty_data_set_has_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no objects"):
        show(tmp_path)
