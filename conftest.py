"""The examples in the README, in docs/ and in docstrings are tests."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

# Networks in tests are tiny: a second thread only waits, and collapses when the machine is shared.
torch.set_num_threads(1)

ROOT = Path(__file__).parent


def _enter_a_copy(namespace: dict[str, Any]) -> None:
    """Examples write files: let them do so beside a copy of examples/."""
    namespace["_home"], namespace["_folder"] = Path.cwd(), tempfile.mkdtemp()
    shutil.copytree(ROOT / "examples", Path(namespace["_folder"]) / "examples")
    os.chdir(namespace["_folder"])


def _leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_home"])
    shutil.rmtree(namespace["_folder"])


_pages = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_enter_a_copy,
    teardown=_leave,
)
_docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["src/*/*.py", "src/*/*/*.py"],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (_pages + _docstrings).pytest()
