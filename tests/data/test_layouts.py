import gzip
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIZE, VIEWS, contents, names, tiny, views_folder

from zero123.data.archive import ViewsArchive
from zero123.data.layouts import ViewsFolder, finish_views, write_nerfstudio, write_views
from zero123.data.pairs import open_data
from zero123.data.rendered import RenderedObject
from zero123.data.stored import DataError
from zero123.geometry import Camera, Orbit, Rigid


def same(one: RenderedObject, two: RenderedObject) -> bool:
    return (
        one.name == two.name
        and np.array_equal(one.pictures, two.pictures)
        and all(
            torch.equal(a.matrix, b.matrix) for a, b in zip(one.cameras, two.cameras, strict=True)
        )
    )


def packed(folder: Path, archive: Path, root: str = "views_release") -> Path:
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tar:
        tar.add(folder, root)
    return archive


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    """As the original's loader reads it: by number, alpha in the picture, 3×4 in the array."""
    obj = tiny("0a1b2c")
    write_views(tmp_path, obj)
    assert finish_views(tmp_path) == ["0a1b2c"]
    assert json.loads((tmp_path / "valid_paths.json").read_text()) == ["0a1b2c"]
    assert len(contents(tmp_path)) == 2 * VIEWS + 1
    for view in range(VIEWS):
        picture = np.array(Image.open(tmp_path / "0a1b2c" / f"{view:03d}.png"))
        matrix = np.load(tmp_path / "0a1b2c" / f"{view:03d}.npy")
        np.testing.assert_array_equal(picture, obj.pictures[view])
        assert matrix.shape == (3, 4)
        centre = -matrix[:, :3].T @ matrix[:, 3]
        seat = Orbit.from_camera(obj.cameras[view])
        np.testing.assert_allclose(centre, seat.position.numpy(), atol=1e-12)
        assert matrix[2, 3] == pytest.approx(-seat.radius)  # it looks along −z, at the origin


@pytest.mark.parametrize("picture_format", ["png", "webp"])
def test_reading_gives_back_what_was_written(tmp_path: Path, picture_format: str) -> None:
    obj = tiny("cup")
    # colours under transparent pixels are kept too
    obj = replace(obj, pictures=np.where(obj.pictures == 255, np.uint8(7), obj.pictures))
    write_views(tmp_path, obj, picture_format)
    assert same(ViewsFolder.open(tmp_path)["cup"].decoded(), obj)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = views_folder(tmp_path / "one"), views_folder(tmp_path / "two")
    write_views(two, tiny(names(1)[0]))  # once more over itself
    assert contents(one) == contents(two)


def test_a_list_of_names_rules_over_what_else_is_there(tmp_path: Path) -> None:
    views_folder(tmp_path, 3)
    (tmp_path / "valid_paths.json").write_text(json.dumps([names(3)[2], names(3)[0]]))
    assert ViewsFolder.open(tmp_path).names == (names(3)[2], names(3)[0])
    (tmp_path / "valid_paths.json").unlink()
    (tmp_path / ".hidden").mkdir()
    assert ViewsFolder.open(tmp_path).names == tuple(names(3))


@pytest.mark.parametrize("listed", ['["../other"]', '["a", "a"]', '{"a": 1}', "[1]", "[", '[".a"]'])
def test_a_bad_list_of_names_is_refused(tmp_path: Path, listed: str) -> None:
    (tmp_path / "valid_paths.json").write_text(listed)
    with pytest.raises(DataError, match=r"valid_paths\.json: no list of names"):
        ViewsFolder.open(tmp_path)


@pytest.mark.parametrize("name", ["", ".x", "../x", "a/b", "a b", "a\n", "é", "x" * 201])
def test_an_unsafe_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="an object is named with"):
        replace(tiny("cup"), name=name)


def test_what_killed_writers_left_is_removed_at_the_end(tmp_path: Path) -> None:
    views_folder(tmp_path)
    before = contents(tmp_path)
    left = tmp_path / ".object.009.abc.partial" / "object.009"
    left.mkdir(parents=True)
    (left / "000.png").write_bytes(b"half")
    assert finish_views(tmp_path) == names(5)
    assert contents(tmp_path) == before


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tiny import names, tiny, views_folder
from zero123.data.layouts import ViewsFolder, write_views
from zero123.data.pairs import pack_views
from zero123.data.shards import pack_shards

dest = Path(sys.argv[1])
views_folder(dest / "views", 3)
pack_shards(dest / "views", names(2), dest / "shards", objects_per_shard=1)
large = tiny("large", 2, 128)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
for write in (
    lambda: write_views(dest / "views", large),
    lambda: pack_shards(dest / "views", names(3), dest / "shards", objects_per_shard=1),
    lambda: pack_views(dest / "views", dest, "set", 32),
):
    try:
        write()
    except OSError as problem:
        print(problem)
