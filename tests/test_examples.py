"""The numbered examples and the notebook run as they stand, and leave what they name."""

import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "zero123.ipynb"
MINUTES = {"07_reconstruct.py"}
"""Examples that take minutes."""
OWN_PROCESSES = {f"{number:02d}" for number in (4, 5, 6, 9)}
"""Examples that start processes, which read the file again: run as people run them."""


def listed() -> list[object]:
    slow = pytest.mark.slow
    return [
        pytest.param(path, id=path.stem, marks=slow if path.name in MINUTES else ())
        for path in sorted(EXAMPLES.glob("[0-9][0-9]_*.py"))
    ]


def test_examples_are_numbered_without_a_gap():
    numbers = [int(path.name[:2]) for path in sorted(EXAMPLES.glob("*.py"))]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("example", listed())
def test_an_example_leaves_what_it_names(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if example.name[:2] in OWN_PROCESSES:
        command = [sys.executable, str(example)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        runpy.run_path(str(example), run_name="__main__")
        said = capsys.readouterr().out
    named = [Path(line) for line in said.splitlines() if line.startswith("out/")]
    assert named
    for path in named:
        assert path.exists(), path
        if path.suffix in (".png", ".webp"):
            with Image.open(path) as picture:
                assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 50, path


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    (tmp_path / "coffee.png").write_bytes((EXAMPLES / "coffee.png").read_bytes())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 3
    assert not [output for output in shown if output.output_type == "error"]


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert NOTEBOOK.stat().st_size < 20_000
