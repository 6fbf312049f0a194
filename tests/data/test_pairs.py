import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIZE, VIEWS, contents, names, tiny, views_folder
from torch.utils.data import DataLoader

from zero123.data.layouts import write_views
from zero123.data.pairs import (
    DataSet,
    Pair,
    Pairs,
    SkippedWarning,
    open_data,
    pack_views,
    split_names,
)
from zero123.data.shards import pack_shards
from zero123.data.stored import DataError
from zero123.data.views import ViewSet, draw_pairs
from zero123.geometry import Orbit, pose_token

COUNT = 7


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataSet]:
    """The same objects in every form that can be read."""
    root = tmp_path_factory.mktemp("forms")
    folder = views_folder(root / "views", COUNT)
    listed = folder / "valid_paths.json"
    pack_shards(folder, names(COUNT), root / "shards", objects_per_shard=3)
    shutil.make_archive(str(root / "views"), "gztar", root, "views")
    shutil.make_archive(str(root / "views"), "tar", root, "views")
    return {
        "folder": open_data(folder),
        "shards": open_data(root / "shards"),
        "tar.gz": open_data(root / "views.tar.gz", listed),
        "tar": open_data(root / "views.tar"),
    }


def key(pair: Pair) -> tuple[str, tuple[int, int]]:
    return pair.name, pair.views


def test_a_pair_shows_two_views_and_the_move_between_them(forms: dict[str, DataSet]) -> None:
    for pair in Pairs(forms["shards"], split="all"):
        obj, (photo, target) = tiny(pair.name), pair.views
        assert photo != target
        for picture, view in ((pair.photo, photo), (pair.target, target)):
            assert picture.shape == (3, SIZE, SIZE)
            white = ViewSet.on_white(obj.pictures[view])
            np.testing.assert_array_equal(picture.permute(1, 2, 0) * 255, white)
        cond, wanted = (Orbit.from_camera(obj.cameras[view]) for view in pair.views)
        torch.testing.assert_close(pair.pose, pose_token(cond, wanted))


@pytest.mark.parametrize("form", ["shards", "tar.gz", "tar"])
def test_all_forms_give_the_same_pairs(forms: dict[str, DataSet], form: str) -> None:
    there = {pair.name: pair for pair in Pairs(forms["folder"], seed=3, epoch=2, split="all")}
    here = {pair.name: pair for pair in Pairs(forms[form], seed=3, epoch=2, split="all")}
    assert sorted(here) == names(COUNT)
    for name, pair in here.items():
        assert pair.views == there[name].views
        assert torch.equal(pair.photo, there[name].photo)
        assert torch.equal(pair.target, there[name].target)
        assert torch.equal(pair.pose, there[name].pose)


def test_folder_and_shards_come_in_the_same_order(forms: dict[str, DataSet]) -> None:
    orders = [list(map(key, Pairs(forms[form], epoch=1))) for form in ("folder", "shards")]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("form", ["folder", "shards", "tar.gz", "tar"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 9])
def test_ranks_share_an_epoch_without_gap_or_overlap(
    forms: dict[str, DataSet], form: str, world_size: int
) -> None:
    pairs = Pairs(forms[form], epoch=4, split="all", world_size=world_size)
    alone = sorted(map(key, Pairs(forms["folder"], epoch=4, split="all")))
    parts = [list(map(key, replace(pairs, rank=rank))) for rank in range(world_size)]
    assert sorted(pair for part in parts for pair in part) == alone
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("form", ["shards", "tar.gz"])
def test_workers_share_a_rank_without_gap_or_overlap(forms: dict[str, DataSet], form: str) -> None:
    pairs = Pairs(forms[form], seed=1, split="all", world_size=2)
    parts = [
        [
            key(pair)
            for pair in DataLoader(replace(pairs, rank=rank), batch_size=None, num_workers=2)
        ]
        for rank in range(2)
    ]
    alone = sorted(map(key, Pairs(forms["folder"], seed=1, split="all")))
    assert sorted(parts[0] + parts[1]) == alone
    assert len(parts[0]) in (3, 4)


