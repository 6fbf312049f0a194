"""What does not reach the page's server, asked without a server."""

import json
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from zero123.web.guard import Guard


async def everything(scope, receive, send):
    """Answers anything with what was sent."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await PlainTextResponse(body)(scope, receive, send)


@pytest.fixture
def files(tmp_path) -> Path:
    inside = tmp_path / "uploads"
    inside.mkdir()
    (inside / "photo.png").write_bytes(b"photo")
    (tmp_path / "secret").write_bytes(b"secret")
    (inside / "link").symlink_to(tmp_path / "secret")
    return inside


@pytest.fixture
def client(files):
    return TestClient(
        Guard(everything, files, local=True, largest=1_000_000), "http://127.0.0.1:7860"
    )


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/data"])
def test_what_the_page_needs_passes(client, path):
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://127.0.0.1:22/",
        "/proxy=http://127.0.0.1:22/",
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-code/",
        "/gradio_api/stream/a/b",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/deep_link",
        "/gradio_api/run-history/connect",
        "/custom_component/x",
        "/monitoring",
        "/docs",
        "/file=/etc/passwd",
    ],
)
def test_what_the_page_does_not_need_is_not_there(client, path):
    for method in ("GET", "POST"):
        assert client.request(method, path, json={}).status_code == 404


def test_files_of_the_page_are_given(client, files):
    assert client.get(f"/gradio_api/file={files}/photo.png").status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "{files}/../secret",
        "{files}/%2e%2e/secret",
        "{files}/link",
        "{files}extra/photo.png",
        "photo.png",
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
        "//127.0.0.1/share",
        "{files}/photo.png%00.txt",
        "",
    ],
)
def test_other_files_are_not_given(client, files, name):
    assert client.get(f"/gradio_api/file={name.format(files=files)}").status_code == 403


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "http://127.0.0.1:22/x.png", "{files}/../secret", "", "{files}/link"]
)
@pytest.mark.parametrize("wrap", ["plain", "list", "deep"])
def test_calls_that_name_other_files_are_refused(client, files, path, wrap):
    file = {"path": path.format(files=files), "meta": {"_type": "gradio.FileData"}}
    data = {"plain": [file], "list": [[file]], "deep": [{"image": {"of": [1, file]}}]}[wrap]
    answer = client.post("/gradio_api/queue/join", json={"data": data, "fn_index": 0})
    assert answer.status_code == 403
    assert answer.json()["detail"].startswith("only files of this page's own folder")


def test_calls_that_name_uploads_pass_unchanged(client, files):
    body = json.dumps({"data": [{"path": str(files / "photo.png")}, 1.0, None]})
    answer = client.post("/gradio_api/queue/join", content=body)
    assert answer.status_code == 200
    assert answer.text == body


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_call_that_is_no_json_is_refused(client, body):
    assert client.post("/gradio_api/queue/join", content=body).status_code == 400


def test_a_large_call_is_refused(client):
    assert client.post("/gradio_api/queue/join", content=b" " * 1_100_000).status_code == 413
    parts = (b" " * 100_000 for _ in range(11))  # its length is not told
    assert client.post("/gradio_api/queue/join", content=parts).status_code == 413


def test_a_large_upload_is_refused_before_it_is_read(client):
    answer = client.post("/gradio_api/upload", headers={"content-length": "200000000"})
    assert answer.status_code == 413
    assert answer.json()["detail"] == "more than the 1 MB that are taken: save it smaller"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_a_page_for_this_machine_has_no_other_name(client, host):
    assert client.get("/", headers={"host": host}).status_code == 403


def test_a_page_for_others_has_any_name(files):
    client = TestClient(Guard(everything, files, local=False, largest=1_000_000), "http://studio")
    assert client.get("/").status_code == 200