"""


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Here files may not grow beyond 4000 bytes, which fails as a full disk does, in mid-file."""
    run = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent)]
    ended = subprocess.run(run, capture_output=True, text=True, check=True, timeout=120)
    sentences = ended.stdout.splitlines()
    assert [sentence.split(": ")[1:] for sentence in sentences] == [
        ["not written, and nothing left behind", "File too large"]
    ] * 3
    files = contents(tmp_path)
    assert not [file for file in files if "large" in file or "partial" in file or "set" in file]
    assert len(files) == 3 * 2 * VIEWS + 1 + 3
    shards = open_data(tmp_path / "shards")
    assert [obj.decoded().name for obj in shards] == names(2)


def test_nerfstudio_gets_cameras_that_see_the_same(tmp_path: Path) -> None:
    obj = tiny("cup")
    write_nerfstudio(tmp_path, obj)
    told = json.loads((tmp_path / "cup" / "transforms.json").read_text())
    assert told["w"] == told["h"] == SIZE
    for frame, camera, pixels in zip(told["frames"], obj.cameras, obj.pictures, strict=True):
        picture = np.array(Image.open(tmp_path / "cup" / frame["file_path"]))
        np.testing.assert_array_equal(picture, pixels)
        point = np.array([0.1, 0.2, -0.3])
        world_from_camera = np.array(frame["transform_matrix"])
        x, y, z = np.linalg.inv(world_from_camera)[:3] @ [*point, 1]
        seen = [told["fl_x"] * x / -z + told["cx"], -told["fl_y"] * y / -z + told["cy"]]
        ours, _ = Camera(camera, SIZE).project(torch.from_numpy(point))
        np.testing.assert_allclose(seen, ours.numpy(), atol=1e-9)


@pytest.mark.parametrize("file", ["views_release.tar.gz", "views.tar"])
def test_the_published_archive_reads_as_the_folder(tmp_path: Path, file: str) -> None:
    folder = views_folder(tmp_path / "views")
    archive = open_data(packed(folder, tmp_path / file))
    assert isinstance(archive, ViewsArchive)
    read = {obj.name: obj.decoded() for obj in archive}
    assert sorted(read) == names(5)
    assert all(same(read[name], tiny(name)) for name in read)


def test_an_archive_with_a_list_gives_what_is_listed(tmp_path: Path) -> None:
    archive = packed(views_folder(tmp_path / "views"), tmp_path / "views.tar")
    listed = tmp_path / "valid_paths.json"
    listed.write_text(json.dumps(names(5)[1:3]))
    assert [obj.name for obj in open_data(archive, listed)] == names(5)[1:3]
    listed.write_text(json.dumps([names(5)[1], "lost", "gone"]))
    with pytest.raises(DataError, match=r"gone: not in .*, and 1 others are not"):
        list(open_data(archive, listed))


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (tarfile.TarInfo("views_release/../../000.png"), "leads outside"),
        (tarfile.TarInfo("/views/a/000.png"), "leads outside"),
        (tarfile.TarInfo("views\\..\\a/000.png"), "leads outside"),
        (link("views/a/000.png", tarfile.SYMTYPE), "is a link or a device"),
        (link("views/a/000.png", tarfile.LNKTYPE), "is a link or a device"),
        (link("views/a/000.png", tarfile.CHRTYPE), "is a link or a device"),
        (link("views/a/000.png", tarfile.FIFOTYPE), "is a link or a device"),
        (tarfile.TarInfo("views/a b/000.png"), "an object is named with"),
        (tarfile.TarInfo("000.png"), "an object is named with"),
    ],
)
def test_archive_traversal_is_refused(tmp_path: Path, member: tarfile.TarInfo, reason: str) -> None:
    archive = tar_of(tmp_path / "views.tar", (member, b""))
    with pytest.raises(DataError, match=rf"views\.tar: refused: .* {reason}"):
        list(open_data(archive))


def test_a_member_that_claims_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    member = tarfile.TarInfo("views/a/000.png")
    member.size = 1 << 40
    (tmp_path / "views.tar").write_bytes(member.tobuf() + bytes(10240))
    with pytest.raises(DataError, match="claims 1099512 MB"):
        list(open_data(tmp_path / "views.tar"))


