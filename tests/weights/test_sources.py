import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from zero123.weights import WeightsError, open_model, sources


@pytest.mark.parametrize(
    ("place", "encoding"),
    [
        ("105000.ckpt", "zero123"),
        ("165000.ckpt", "zero123"),
        ("zero123-xl.ckpt", "zero123"),
        ("zero123-finetuned.ckpt", "zero123"),
        ("stable_zero123.ckpt", "stable-zero123"),
        ("Stable-Zero123-c.ckpt", "stable-zero123"),
        ("stable-zero123/model.ckpt", "stable-zero123"),
        ("stable-zero123/105000.ckpt", "zero123"),
    ],
)
def test_a_published_name_tells_the_pose_encoding(state, tmp_path, caplog, place, encoding):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    torch.save(state, tmp_path / place)
    assert open_model(tmp_path / place).settings.pose_encoding == encoding
    assert caplog.text == ""


def test_a_name_that_tells_nothing_is_taken_for_zero123_aloud(original, caplog):
    assert open_model(original).settings.pose_encoding == "zero123"
    assert "pose_encoding='stable-zero123'" in caplog.text


def test_what_the_user_says_wins_over_the_folder_and_the_folder_over_its_name(rewrite, caplog):
    folder = rewrite.folder.rename(rewrite.folder.with_name("stable-zero123-mine"))
    assert open_model(folder).settings.pose_encoding == "zero123"
    asked = open_model(folder, pose_encoding="stable-zero123")
    assert asked.settings.pose_encoding == "stable-zero123"
    index = json.loads((folder / "model_index.json").read_text())
    del index["pose_encoding"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert open_model(folder).settings.pose_encoding == "stable-zero123"
    assert caplog.text == ""


@pytest.mark.parametrize(
    "source", ["maxi", "./maxi", "/nowhere/zero123.ckpt", "maxi.ckpt", "runs/zero123.ckpt"]
)
def test_a_source_that_is_nothing_is_told_what_there_is(source):
    with pytest.raises(
        WeightsError, match=r"name of a bundled one .*, a folder with .* owner/name"
    ):
        open_model(source)


def test_a_path_is_never_looked_for_on_the_hub(monkeypatch):
    monkeypatch.setattr(sources, "_fetch", None)
    with pytest.raises(WeightsError, match="no such file or folder"):
        open_model(Path("kxic/zero123-xl"))


def seconds_to_be_told(source: str, said: str) -> float:
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=said) as refusal:
        open_model(source)
    assert "'mini'" in str(refusal.value)
    return time.perf_counter() - start


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