def test_each_epoch_and_seed_draws_anew_and_repeats_itself(forms: dict[str, DataSet]) -> None:
    pairs = Pairs(forms["folder"], split="all")
    drawn = {
        (seed, epoch): list(map(key, replace(pairs, seed=seed, epoch=epoch)))
        for seed in range(2)
        for epoch in range(2)
    }
    assert len({tuple(order) for order in drawn.values()}) == 4
    assert list(map(key, replace(pairs, seed=1, epoch=0))) == drawn[1, 0]


def test_every_view_comes_up(forms: dict[str, DataSet]) -> None:
    pairs = Pairs(forms["folder"], split="all")
    seen = {p.views for epoch in range(12) for p in replace(pairs, epoch=epoch)}
    assert len(seen) == VIEWS * (VIEWS - 1)


def test_the_last_hundredth_validates() -> None:
    all_names = [f"{n:04d}" for n in range(1234)]
    train, held = (split_names(all_names, split) for split in ("train", "validation"))
    assert len(train) == 1221  # floor(1234 / 100 * 99)
    assert [*train, *held] == all_names
    assert split_names(all_names, "all") == all_names


@pytest.mark.parametrize("form", ["folder", "shards", "tar.gz"])
def test_splits_are_the_same_in_every_form(forms: dict[str, DataSet], form: str) -> None:
    held = [pair.name for pair in Pairs(forms[form], split="validation")]
    assert held == names(COUNT)[-1:]
    assert sorted(pair.name for pair in Pairs(forms[form])) == names(COUNT)[:-1]


def test_an_archive_without_its_list_has_no_split(forms: dict[str, DataSet]) -> None:
    with pytest.raises(ValueError, match=r"without its valid_paths\.json an archive has no split"):
        Pairs(forms["tar"], split="train")


def test_a_rank_outside_the_world_is_refused(forms: dict[str, DataSet]) -> None:
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        Pairs(forms["folder"], rank=2, world_size=2)


def half_transparent(name: str) -> np.ndarray:
    pictures = tiny(name).pictures.copy()
    pictures[..., :3] = (200, 100, 50)
    pictures[:, :8, :, 3], pictures[:, 8:, :, 3] = 0, 51  # a fifth
    return pictures


def test_the_originals_compositing_is_a_choice(tmp_path: Path) -> None:
    write_views(tmp_path, replace(tiny("glass"), pictures=half_transparent("glass")))
    data = open_data(tmp_path)
    blended = next(iter(Pairs(data, split="all"))).photo * 255
    original = next(iter(Pairs(data, split="all", compositing="original"))).photo * 255
    assert (blended[:, :8] == 255).all()
    assert (original[:, :8] == 255).all()
    assert blended[:, 20, 20].tolist() == [244, 224, 214]
    assert original[:, 20, 20].tolist() == [200, 100, 50]


