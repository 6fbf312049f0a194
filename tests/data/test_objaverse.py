"""Objaverse from a server of our own: real HTTP, with ranges, and with what goes wrong."""

import gzip
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from glb import glb

from zero123.data import downloads
from zero123.data.downloads import download
from zero123.data.items import Download, Item
from zero123.data.objaverse import objaverse_items, objaverse_xl_items
from zero123.data.report import Skipped

MESH = glb()
DATA = bytes(range(256)) * 4000
ANNOTATIONS = "/datasets/allenai/objaverse-xl/resolve/main"
OBJECTS = "/datasets/allenai/objaverse/resolve/main"


class Server:
    """Serves a dictionary of files, and notes what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        """Path and range of each request."""
        self.ends_after: list[int] = []
        """Bytes after which the next answers break off."""
        self.failures: list[int] = []
        """Status of the next answers."""
        self.knows_ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.asked.append((request.path, wanted))
        data = self.files.get(request.path)
        status = self.failures.pop(0) if self.failures else 200 if data is not None else 404
        body = (data or b"") if status == 200 else b"sorry"
        begin = int(wanted[6:-1]) if status == 200 and wanted and self.knows_ranges else None
        if begin is not None and begin >= len(body):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(body)}")
            body = b""
        elif begin is not None:
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
            body = body[begin:]
        else:
            request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        ends_after = self.ends_after.pop(0) if self.ends_after else len(body)
        request.wfile.write(body[:ends_after])
        if ends_after < len(body):
            request.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.http.shutdown()
    thread.join()
    running.http.server_close()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = DATA
    for _ in range(2):
        path = download(f"{server.url}/a", tmp_path / "sub" / "a.glb", sha(DATA))
        assert path.read_bytes() == DATA
    assert server.asked == [("/a", None)]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.glb"]


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.ends_after = DATA, [1000, 5000]
    path = download(f"{server.url}/a", tmp_path / "a", sha(DATA))
    assert path.read_bytes() == DATA
    assert server.asked == [("/a", None), ("/a", "bytes=1000-"), ("/a", "bytes=6000-")]


def test_the_next_run_goes_on_where_the_last_one_died(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = DATA
    (tmp_path / "a.part").write_bytes(DATA[:4321])
    download(f"{server.url}/a", tmp_path / "a", sha(DATA))
    assert server.asked == [("/a", "bytes=4321-")]
    (tmp_path / "b.part").write_bytes(DATA)  # died before the last step
    assert download(f"{server.url}/a", tmp_path / "b", sha(DATA)).read_bytes() == DATA


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.knows_ranges = DATA, False
    (tmp_path / "a.part").write_bytes(DATA[:4321])
    assert download(f"{server.url}/a", tmp_path / "a", sha(DATA)).read_bytes() == DATA


def test_the_part_of_another_file_does_not_stay(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = DATA
    (tmp_path / "a.part").write_bytes(b"x" * (len(DATA) + 1))  # longer than it can be
    assert download(f"{server.url}/a", tmp_path / "a", sha(DATA)).read_bytes() == DATA
    (tmp_path / "b.part").write_bytes(b"x")  # its hash tells
    with pytest.raises(Skipped, match="expected"):
        download(f"{server.url}/a", tmp_path / "b", sha(DATA))
    assert download(f"{server.url}/a", tmp_path / "b", sha(DATA)).read_bytes() == DATA


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.failures = DATA, [503, 429, 500]
    assert download(f"{server.url}/a", tmp_path / "a", sha(DATA)).read_bytes() == DATA


REFUSED: dict[str, tuple[Callable[[Server], None], str, str]] = {
    "absent": (lambda s: s.files.clear(), "not downloaded", "404"),
    "always busy": (lambda s: s.failures.extend([503] * 9), "not downloaded", "503"),
    "always cut": (lambda s: s.ends_after.extend([10] * 9), "not downloaded", "ended after 40 of"),
    "altered": (lambda s: s.files.update({"/a": DATA[1:]}), "not downloaded", "expected"),
    "huge": (lambda s: s.files.update({"/a": DATA + b"+"}), "too big", "the bound is 1 MB"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_had_is_skipped_with_its_reason(
    server: Server, tmp_path: Path, case: str
) -> None:
    go_wrong, reason, sentence = REFUSED[case]
    server.files["/a"] = DATA
    go_wrong(server)
    with pytest.raises(Skipped) as why:
        download(f"{server.url}/a", tmp_path / "a", sha(DATA), largest=len(DATA))
    assert why.value.reason == reason
    assert sentence in why.value.detail
    assert not (tmp_path / "a").exists()


def test_only_the_network_is_asked(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    with pytest.raises(Skipped, match="only http"):
        download((tmp_path / "secret").as_uri(), tmp_path / "a")


def row(identifier: str, source: str, licence: str | None, kind: str, data: bytes) -> dict:
    return {
        "fileIdentifier": identifier,
        "source": source,
        "license": licence,
        "fileType": kind,
        "sha256": sha(data),
        "metadata": "{}",
    }


@pytest.fixture
def objaverse(server: Server, tmp_path: Path) -> Server:
    """Four sketchfab objects, of which one has a path that leads away, and some of elsewhere."""
    uids = {uid: f"glbs/000-00{n}/{uid}.glb" for n, uid in enumerate(("cup", "mug", "dog"))}
    licences = {
        "cup": "Creative Commons - Attribution",
        "mug": "Creative Commons - Attribution-NonCommercial-ShareAlike",
        "dog": "Creative Commons Zero v1.0 Universal",
        "evil": "by",
    }
    tables = {
        "sketchfab": [
            row(f"https://sketchfab.com/3d-models/{uid}", "sketchfab", licence, "glb", MESH)
            for uid, licence in licences.items()
        ],
        "github": [
            row(f"{server.url}/org/repo/blob/1/m/a.obj", "github", "MIT License", "obj", b"obj"),
            row(f"{server.url}/org/repo/blob/1/m/b.png", "github", None, "png", b"png"),
        ],
        "thingiverse": [
            row(
                "https://www.thingiverse.com/thing:1/files?fileId=7", "thingiverse", "x", "stl", b""
            )
        ],
        "smithsonian": [row(f"{server.url}/si/c.glb", "smithsonian", "CC0", "glb", MESH)],
    }
    for source, rows in tables.items():
        path = tmp_path / f"{source}.parquet"
        pd.DataFrame(rows).to_parquet(path)
        server.files[f"{ANNOTATIONS}/{source}/{source}.parquet"] = path.read_bytes()
    lists = {
        "object-paths": uids | {"evil": "glbs/../../evil.glb"},
        "lvis-annotations": {"vessel": ["cup", "mug"], "dog": ["dog"]},
    }
    for name, content in lists.items():
        server.files[f"{OBJECTS}/{name}.json.gz"] = gzip.compress(json.dumps(content).encode())
    server.files |= {f"{OBJECTS}/{path}": MESH for path in uids.values()}
    server.files["/org/repo/raw/1/m/a.obj"] = b"obj"
    return server


def listed(server: Server, cache: Path, query: str) -> list[Item]:
    return list(objaverse_items(query, cache, server.url))


def test_objects_are_listed_with_licence_and_hash(objaverse: Server, tmp_path: Path) -> None:
    items = listed(objaverse, tmp_path / "cache", "")
    assert [(item.name, item.licence) for item in items] == [
        ("cup", "by"),
        ("mug", "by-nc-sa"),
        ("dog", "cc0"),
    ]
    path = items[0].origin.fetch(tmp_path, 10**9)
    # where the package would have put it
    assert path == tmp_path / "cache/hf-objaverse-v1/glbs/000-000/cup.glb"
    assert path.read_bytes() == MESH
    assert listed(objaverse, tmp_path / "cache", "") == items  # nothing is asked again
    assert len(objaverse.asked) == 3


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("licence=by", ["cup"]),
        ("licence=by,licence=CC0", ["cup", "dog"]),
        ("category=vessel", ["cup", "mug"]),
        ("category=vessel,licence=by-nc-sa", ["mug"]),
        ("category=dog,category=vessel,megabytes=1", ["cup", "mug", "dog"]),
    ],
)
def test_filters_hold(objaverse: Server, tmp_path: Path, query: str, names: list[str]) -> None:
    assert [item.name for item in listed(objaverse, tmp_path / "cache", query)] == names


def test_a_larger_object_than_asked_is_skipped(objaverse: Server, tmp_path: Path) -> None:
    item, *_ = listed(objaverse, tmp_path / "cache", "megabytes=0.0001")
    with pytest.raises(Skipped) as why:
        item.origin.fetch(tmp_path, 10**9)
    assert why.value.reason == "too big"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("colour=red", "objaverse:colour=red is no filter: write licence=, category=, megabytes="),
        ("licence=mit", "licence=mit is none of theirs: by, by-nc-sa, cc0"),
        ("category=unicorn", "no LVIS category 'unicorn'"),
        ("megabytes=many", "megabytes must be a positive number, got many"),
        ("megabytes=-1", "megabytes must be a positive number, got -1"),
        ("megabytes=inf", "megabytes must be a positive number, got inf"),
    ],
)
def test_a_wrong_filter_is_told(
    objaverse: Server, tmp_path: Path, query: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        listed(objaverse, tmp_path / "cache", query)


def test_xl_lists_every_source(objaverse: Server, tmp_path: Path) -> None:
    items = list(objaverse_xl_items("", tmp_path / "cache", objaverse.url))
    assert [item.name.partition("_")[0] for item in items] == [
        "github", "smithsonian", "cup", "dog", "mug", "thingiverse",
    ]  # fmt: skip
    assert items[0].licence == "mit license"
    path = items[0].origin.fetch(tmp_path, 10**9)
    assert isinstance(path, Path)
    assert path.suffix == ".obj"
    assert path.read_bytes() == b"obj"
    last = items[-1].origin
    assert isinstance(last, Download)
    assert last.url == "https://www.thingiverse.com/download:7"


def test_xl_filters_hold(objaverse: Server, tmp_path: Path) -> None:
    query = "source=sketchfab,source=smithsonian,type=glb,licence=cc0"
    items = list(objaverse_xl_items(query, tmp_path / "cache", objaverse.url))
    assert [item.licence for item in items] == ["cc0", "cc0"]
    with pytest.raises(ValueError, match="no source 'myspace'"):
        list(objaverse_xl_items("source=myspace", tmp_path / "cache", objaverse.url))


def test_without_a_network_one_sentence_says_so(tmp_path: Path, server: Server) -> None:
    with pytest.raises(ConnectionError, match="the list of objects cannot be had"):
        listed(server, tmp_path / "cache", "")
