import functools
import gc
import hashlib
import http.server
import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import webdataset
from tiny import VIEWS, contents, names, tiny, views_folder

from zero123.data.check import check
from zero123.data.layouts import write_views
from zero123.data.pairs import open_data
from zero123.data.shards import Shards, pack_shards
from zero123.data.stored import DataError, Fault


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return views_folder(tmp_path_factory.mktemp("staging"), 5)


@pytest.fixture
def shards(staging: Path, tmp_path: Path) -> Path:
    pack_shards(staging, names(5), tmp_path / "shards", objects_per_shard=2)
    return tmp_path / "shards"


def index(folder: Path) -> dict:
    return json.loads((folder / "index.json").read_text())


def test_webdataset_reads_the_shards(shards: Path) -> None:
    files = [str(shards / shard["file"]) for shard in index(shards)["shards"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files open
        samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("rgba8"))
        gc.collect()
    assert [sample["__key__"].replace("%2E", ".") for sample in samples] == names(5)
    for sample in samples:
        obj = tiny(sample["__key__"].replace("%2E", "."))
        assert len([key for key in sample if key.endswith(".png")]) == VIEWS
        for view in range(VIEWS):
            np.testing.assert_array_equal(sample[f"{view:03d}.png"], obj.pictures[view])
            stored = np.array(sample["cameras.json"]["camera_from_world"][view])
            np.testing.assert_array_equal(stored, obj.cameras[view].matrix.numpy())


@pytest.mark.parametrize("picture_format", ["png", "webp"])
def test_reading_gives_back_what_was_packed(tmp_path: Path, picture_format: str) -> None:
    for name in names(3):
        write_views(tmp_path / "views", tiny(name), picture_format)
    pack_shards(tmp_path / "views", names(3), tmp_path / "shards", objects_per_shard=2)
    data = open_data(tmp_path / "shards")
    assert isinstance(data, Shards)
    assert data.names == tuple(names(3))
    for obj in data:
        np.testing.assert_array_equal(obj.decoded().pictures, tiny(obj.name).pictures)
        for view, camera in enumerate(tiny(obj.name).cameras):
            np.testing.assert_array_equal(obj.camera(view).matrix, camera.matrix)


def test_the_index_tells_counts_and_hashes(shards: Path) -> None:
    told = index(shards)
    assert (told["objects"], told["views"]) == (5, 5 * VIEWS)
    assert [len(shard["objects"]) for shard in told["shards"]] == [2, 2, 1]
    for shard in told["shards"]:
        data = (shards / shard["file"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        for obj in shard["objects"]:
            assert [note["file"] for note in obj["files"]] == [
                *(f"{view:03d}.png" for view in range(VIEWS)),
                "cameras.json",
            ]


def test_the_same_objects_give_the_same_bytes(staging: Path, shards: Path, tmp_path: Path) -> None:
    pack_shards(staging, names(5), tmp_path / "again", objects_per_shard=2)
    assert contents(shards) == contents(tmp_path / "again")


def test_whole_shards_are_kept_and_others_packed_again(staging: Path, shards: Path) -> None:
    before = contents(shards)
    first = (shards / "shard-00000.tar").stat().st_mtime_ns
    (shards / "shard-00001.tar").write_bytes(before["shard-00001.tar"][:-1])
    (shards / "shard-00002.tar").unlink()
    (shards / "shard-00007.tar").write_bytes(b"of another packing")
    (shards / ".shard-00002.tar.x.partial").mkdir()
    pack_shards(staging, names(5), shards, objects_per_shard=2)
    assert contents(shards) == before
    assert not list(shards.glob(".*"))
    assert (shards / "shard-00000.tar").stat().st_mtime_ns == first


def test_whole_shards_need_no_staging(staging: Path, shards: Path, tmp_path: Path) -> None:
    before = contents(shards)
    pack_shards(tmp_path / "gone", names(5), shards, objects_per_shard=2)
    (shards / "shard-00002.tar").unlink()
    shutil.copytree(staging / names(5)[4], tmp_path / "last" / names(5)[4])
    pack_shards(tmp_path / "last", names(5), shards, objects_per_shard=2)
    assert contents(shards) == before


def test_a_packing_that_stops_keeps_what_is_finished(staging: Path, tmp_path: Path) -> None:
    wanted = [*names(4), "lost"]
    with pytest.raises(DataError, match="lost: there is no such folder"):
        pack_shards(staging, wanted, tmp_path, objects_per_shard=2)
    assert [obj.decoded().name for obj in open_data(tmp_path)] == names(4)
    assert check(tmp_path) == []


def test_a_kill_at_any_moment_costs_at_most_the_shard_at_hand(
    staging: Path, shards: Path, tmp_path: Path
) -> None:
    rng, dest = np.random.default_rng(0), tmp_path / "killed"
    for wait in rng.uniform(0, 0.05, size=12):
        child = os.fork()
        if child == 0:
            pack_shards(staging, names(5), dest, objects_per_shard=2)
            os._exit(0)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (dest / "index.json").exists():
            at_hand = (Fault(f"shard-0000{n}.tar", None, "not in the index") for n in range(3))
            assert check(dest) in ([], *([fault] for fault in at_hand))
    pack_shards(staging, names(5), dest, objects_per_shard=2)
    assert contents(dest) == contents(shards)


def test_a_damaged_index_means_packing_again(staging: Path, shards: Path) -> None:
    before = contents(shards)
    (shards / "index.json").write_text("{")
    pack_shards(staging, names(5), shards, objects_per_shard=2)
    assert contents(shards) == before


def test_wrong_arguments_are_refused(staging: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a name is given twice among 2"):
        pack_shards(staging, ["a", "a"], tmp_path)
    with pytest.raises(ValueError, match="objects_per_shard must be at least 1, got 0"):
        pack_shards(staging, ["a"], tmp_path, objects_per_shard=0)


def test_each_of_100_flipped_bits_is_found_by_check_and_by_reading(tmp_path: Path) -> None:
    for name in names(3):
        write_views(tmp_path / "views", tiny(name, 2, 16))
    shards = tmp_path / "shards"
    pack_shards(tmp_path / "views", names(3), shards, objects_per_shard=2)
    rng, path = np.random.default_rng(0), shards / "shard-00000.tar"
    data = path.read_bytes()
    end = len(data) - 1024  # where the tar's own end mark starts: it belongs to the last object
    bits = [*rng.integers(8 * len(data), size=97).tolist(), 8 * end, 8 * end + 5000, 0]
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        bad = []
        for obj in open_data(shards):
            try:
                obj.decoded()
            except DataError as problem:
                bad.append(problem.fault)
        assert len(bad) == 1
        assert bad[0].name in names(2)
        assert path.name in bad[0].reason
        faults = check(shards)
        assert [fault.name for fault in faults] == [path.name, bad[0].name]


def test_a_flipped_bit_in_a_picture_is_named_with_its_view(shards: Path) -> None:
    path = shards / "shard-00000.tar"
    files = index(shards)["shards"][0]["objects"][0]["files"]
    at = 2 * 512 + -(-files[0]["bytes"] // 512) * 512 + 9  # in the second picture
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"object\.000, view 1: 001\.png in shard-00000\.tar does"):
        open_data(shards)[names(1)[0]].picture(3)


@pytest.mark.parametrize("keep", [0, 1, 700, -1, -1024])
def test_a_shard_cut_short_is_named(shards: Path, keep: int) -> None:
    path = shards / "shard-00002.tar"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"object\.004: shard-00002\.tar is cut short"):
        [obj.decoded() for obj in open_data(shards)]
    path.unlink()
    with pytest.raises(DataError, match=r"object\.004: shard-00002\.tar is missing"):
        [obj.decoded() for obj in open_data(shards)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shard-00000.tar", "../../etc/passwd"),
        ("shard-00000.tar", "/etc/passwd"),
        ("object.003", "../object"),
        ("object.003", "object.002"),
        ('"objects": 5', '"objects": 6'),
        ("001.png", "../../001.png"),
        ('"bytes": ', '"bytes": -'),
        ('"offset"', '"after"'),
        ("{", "["),
    ],
)
def test_an_index_that_lies_is_refused(shards: Path, old: str, new: str) -> None:
    text = (shards / "index.json").read_text()
    (shards / "index.json").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=r"index\.json: damaged"):
        open_data(shards)
    assert [fault.name for fault in check(shards)] == ["index.json"]


def test_cameras_of_another_object_are_noticed(staging: Path, shards: Path) -> None:
    text = (shards / "index.json").read_text().replace(names(1)[0], "other")
    (shards / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"shard-00000\.tar is altered between the files"):
        open_data(shards)["other"].camera(0)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, whole ones as Python does it, or the asked range as stores do it."""

    ranges = True
    breaks_off = False
    sent = 0

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        path = Path(self.translate_path(self.path))
        if not (asked and self.ranges and path.exists()):
            return super().do_GET()
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        part = path.read_bytes()[first : last + 1]
        type(self).sent += len(part)
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:
        outputfile.write(source.read(2000) if self.breaks_off else source.read())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize("ranges", [True, False])
def test_shards_are_read_from_a_server(
    shards: Path, server: str, ranges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "ranges", ranges)
    monkeypatch.setattr(Handler, "sent", 0)
    data = open_data(f"{server}/shards/")
    read = data[names(5)[3]].decoded()
    np.testing.assert_array_equal(read.pictures, tiny(names(5)[3]).pictures)
    size = (shards / "shard-00001.tar").stat().st_size
    assert 0 < Handler.sent < size if ranges else Handler.sent == 0
    (shards / "shard-00001.tar").write_bytes(b"short")
    with pytest.raises(DataError, match="is cut short"):
        data[names(5)[3]].decoded()
    with pytest.raises(OSError, match=r"shards/index\.json cannot be read \(File not found\)"):
        open_data(f"{server}/no/shards")


def test_an_archive_is_streamed_from_a_server(staging: Path, tmp_path: Path, server: str) -> None:
    shutil.make_archive(str(tmp_path / "views_release"), "gztar", staging.parent, staging.name)
    read = [obj.decoded().name for obj in open_data(f"{server}/views_release.tar.gz")]
    assert sorted(read) == names(5)


def test_an_answer_that_breaks_off_is_named(
    staging: Path, shards: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.make_archive(str(tmp_path / "views"), "tar", staging.parent, staging.name)
    data = open_data(f"{server}/shards")
    monkeypatch.setattr(Handler, "ranges", False)
    monkeypatch.setattr(Handler, "breaks_off", True)
    with pytest.raises(DataError, match=r"object\.003: shard-00001\.tar is cut short"):
        data[names(5)[3]].decoded()
    with pytest.raises(DataError, match=r"views\.tar: cut short or damaged"):
        list(open_data(f"{server}/views.tar"))
    with pytest.raises(DataError, match=r"index\.json: cut short"):
        open_data(f"{server}/shards")


def test_a_server_that_is_gone_is_told_at_once() -> None:
    with pytest.raises(OSError, match=r"cannot be read .* download it by hand"):
        open_data("http://127.0.0.1:9/shards")
