from pathlib import Path

import pytest

from zero123.files import remove_partials, written_whole


@pytest.fixture(params=["file", "folder"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something that is there already, beside nothing else."""
    target = tmp_path / "thing.ext"
    make(target, request.param, "old")
    return target


def make(place: Path, kind: str, words: str) -> None:
    if kind == "folder":
        (place / "deep").mkdir(parents=True)
        place = place / "deep" / "file"
    place.write_text(words)


def held(place: Path) -> str:
    return (place if place.is_file() else place / "deep" / "file").read_text()


def kind_of(place: Path) -> str:
    return "folder" if place.is_dir() else "file"


def test_what_is_made_takes_the_place_of_what_was(old: Path) -> None:
    with written_whole(old) as part:
        assert part.name == old.name
        make(part, kind_of(old), "new")
        assert held(old) == "old"
    assert held(old) == "new"
    assert list(old.parent.iterdir()) == [old]


def test_a_folder_on_the_way_is_made(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a" / "b") as part:
        part.write_text("new")
    assert (tmp_path / "a" / "b").read_text() == "new"


def test_a_failure_in_between_leaves_what_was_and_nothing_else(old: Path) -> None:
    def fail(part: Path) -> None:
        make(part, kind_of(old), "half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), written_whole(old) as part:
        fail(part)
    assert held(old) == "old"
    assert list(old.parent.iterdir()) == [old]


def test_a_rename_that_is_refused_leaves_what_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with (
        pytest.raises(OSError, match=r"thing\.ext: not written, .*: Permission denied"),
        written_whole(old) as part,
    ):
        make(part, kind_of(old), "new")
    assert held(old) == "old"
    assert list(old.parent.iterdir()) == [old]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    make(tmp_path / "folder", "folder", "old")
    with (
        pytest.raises(OSError, match=r"folder: not written, .*: Is a directory"),
        written_whole(tmp_path / "folder") as part,
    ):
        part.write_text("new")
    assert held(tmp_path / "folder") == "old"


def test_what_killed_writers_left_is_removed_and_nothing_else(old: Path) -> None:
    killed = written_whole(old)
    make(killed.__enter__(), "file", "half")
    (old.parent / ".hidden").write_text("not ours")
    assert len(list(old.parent.iterdir())) == 3
    remove_partials(old.parent)
    assert sorted(path.name for path in old.parent.iterdir()) == [".hidden", "thing.ext"]
