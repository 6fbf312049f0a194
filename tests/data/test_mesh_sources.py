import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from glb import glb

from zero123.data import unpacking
from zero123.data.items import Item, Made, Member, MeshFile, Refused
from zero123.data.report import Skipped
from zero123.data.sources import find_items

MANY = 10**9


def laid_out(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")
    return folder


def names(*sources: object, limit: int | None = None) -> list[str]:
    return [item.name for item in find_items([str(source) for source in sources], limit)]


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def only(source: Path) -> Item:
    (item,) = find_items([str(source)])
    return item


def test_files_are_named_after_their_path_and_sorted(tmp_path: Path) -> None:
    laid_out(
        tmp_path / "m", "b.glb", "cars/red one.OBJ", "a.usdz", "cars/red one.mtl", ".x.glb", "t.png"
    )
    assert names(tmp_path / "m") == ["a", "b", "cars_red_one"]
    assert find_items([str(tmp_path / "m")])[2].source == "m/cars/red one.OBJ"


def test_each_name_is_given_once(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        laid_out(tmp_path / folder, "Chair.glb", "chair.obj", "chair.ply", "-.stl")
    found = names(tmp_path / "one", tmp_path / "two", tmp_path / "one")
    assert len({name.casefold() for name in found}) == 12
    assert found[0] == "-"
    assert found[1] == "Chair"
    assert all(name.startswith("chair-") for name in found[2:4])
    assert found[:8] == names(tmp_path / "one", tmp_path / "two")


def test_long_and_foreign_names_become_plain_ones(tmp_path: Path) -> None:
    laid_out(tmp_path, "椅子.glb", "ö" * 100 + ".glb", "x" * 200 + ".glb", "x" * 201 + ".glb")
    (tmp_path / os.fsdecode(b"\xff\xfe.glb")).write_bytes(b"x")
    found = names(tmp_path)
    assert len(set(found)) == 5
    assert all(len(name) < 130 and name.isascii() for name in found)


def test_the_first_ones_stay_the_same_with_a_larger_limit(tmp_path: Path) -> None:
    laid_out(tmp_path / "m", "a.glb", "A.ply", "b.glb", "c.glb")
    whole = names(tmp_path / "m", "procedural:3")
    assert len(whole) == 7
    for limit in range(1, 8):
        assert names(tmp_path / "m", "procedural:3", limit=limit) == whole[:limit]


def test_made_up_objects_are_named_by_their_seed() -> None:
    assert [item.origin for item in find_items(["procedural:2"])] == [Made(0), Made(1)]
    assert names("procedural:7-9") == [f"procedural_00000{n}" for n in (7, 8, 9)]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere.glb", "nowhere.glb is not there"),
        ("procedural:many", "procedural:many is no number"),
        ("procedural:0", "procedural:0 holds no object"),
        ("procedural:5-2", "holds no object"),
        ("thing.docx", "thing.docx is no mesh or archive"),
        ("pictures", "pictures holds no object"),
    ],
)
def test_what_is_no_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, sentence: str
) -> None:
    monkeypatch.chdir(laid_out(tmp_path, "thing.docx", "pictures/a.png"))
    with pytest.raises(ValueError, match=sentence):
        find_items([source])


def test_an_archive_brings_its_meshes_and_what_lies_beside_them(tmp_path: Path) -> None:
    files = {"sub/chair.obj": b"mesh", "sub/chair.mtl": b"look", "a.txt": b"", "b.glb": glb()}
    zipped(tmp_path / "pack.zip", files)
    first, second = find_items([str(tmp_path)])
    assert (first.name, second.name) == ("pack_b", "pack_sub_chair")
    assert second.source == f"{tmp_path.name}/pack.zip/sub/chair.obj"
    path = second.origin.fetch(tmp_path / "scratch", MANY)
    assert isinstance(path, Path)
    assert path.read_bytes() == b"mesh"
    assert path.with_name("chair.mtl").read_bytes() == b"look"
    assert first.origin.fetch(tmp_path / "scratch", MANY) != path
    assert path.is_file()  # unpacked once


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_a_tar_is_an_archive_too(tmp_path: Path, ending: str) -> None:
    folder = tarfile.TarInfo("./m")
    folder.type = tarfile.DIRTYPE
    file = (tarfile.TarInfo("./m/chair.glb"), b"mesh")
    item = only(tarred(tmp_path / f"pack{ending}", (folder, b""), file))
    assert item.name == "pack_m_chair"
    path = item.origin.fetch(tmp_path / "scratch", MANY)
    assert isinstance(path, Path)
    assert path.read_bytes() == b"mesh"


