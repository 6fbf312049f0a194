import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from zero123.app import cli


def test_the_help_of_the_page_needs_neither_torch_nor_gradio():
    code = (
        "import sys; from zero123.app.cli import main\n"
        "try: main(['app', '--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'gradio'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: zero123 app" in done.stdout


def test_an_impossible_port_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["app", "--port", "70000"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "zero123: --port must be in 1 to 65535, got 70000\n"


def test_an_ended_page_leaves_no_files(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "zero123", "app", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as page:
        assert page.stdout.readline() == f"zero123: the page is at http://127.0.0.1:{port}/\n"
        assert [folder.name for folder in tmp_path.glob("zero123-page-*")]
        page.terminate()
        assert page.wait(timeout=60) == 0
    assert not [*tmp_path.glob("zero123-page-*")]


def test_a_taken_port_is_one_sentence(server):
    taken = urlsplit(server.url).port
    done = subprocess.run(
        [sys.executable, "-m", "zero123", "app", "--port", str(taken)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"zero123: 127.0.0.1:{taken} cannot be listened at")
    assert len(done.stderr.splitlines()) == 1


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "zero123.web.server", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'zero123\[web\]'"):
        import zero123.web.server  # noqa: F401