def test_scaling_averages_colours_by_their_alpha(tmp_path: Path) -> None:
    """As in light: what lies hidden under transparent pixels must not bleed out."""
    obj = tiny("cup", 2, 64)
    hidden = np.where(obj.pictures[..., 3:] == 0, np.uint8([0, 0, 0, 0]), obj.pictures)
    write_views(tmp_path / "a", obj)
    write_views(tmp_path / "b", replace(obj, pictures=hidden))
    one, two = (
        next(iter(Pairs(open_data(tmp_path / form), split="all", size=16))) for form in "ab"
    )
    assert one.photo.shape == (3, 16, 16)
    assert torch.equal(one.photo, two.photo)
    white = Image.fromarray(ViewSet.on_white(obj.pictures[one.views[0]]))
    small = np.array(white.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(one.photo.permute(1, 2, 0) * 255, small, atol=1.01)


@pytest.mark.parametrize("form", ["folder", "shards", "tar.gz", "tar"])
def test_packed_views_are_the_same_from_every_form(
    forms: dict[str, DataSet], form: str, tmp_path: Path
) -> None:
    views = pack_views(forms[form], tmp_path, "set", SIZE)
    order = json.loads((tmp_path / "set.json").read_text())
    assert sorted(order) == names(COUNT)
    assert views.images.shape == (COUNT, VIEWS, SIZE, SIZE, 3)
    for item, name in enumerate(order):
        obj = tiny(name)
        np.testing.assert_array_equal(views.images[item], ViewSet.on_white(obj.pictures))
        for view, camera in enumerate(obj.cameras):
            seat, told = Orbit.from_camera(camera), views.orbit(item, view)
            assert (told.polar, told.azimuth, told.radius) == pytest.approx(
                (seat.polar, seat.azimuth, seat.radius), abs=1e-6
            )


def test_packed_views_are_scaled_split_and_drawn_from(
    forms: dict[str, DataSet], tmp_path: Path
) -> None:
    views = pack_views(forms["shards"], tmp_path, "set", 16, split="train")
    assert views.images.shape == (COUNT - 1, VIEWS, 16, 16, 3)
    pair = next(iter(Pairs(forms["shards"], split="train", size=16)))
    item = json.loads((tmp_path / "set.json").read_text()).index(pair.name)
    packed = torch.from_numpy(np.array(views.images[item, pair.views[0]])).permute(2, 0, 1)
    torch.testing.assert_close(packed / 255, pair.photo, atol=0.51 / 255, rtol=0)
    batch = draw_pairs(views, np.random.default_rng(0), photos=5, targets=2)
    assert batch.pose.shape == (10, 4)
    again = pack_views(forms["shards"], tmp_path, "again", 16, split="train")
    np.testing.assert_array_equal(views.images, again.images)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = views_folder(tmp_path / "damaged", 4)
    for picture in (folder / names(4)[1]).glob("*.png"):
        picture.write_bytes(picture.read_bytes()[:100])
    return folder


def test_a_damaged_object_ends_the_reading_by_default(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"object\.001, view \d: picture: "):
        list(Pairs(open_data(damaged), split="all"))
    with pytest.raises(DataError, match=r"object\.001, view 0: picture: "):
        pack_views(damaged, tmp_path / "sets", "set", SIZE)
    assert contents(tmp_path / "sets") == {}


def test_a_skipped_object_is_counted_and_named(damaged: Path, tmp_path: Path) -> None:
    pairs = Pairs(open_data(damaged), split="all", damaged="skip")
    with pytest.warns(SkippedWarning, match=r"skipped object\.001, view \d: picture") as told:
        kept = [pair.name for pair in pairs]
    assert len(told) == len(pairs.skipped) == 1
    assert pairs.skipped[0].name == names(4)[1]
    assert replace(pairs, epoch=1).skipped == []
    assert sorted(kept) == [names(4)[0], *names(4)[2:]]
    with pytest.warns(SkippedWarning, match=r"skipped object\.001, view 0"):
        views = pack_views(damaged, tmp_path, "set", SIZE, damaged="skip")
    assert len(views) == 3


def test_skipping_shifts_no_other_object_between_ranks(damaged: Path) -> None:
    def names_of(rank: int) -> list[str]:
        pairs = Pairs(open_data(damaged), split="all", damaged="skip", rank=rank, world_size=2)
        return [pair.name for pair in pairs]

    with pytest.warns(SkippedWarning):
        kept = names_of(0) + names_of(1)
    assert sorted(kept) == [names(4)[0], *names(4)[2:]]


def test_the_rest_of_a_cut_archive_is_skipped_aloud(tmp_path: Path) -> None:
    views_folder(tmp_path / "views", 4)
    path = Path(shutil.make_archive(str(tmp_path / "views"), "tar", tmp_path, "views"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"views\.tar: cut short or damaged within object"):
        list(Pairs(open_data(path), split="all"))
    pairs = Pairs(open_data(path), split="all", damaged="skip")
    with pytest.warns(SkippedWarning, match=r"skipped views\.tar: cut short"):
        kept = list(pairs)
    assert 0 < len(kept) < 4
    assert [fault.name for fault in pairs.skipped] == ["views.tar"]


def test_one_view_makes_no_pair(tmp_path: Path) -> None:
    write_views(tmp_path, tiny("cup", 1))
    with pytest.raises(DataError, match="cup: a pair takes two views, it has 1"):
        list(Pairs(open_data(tmp_path), split="all"))


def test_objects_of_other_view_counts_are_not_packed(tmp_path: Path) -> None:
    for name, num_views in (("a", 3), ("b", 2)):
        write_views(tmp_path / "views", tiny(name, num_views))
    with pytest.raises(DataError, match="b: has 2 views, the first object has 3"):
        pack_views(tmp_path / "views", tmp_path, "set", SIZE)


def test_nothing_to_pack_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "views").mkdir()
    with pytest.raises(DataError, match="no object is left to pack"):
        pack_views(tmp_path / "views", tmp_path, "set", SIZE)
