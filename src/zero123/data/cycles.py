"""The faithful renderer: Blender Cycles, kept running in a process of its own."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import psutil
from jaxtyping import UInt8
from PIL import Image

from zero123.data.mesh_files import load_mesh
from zero123.data.meshes import Mesh, MeshError
from zero123.data.studio import (
    LAMP_PLACE,
    LAMP_RADIUS,
    LAMP_WATTS,
    PANEL_SIDE,
    WORLD_GREY,
    Studio,
)
from zero123.geometry import Orbit, Rigid

BLENDER_FORMATS = frozenset(
    {
        ".blend",
        ".dae",
        ".fbx",
        ".glb",
        ".gltf",
        ".obj",
        ".ply",
        ".stl",
        ".usd",
        ".usda",
        ".usdc",
        ".usdz",
    }
)
"""Endings of the files that Blender reads."""
MAX_MEMORY = 3 * 2**29
"""Resident bytes that a renderer may take: 1.5 GiB, of which Blender itself takes 0.25."""
PATIENCE = 600.0
"""Seconds that an object may take."""
_LENS, _SENSOR = 35.0, 32.0
"""Millimetres: a full angle of 49.134 degrees."""
_WORKER = Path(__file__).with_name("cycles_worker.py")
_LOOK_EVERY = 0.05
"""Seconds between looks at the process's memory."""


@dataclass(frozen=True)
class Blender:
    """A Blender that can be run here."""

    form: Literal["module", "program"]
    """The Python module ``bpy``, or a program."""
    version: str
    command: tuple[str, ...]
    """Runs a Python file inside it, once the file and ``--`` are appended."""

    def __str__(self) -> str:
        name = "Python module bpy" if self.form == "module" else f"program {self.command[0]}"
        return f"Blender {self.version} ({name})"


def find_blender() -> Blender:
    """Find the module ``bpy`` of this Python, else the program ``blender``.

    Raises:
        ModuleNotFoundError: if there is neither.
    """
    if importlib.util.find_spec("bpy") is not None:
        version = importlib.metadata.version("bpy")
        return Blender("module", version, (sys.executable, "-P"))
    program = shutil.which("blender")
    if program is None:
        raise ModuleNotFoundError(
            "the ray tracer needs Blender: pip install 'zero123[render]' with Python 3.11, "
            "or Debian's package blender; or use the fast renderer"
        )
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = told.stdout.splitlines()[0].removeprefix("Blender ")
    command = (program, "--background", "--factory-startup", "--disable-autoexec", "-noaudio")
    return Blender("program", version, (*command, "--python-exit-code", "1", "--python"))


@dataclass(frozen=True)
class Quality:
    """How long Cycles works on a pixel."""

    samples: int = 64
    """Most rays a pixel."""
    noise: float = 0.01
    """A pixel less noisy than this is left alone; 0 gives all pixels all samples."""
    denoised: bool = True
    """Smooth what noise is left, where Blender was built with its denoiser."""


DEFAULT_QUALITY = Quality()