SOURCES = ["kxic/zero123-xl", "cvlab/zero123-weights/105000.ckpt"]


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("source", SOURCES)
def test_a_closed_door_is_one_sentence_within_two_seconds(source, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    assert seconds_to_be_told(source, "the hub cannot be reached; use the bundled model") < 2


@pytest.mark.usefixtures("empty_cache")
def test_a_network_that_swallows_everything_is_one_sentence_within_two_seconds(monkeypatch):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for caller in waiting:  # a full queue answers no one
            caller.setblocking(False)
            caller.connect_ex(address)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{address[1]}")
        assert seconds_to_be_told("kxic/zero123-xl", "the hub cannot be reached") < 2
        for caller in waiting:
            caller.close()


@pytest.mark.usefixtures("empty_cache")
def test_a_name_service_that_hangs_is_one_sentence_within_two_seconds(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")

    def hang(*_: object, **__: object) -> None:
        time.sleep(4)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert seconds_to_be_told("kxic/zero123-xl", "the hub cannot be reached") < 2


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("source", SOURCES)
def test_a_hub_that_is_switched_off_is_not_asked(source, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "create_connection", None)
    assert seconds_to_be_told(source, "the hub is switched off") < 0.5


def test_the_environment_s_endpoint_is_the_one_that_is_asked(tmp_path):
    program = (
        "import time; from zero123.weights import open_model, WeightsError\n"
        "start = time.perf_counter()\n"
        "try: open_model('kxic/zero123-xl')\n"
        "except WeightsError as refusal: print(time.perf_counter() - start, refusal)"
    )
    told = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    quiet = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=quiet | told,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, _, sentence = done.stdout.strip().partition(" ")
    assert float(seconds) < 2
    assert "the hub cannot be reached" in sentence
    assert done.stderr == ""


class Hub(ThreadingHTTPServer):
    """As much of the hub as a download needs, with the folders of one model each."""

    daemon_threads = True

    def __init__(self, models: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.models = models
        self.sent: list[str] = []

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        for name, folder in self.server.models.items():
            files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            if path.startswith(f"/api/models/{name}/tree/"):
                return self.reply(json.dumps([self.tree(folder, f) for f in files]).encode())
            if path.startswith(f"/api/models/{name}"):
                siblings = [{"rfilename": file} for file in files]
                about = {
                    "_id": "1",
                    "id": name,
                    "modelId": name,
                    "sha": COMMIT,
                    "siblings": siblings,
                }
                return self.reply(json.dumps(about).encode())
            if path.startswith(f"/{name}/resolve/"):
                file = path.split("/", 5)[5]
                if self.command == "GET":
                    self.server.sent.append(file)
                return self.reply((folder / file).read_bytes())
        return self.reply(b'{"error": "Repository not found"}', 404)

    def tree(self, folder: Path, file: str) -> dict[str, object]:
        content = (folder / file).read_bytes()
        return {
            "type": "file",
            "path": file,
            "size": len(content),
            "oid": sha1(content).hexdigest(),
        }

    def reply(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub(empty_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    with Hub({}) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield server


def test_a_folder_on_the_hub_opens_and_only_what_is_read_is_downloaded(hub, kxic, model, capfd):
    (kxic / "unet" / "modeling.py").write_text("raise SystemExit")
    (kxic / "unet" / "diffusion_pytorch_model.fp16.bin").write_bytes(b"second precision")
    hub.models["kxic/zero123-xl"] = kxic
    loaded = open_model("kxic/zero123-xl")
    assert loaded.settings.pose_encoding == "zero123"
    theirs = model.unet.state_dict()
    assert all((loaded.unet.state_dict()[name] == theirs[name]).all() for name in theirs)
    assert sorted(set(hub.sent)) == [
        "cc_projection/config.json",
        "cc_projection/diffusion_pytorch_model.bin",
        "image_encoder/config.json",
        "image_encoder/pytorch_model.bin",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "vae/config.json",
        "vae/diffusion_pytorch_model.bin",
    ]


def test_what_was_downloaded_once_opens_without_the_hub(hub, ours, monkeypatch):
    hub.models["someone/stable-zero123"] = ours
    open_model("someone/stable-zero123")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    open_model("someone/stable-zero123")


def test_a_checkpoint_on_the_hub_opens_with_its_yaml(hub, original, tmp_path, monkeypatch):
    folder = tmp_path / "hub"
    shutil.copy(original, folder / "105000.ckpt")
    shutil.copy(original.with_suffix(".yaml"), folder / "105000.yaml")
    (folder / "165000.ckpt").touch()
    hub.models["cvlab/zero123-weights"] = folder
    model = open_model("cvlab/zero123-weights/105000.ckpt")
    assert model.unet.config.attention_head_dim == 4
    assert sorted(set(hub.sent)) == ["105000.ckpt", "105000.yaml"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    open_model("cvlab/zero123-weights/105000.ckpt")


def test_a_hub_model_without_what_was_asked_for_tells_its_checkpoints(hub, tmp_path):
    (tmp_path / "hub" / "105000.ckpt").touch()
    hub.models["cvlab/zero123-weights"] = tmp_path / "hub"
    for source in ("cvlab/zero123-weights", "cvlab/zero123-weights/1.ckpt"):
        with pytest.raises(WeightsError, match=r"checkpoints: cvlab/zero123-weights/105000\.ckpt"):
            open_model(source)


def test_a_model_that_the_hub_does_not_have_is_one_sentence(hub):
    with pytest.raises(WeightsError, match="the hub has no such model, or it is private"):
        open_model("nobody/nothing")