def test_one_archive_at_a_time_is_unpacked(tmp_path: Path) -> None:
    one, two = (zipped(tmp_path / f"{n}.zip", {"a.glb": b"x"}) for n in "12")
    path = only(one).origin.fetch(tmp_path / "scratch", MANY)
    only(two).origin.fetch(tmp_path / "scratch", MANY)
    assert isinstance(path, Path)
    assert not path.exists()


def linked_tar(path: Path) -> Path:
    link = tarfile.TarInfo("a.glb")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return tarred(path, (link, b""))


def linked_zip(path: Path) -> Path:
    link = zipfile.ZipInfo("a.glb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    return path


def zip_of_size(path: Path, size: int) -> Path:
    """A zip whose lists claim that its file unpacks to this many bytes."""
    zipped(path, {"a.glb": bytes(1000)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 1000), struct.pack("<I", size)))
    return path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "up.zip": (lambda p: zipped(p, {"../a.glb": b""}), "unsafe", "'../a.glb' leads out"),
    "back.zip": (lambda p: zipped(p, {"m\\..\\..\\a.glb": b""}), "unsafe", "leads out"),
    "root.zip": (lambda p: zipped(p, {"/a.glb": b""}), "unsafe", "leads out"),
    "drive.zip": (lambda p: zipped(p, {"C:/a.glb": b""}), "unsafe", "leads out"),
    "link.zip": (linked_zip, "unsafe", "is a link"),
    "up.tar": (lambda p: tarred(p, (tarfile.TarInfo("../a.glb"), b"")), "unsafe", "leads out"),
    "root.tar": (lambda p: tarred(p, (tarfile.TarInfo("/a.glb"), b"")), "unsafe", "leads out"),
    "link.tar": (linked_tar, "unsafe", "is a link"),
    "bomb.zip": (lambda p: zip_of_size(p, 2**31 + 10**6), "too big", "more than 2.1 GB"),
    "broken.zip": (lambda p: p.write_bytes(b"PK\3\4 no") and p, "unreadable", "is broken"),
    "broken.tgz": (lambda p: p.write_bytes(b"no tar at all") and p, "unreadable", "is broken"),
    "pictures.zip": (lambda p: zipped(p, {"a.png": b""}), "empty", "holds no mesh"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_listed_with_its_reason(tmp_path: Path, name: str) -> None:
    make, reason, sentence = HOSTILE[name]
    item = only(make(tmp_path / name))
    assert isinstance(item.origin, Refused)
    with pytest.raises(Skipped) as why:
        item.origin.fetch(tmp_path / "scratch", MANY)
    assert why.value.reason == reason
    assert sentence in why.value.detail
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_archive_that_lies_about_its_size_leaves_nothing(tmp_path: Path) -> None:
    path = zipped(tmp_path / "liar.zip", {"a.glb": bytes(10**6)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 10**6), struct.pack("<I", 1000)))
    with pytest.raises(Skipped, match="is broken"):
        only(path).origin.fetch(tmp_path / "scratch", MANY)
    assert not list((tmp_path / "scratch").iterdir())


def test_too_many_files_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_FILES", 3)
    path = zipped(tmp_path / "many.zip", {f"{n}.glb": b"" for n in range(4)})
    assert only(path).origin == Refused("too big", "many.zip holds more than 3 files")


def test_a_file_that_is_too_big_is_not_opened(tmp_path: Path) -> None:
    laid_out(tmp_path, "a.glb")
    archive = zipped(tmp_path / "a.zip", {"a.glb": bytes(2000)})
    for origin in (MeshFile(tmp_path / "a.glb"), Member(archive, "a.glb")):
        with pytest.raises(Skipped) as why:
            origin.fetch(tmp_path / "scratch", 0)
        assert why.value.reason == "too big"


def test_a_file_that_went_away_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Skipped) as why:
        MeshFile(tmp_path / "a.glb").fetch(tmp_path, MANY)
    assert why.value.reason == "unreadable"
