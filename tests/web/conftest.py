"""The page as a user starts it, in a process of its own, with settings that take seconds."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from zero123.pipeline import Zero123Pipeline

HERE = Path(__file__).parent
COFFEE = HERE.parents[1] / "examples" / "coffee.png"


@dataclass(frozen=True)
class Answer:
    """What a page says in the end."""

    fine: bool
    said: Any
    """What was asked for; or why not."""


@dataclass(frozen=True)
class Server:
    """A page that answers."""

    url: str
    process: subprocess.Popen[str]
    folder: Path
    """Where its temporary files lie."""


@pytest.fixture(scope="session")
def coffee() -> Path:
    return COFFEE


@pytest.fixture(scope="session")
def pipe() -> Zero123Pipeline:
    """The bundled model, in two steps."""
    opened = Zero123Pipeline.from_pretrained("mini")
    opened.set_progress_bar_config(disable=True)
    opened.settings = replace(opened.settings, steps=2)
    return opened


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    process = subprocess.Popen(
        [sys.executable, HERE / "brief_page.py"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
    )
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), url
    yield Server(url, process, folder)
    process.terminate()
    process.communicate(timeout=30)


class Person:
    """Asks a page in the words of its protocol, so that requests may be as bad as anybody's."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=300)
        self.key = secrets.token_hex(6)
        parts = self.http.get("config").json()["dependencies"]
        self.numbers = {part["api_name"]: part["id"] for part in parts if part["api_name"]}

    def ask(self, name: str, *data: object) -> Answer:
        """Wait in the queue for the last answer."""
        told = {"data": data, "fn_index": self.numbers[name], "session_hash": self.key}
        joined = self.http.post("gradio_api/queue/join", json=told)
        if joined.status_code != 200:
            return Answer(False, joined.json()["detail"])
        told = {"session_hash": self.key}
        with self.http.stream("GET", "gradio_api/queue/data", params=told) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data:") or "{}")
                if message.get("msg") == "process_completed":
                    output = message["output"]
                    fine = message["success"]
                    return Answer(fine, output["data"] if fine else output["error"])
        raise AssertionError("the page hung up")

    def upload(self, name: str, content: bytes) -> Answer:
        """Hand a file over; the answer is where it lies."""
        answer = self.http.post("gradio_api/upload", files={"files": (name, content)})
        if answer.status_code != 200:
            return Answer(False, answer.json()["detail"])
        return Answer(True, answer.json()[0])

    def give(self, name: str, content: bytes, *placing: object) -> Answer:
        """Upload a photo, and have it placed."""
        sent = self.upload(name, content)
        if not sent.fine:
            return sent
        file = {"path": sent.said, "meta": {"_type": "gradio.FileData"}, "orig_name": name}
        return self.ask("photo", file, *(placing or ("auto", 0.66, 0.0, 0.0)))

    def picture(self, answer: dict[str, str]) -> bytes:
        """Fetch a file that an answer names."""
        got = self.http.get(f"gradio_api/file={answer['path']}")
        assert got.status_code == 200
        return got.content


@pytest.fixture
def person(server) -> Iterator[Person]:
    somebody = Person(server.url)
    yield somebody
    somebody.http.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no browser here: apt-get install chromium")
    return found