@pytest.mark.parametrize("kind", ["views.tar", "views.tar.gz"])
def test_an_archive_cut_short_anywhere_is_named(tmp_path: Path, kind: str) -> None:
    data = packed(views_folder(tmp_path / "views", 2), tmp_path / kind).read_bytes()
    # a tar ends with 1024 zeros or more; at its seams tarfile itself sees no harm
    needed = len(data) if kind.endswith("gz") else len(data.rstrip(b"\0")) + 1024
    for cut in [*range(0, needed - 1, len(data) // 23), *range(512, needed - 512, 512), needed - 1]:
        (tmp_path / kind).write_bytes(data[:cut])
        with pytest.raises(DataError, match=rf"{kind}: cut short or damaged"):
            list(open_data(tmp_path / kind))


def test_a_flipped_bit_in_a_zipped_archive_is_named_or_changes_nothing(tmp_path: Path) -> None:
    path = packed(views_folder(tmp_path / "views", 2), tmp_path / "views.tar.gz")
    data, rng = path.read_bytes(), np.random.default_rng(0)
    named = 0
    for bit in rng.integers(8 * len(data), size=40).tolist():
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            read = [obj.decoded() for obj in open_data(path)]
        except DataError:
            named += 1
        else:  # gzip has bits that nobody reads, and several ways to say the same
            assert all(same(obj, tiny(obj.name)) for obj in read)
            assert len(read) == 2
    assert named > 30


def test_an_object_in_two_pieces_is_named(tmp_path: Path) -> None:
    data = gzip.compress(b"")
    members = [(tarfile.TarInfo(f"v/{name}/000.png"), data) for name in ("a", "b", "a")]
    with pytest.raises(DataError, match="a: lies in several pieces"):
        list(open_data(tar_of(tmp_path / "v.tar", *members)))


def test_what_is_no_data_set_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no data set: name a folder"):
        open_data(tmp_path / "nothing")
    with pytest.raises(ValueError, match="has its own list of names"):
        open_data(tmp_path, tmp_path / "valid_paths.json")


def damaged(folder: Path, file: str, data: bytes | None) -> Path:
    if data is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(data)
    return folder


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


HUGE = npy(np.zeros((3, 4))).replace(b"(3, 4), }          ", b"(30000000000, 4), }")


@pytest.mark.parametrize(
    ("file", "data", "reason"),
    [
        ("000.png", None, "view 0: missing"),
        ("002.png", None, "view 2: missing"),
        ("001.webp", b"", "view 1: there twice"),
        ("001.npy", None, "view 1: its camera is missing"),
        ("001.png", b"", "view 1: picture: empty"),
        ("001.png", b"text", "view 1: picture: cannot identify"),
        ("001.png", encoded(Image.new("RGBA", (32, 32)))[:-30], "view 1: picture: "),
        ("001.png", encoded(Image.new("RGB", (32, 32))), "mode is RGB, not RGBA"),
        ("001.png", encoded(Image.new("RGBA", (32, 16))), "32×16 pixels, not square"),
        ("001.png", encoded(Image.new("RGBA", (16, 16))), "pictures of several sizes"),
        ("001.png", encoded(Image.new("1", (9000, 9000))), "9000×9000 pixels are too many"),
        ("001.png", bytes(21_000_000), "21 MB is too much"),
        ("001.png", encoded(Image.new("RGB", (32, 32)), "GIF"), "cannot identify"),
        ("001.npy", b"", "view 1: camera: "),
        ("001.npy", npy(np.zeros((3, 4))[:2]), "must be 3×4 floats"),
        ("001.npy", npy(np.zeros((3, 4), complex)), "must be 3×4 floats"),
        ("001.npy", npy(np.full((3, 4), None, object)), "must be 3×4 floats"),
        ("001.npy", HUGE, "must be 3×4 floats"),
        ("001.npy", npy(np.zeros((3, 4)))[:-8], "view 1: camera: "),
        ("001.npy", npy(np.full((3, 4), np.nan)), "NaN or infinity"),
        ("001.npy", npy(2 * np.eye(3, 4)), "not a rotation"),
        ("001.npy", npy(np.diag([1.0, 1, -1]) @ np.eye(3, 4)), "scaled or mirrored"),
    ],
)
def test_damage_is_named_with_its_object_and_view(
    tmp_path: Path, file: str, data: bytes | None, reason: str
) -> None:
    write_views(tmp_path, tiny("cup"))
    damaged(tmp_path / "cup", file, data)
    with pytest.raises(DataError, match=reason) as caught:
        ViewsFolder.open(tmp_path)["cup"].decoded()
    assert caught.value.fault.name == "cup"


def test_an_object_without_views_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, reason in (("empty", "holds no views"), ("gone", "there is no such folder")):
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            ViewsFolder(tmp_path, (name,))[name].decoded()


def test_cameras_of_other_precision_are_read(tmp_path: Path) -> None:
    """Blender's numbers are single precision."""
    obj = tiny("cup")
    write_views(tmp_path, obj)
    matrix = obj.cameras[0].matrix.float()
    (tmp_path / "cup" / "000.npy").write_bytes(npy(matrix.numpy()))
    read = ViewsFolder.open(tmp_path)["cup"].camera(0)
    assert isinstance(read, Rigid)
    torch.testing.assert_close(read.matrix, matrix.double(), atol=0, rtol=0)