class CyclesRenderer:
    """One Blender process that renders object after object on one thread.

    A context manager. The process starts at the first call; an object that crashes it, takes too
    long or too much memory costs that process, and the next call starts another. The same object,
    cameras and light give the same bytes on the same kind of processor.

    Files are read with their materials, at the first frame of their animations. Their own lights
    and cameras are left out; scripts in them never run; a file that names others outside its
    folder is refused.
    """

    def __init__(
        self,
        blender: Blender | None = None,
        quality: Quality = DEFAULT_QUALITY,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        """Prepare, without starting anything.

        Args:
            blender: None takes what ``find_blender`` finds.
            quality: rays a pixel.
            max_memory: resident bytes that the process may take.

        Raises:
            ModuleNotFoundError: if there is no Blender.
        """
        self.blender = find_blender() if blender is None else blender
        self.quality = quality
        self.max_memory = max_memory
        self._worker: _Worker | None = None

    def __enter__(self) -> "CyclesRenderer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    @property
    def pid(self) -> int | None:
        """The number of the process, None while there is none."""
        return None if self._worker is None else self._worker.pid

    def render(
        self,
        path: Path,
        orbits: Sequence[Orbit],
        size: int,
        studio: Studio,
        timeout: float = PATIENCE,
    ) -> UInt8[np.ndarray, "n H W 4"]:
        """Take a picture of an object from each seat.

        Args:
            path: a file with one of ``BLENDER_FORMATS``.
            orbits: where the cameras sit.
            size: side of the pictures, pixels.
            studio: the light, in the object's world: it stays when the camera moves.
            timeout: seconds for the object, all its views together.

        Returns:
            Straight sRGB and alpha; white where nothing is. One ray decides a pixel's outline, as
            in the original: its alpha is 0 or 255 but for see-through materials.

        Raises:
            MeshError: if it cannot be rendered, with the reason; or not in time, or memory.
            FileNotFoundError: if there is no such file.
            RuntimeError: if Blender does not start.
        """
        pictures = np.empty((len(orbits), size, size, 4), np.uint8)
        with tempfile.TemporaryDirectory(prefix="zero123-") as folder:
            request = {
                "folder": folder,
                "size": size,
                "lens": _LENS,
                "sensor": _SENSOR,
                "cameras": [_matrix(orbit.camera_from_world.inverse) for orbit in orbits],
                "lamp": [LAMP_WATTS, LAMP_PLACE, LAMP_RADIUS],
                "panel": [studio.panel_watts, studio.panel_place, PANEL_SIDE],
                "world_grey": WORLD_GREY,
                "quality": asdict(self.quality),
            }
            self._ask(path, request, timeout)
            for view, picture in enumerate(pictures):
                with Image.open(Path(folder, f"{view:03d}.png")) as image:
                    picture[:] = np.asarray(image)
        pictures[pictures[..., 3] == 0, :3] = 255
        return pictures

    def read(self, path: Path, timeout: float = PATIENCE) -> Mesh:
        """Read an object for the fast renderer in a format that only Blender knows.

        Raises:
            MeshError: if it cannot be read, with the reason; or not in time, or memory.
            FileNotFoundError: if there is no such file.
            RuntimeError: if Blender does not start.
        """
        with tempfile.TemporaryDirectory(prefix="zero123-") as folder:
            glb = Path(folder, "object.glb")
            self._ask(path, {"glb": str(glb)}, timeout)
            return load_mesh(glb)

    def _ask(self, path: Path, request: dict[str, Any], timeout: float) -> None:
        request["path"] = str(path.resolve(strict=True))
        if self._worker is None:
            self._worker = _Worker(self.blender)
        try:
            unfit = self._worker.ask(request, timeout, self.max_memory)
        except _FailedError as problem:
            self.close()
            raise MeshError(f"{path.name}: {problem}") from problem
        except BaseException:  # Ctrl-C: whatever it is still busy with, nobody waits for it
            self.close()
            raise
        if unfit is not None:
            raise MeshError(f"{path.name}: {unfit}")


def _matrix(world_from_camera: Rigid) -> list[list[float]]:
    rows: list[list[float]] = world_from_camera.matrix.tolist()
    return [*rows, [0.0, 0.0, 0.0, 1.0]]


class _FailedError(Exception):
    """The process did not do what it was asked, and has to be replaced."""


class _Worker:
    """The process that Blender runs in, and the line to it."""

    def __init__(self, blender: Blender) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="zero123-")
        self._printed = Path(self._files.name, "printed.txt")
        ours, theirs = socket.socketpair()
        with theirs, self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                [*blender.command, str(_WORKER), "--", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "TMPDIR": self._files.name},
            )
        self._usage = psutil.Process(self._process.pid)
        self._line = Connection(ours.detach())
        try:
            self._line.recv_bytes()  # it says its version when it is there
        except EOFError as problem:
            words = self._last_words()
            self.kill()
            raise RuntimeError(f"{blender} does not start: {words}") from problem

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End the process, whatever it is doing, and remove its files."""
        self._process.kill()
        self._process.wait()
        self._line.close()
        self._files.cleanup()

    def ask(self, request: dict[str, Any], timeout: float, max_memory: int) -> str | None:
        """Have a request done.

        Returns:
            None, or what is wrong with the object.

        Raises:
            _FailedError: if the process died, or took too long or too much memory.
        """
        deadline = time.monotonic() + timeout
        try:
            self._line.send_bytes(json.dumps(request).encode())
            while not self._line.poll(_LOOK_EVERY):
                if time.monotonic() > deadline:
                    raise _FailedError(f"timed out after {timeout:g} s")
                if self._usage.memory_info().rss > max_memory:
                    raise _FailedError(f"out of memory: more than {max_memory / 2**30:.3g} GiB")
            unfit: str | None = json.loads(self._line.recv_bytes())["unfit"]
        except (EOFError, ConnectionError, psutil.NoSuchProcess) as problem:
            raise _FailedError(self._last_words()) from problem
        return unfit

    def _last_words(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"Blender was ended by {signal.Signals(-code).name}"
        printed = self._printed.read_text(errors="replace").strip().splitlines()
        return f"Blender ended with exit code {code}: {printed[-1] if printed else 'no word'}"
