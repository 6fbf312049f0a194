import pytest
from tests.data.tiny import names, tiny, views_folder
from tests.training.conftest import tiny_parts

from zero123.data.layouts import finish_views, write_views
from zero123.training.dataset import DatasetError, held_out, open_dataset
from zero123.training.features import FeatureViews


def opened(source, folder, with_embeddings=False, **options) -> FeatureViews:
    return open_dataset(str(source), folder, "data", tiny_parts(), 32, with_embeddings, **options)


def test_made_up_objects_become_features_once(tmp_path):
    made = opened("procedural:2", tmp_path, with_embeddings=True)
    assert made.views.images.shape == (2, 24, 32, 32, 3)
    assert made.latents.shape == (2, 24, 4, 4, 4)
    assert made.embeddings is not None
    assert made.embeddings.shape == (2, 24, 8)
    before = (tmp_path / "data.latents.npy").stat().st_mtime_ns
    again = opened("procedural:2", tmp_path, with_embeddings=True)
    assert (again.latents == made.latents).all()
    assert (tmp_path / "data.latents.npy").stat().st_mtime_ns == before


def test_another_source_in_the_same_place_is_refused(tmp_path):
    views = views_folder(tmp_path / "views")
    opened(views, tmp_path / "run")
    with pytest.raises(DatasetError, match="other data"):
        opened("procedural:2", tmp_path / "run")


def test_the_last_views_are_held_out(tmp_path):
    features = opened(views_folder(tmp_path / "views"), tmp_path / "run", with_embeddings=True)
    kept = held_out(features)
    assert kept.held_views == 1
    assert kept.trained.num_views == 3
    assert (kept.trained.views.images == features.views.images[:, :3]).all()
    assert (kept.trained.latents == features.latents[:, :3]).all()
    assert kept.trained.embeddings is not None
    assert features.embeddings is not None
    assert (kept.trained.embeddings == features.embeddings[:, :3]).all()


def test_objects_of_three_views_have_none_to_hold_out(tmp_path):
    for name in names(2):
        write_views(tmp_path / "views", tiny(name, num_views=3))
    finish_views(tmp_path / "views")
    with pytest.raises(DatasetError, match="takes 4"):
        held_out(opened(tmp_path / "views", tmp_path / "run"))


def test_damaged_objects_are_named_and_left_out(tmp_path):
    views, said = views_folder(tmp_path / "views", count=20), []
    damaged = views / names(20)[7] / "002.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    features = opened(views, tmp_path / "run", say=said.append)
    assert len(features.views) == 19
    (sentence,) = said
    assert names(20)[7] in sentence


def test_too_many_damaged_objects_are_no_data_set(tmp_path):
    views = views_folder(tmp_path / "views", count=5)
    (views / names(5)[0] / "000.npy").unlink()
    with pytest.raises(DatasetError, match="1 of 5 objects"):
        opened(views, tmp_path / "run", say=lambda sentence: None)
