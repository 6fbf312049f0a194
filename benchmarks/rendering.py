"""Compare ways to render, side by side: ``python benchmarks/rendering.py FOLDER --count 10``.

On the same objects, cameras and light: a straightforward Blender run per object at the published
settings, our long-lived Cycles process, our ray tracer on Embree, and the fast renderer. Processor
seconds count, not the clock's. The table goes to ``benchmarks/results/rendering.md``, the figures
to ``rendering.json``.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import tyro
from jaxtyping import UInt8
from PIL import Image

from zero123.data import Lighting, Mesh, load_mesh, sample_orbits
from zero123.data.cycles import CyclesRenderer, Quality, find_blender
from zero123.data.embree import find_embree, trace
from zero123.data.raster import render
from zero123.data.studio import Studio, sample_studio
from zero123.data.views import ViewSet
from zero123.geometry import Orbit

HERE = Path(__file__).parent
REFERENCE = Quality(samples=1024, noise=0.0, denoised=False)
Pictures = UInt8[np.ndarray, "n H W 4"]
Job = tuple[Path, list[Orbit], Studio]
Draw = Callable[[Mesh, Sequence[Orbit], int, Lighting], Pictures]
OURS: dict[str, Draw] = {"`render`, fast": render, "`trace`, on Embree": trace}


@dataclass(frozen=True)
class Run:
    """One object's pictures and what they took."""

    pictures: Pictures
    seconds: float
    """Of the processor."""
    peak: float
    """Resident memory, MiB."""


def straightforward(
    path: Path, orbits: Sequence[Orbit], size: int, studio: Studio, adaptive: bool
) -> Run:
    """A Blender process for this object alone."""
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder, "request.json")
        matrices = [orbit.camera_from_world.inverse.matrix.tolist() for orbit in orbits]
        fields = {
            "path": str(path.resolve()),
            "folder": folder,
            "size": size,
            "adaptive": adaptive,
            "panel_watts": studio.panel_watts,
            "panel_place": studio.panel_place,
            "cameras": [[*rows, [0, 0, 0, 1]] for rows in matrices],
        }
        request.write_text(json.dumps(fields))
        script = HERE / "published_render.py"
        process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(request)], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{path.name}: the straightforward run failed")
        files = [Path(folder, f"{view:03d}.png") for view in range(len(orbits))]
        pictures = np.stack([np.asarray(Image.open(file)) for file in files])
    return Run(pictures, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def psnr(pictures: Pictures, reference: Pictures) -> float:
    """On white, decibels, the mean of the views."""
    a, b = (ViewSet.on_white(side).astype(np.float64) for side in (pictures, reference))
    error = ((a - b) ** 2).mean(axis=(1, 2, 3))
    return float((10 * np.log10(255**2 / np.maximum(error, 1e-9))).mean())


def traced(jobs: Sequence[Job], size: int, quality: Quality) -> list[Run]:
    """All objects in one process; the first bears its start."""
    runs, before = [], 0.0
    with CyclesRenderer(quality=quality) as cycles:
        for path, orbits, studio in jobs:
            pictures = cycles.render(path, orbits, size, studio, timeout=36000)
            times = psutil.Process(cycles.pid).cpu_times()
            status = Path(f"/proc/{cycles.pid}/status").read_text()
            peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
            runs.append(Run(pictures, times.user + times.system - before, peak))
            before = times.user + times.system
    return runs


def drawn(draw: Draw, path: Path, orbits: Sequence[Orbit], studio: Studio, size: int) -> Run:
    """Read and draw an object in this process."""
    begin = time.process_time()
    pictures = draw(load_mesh(path), orbits, size, studio.lighting())
    seconds = time.process_time() - begin
    return Run(pictures, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def ours(jobs: Sequence[Job], size: int, draw: Draw) -> list[Run]:
    """All objects in one process of their own, which has drawn one before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(drawn, draw, *jobs[0], size).result()
        return [process.submit(drawn, draw, *job, size).result() for job in jobs]


def milliseconds(jobs: Sequence[Job], size: int, draw: Draw) -> float:
    """Of the processor, a view, meshes at hand."""
    spent, views = 0.0, 0
    for path, orbits, studio in jobs:
        mesh = load_mesh(path)
        draw(mesh, orbits[:1], size, studio.lighting())  # compiled
        begin = time.process_time()
        draw(mesh, orbits, size, studio.lighting())
        spent, views = spent + time.process_time() - begin, views + len(orbits)
    return 1000 * spent / views


def main(
    folder: tyro.conf.Positional[Path],
    count: int = 10,
    views: int = 12,
    judged: int = 2,
    size: int = 256,
    seed: int = 0,
) -> None:
    """Render and write the table.

    Args:
        folder: where the .glb files are; the first ``count`` by name are taken.
        count: objects.
        views: views of each.
        judged: of them, the first so many are rendered with 1024 samples a pixel too, which takes
            longer than all the rest.
        size: side of the pictures, pixels.
        seed: of cameras and light.
    """
    rng = np.random.default_rng(seed)
    paths = sorted(folder.glob("*.glb"))[:count]
    jobs = [(path, sample_orbits(rng, views), sample_studio(rng)) for path in paths]
    rows = {name: ours(jobs, size, draw) for name, draw in OURS.items()}
    rows["`CyclesRenderer`"] = traced(jobs, size, Quality())
    for name, adaptive in (
        ("the same without adaptive sampling", False),
        ("Blender per object, published settings", True),
    ):
        rows[name] = [
            straightforward(path, orbits, size, studio, adaptive) for path, orbits, studio in jobs
        ]
    few = [(path, orbits[:judged], studio) for path, orbits, studio in jobs]
    reference = [run.pictures for run in traced(few, size, REFERENCE)]
    figures = {
        name: {
            "seconds_per_view": sum(run.seconds for run in runs) / (len(jobs) * views),
            "psnr": float(
                np.mean(
                    [
                        psnr(run.pictures[:judged], best)
                        for run, best in zip(runs, reference, strict=True)
                    ]
                )
            ),
            "peak_mib": max(run.peak for run in runs),
        }
        for name, runs in reversed(rows.items())
    }
    at_hand = {
        name: {side: milliseconds(jobs, side, draw) for side in (128, 256)}
        for name, draw in OURS.items()
    }
    lines = [
        f"# Rendering: {len(jobs)} objects, {views} views each, {size} px",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {find_blender()}, {find_embree()}, {platform.system()} on "
        f"{platform.machine()}, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}.",
        f"`python benchmarks/rendering.py FOLDER --count {count} --views {views} --judged {judged} "
        f"--size {size} --seed {seed}`: processor seconds, files read; Blender's with its start, "
        f"ours in a process that has started. PSNR on white, views 1 to {judged} of each object, "
        f"against Cycles with {REFERENCE.samples} samples a pixel and no denoiser, whose outlines "
        "are not smooth.",
        "",
        "| way | CPU-s per view | PSNR, dB | peak memory, MiB |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['seconds_per_view']:.3f} | {row['psnr']:.1f} "
            f"| {row['peak_mib']:.0f} |"
            for name, row in figures.items()
        ),
        "",
        "With the mesh at hand, milliseconds of the processor per view:",
        "",
        "| way | 128² | 256² |",
        "|---|---|---|",
        *(f"| {name} | {ms[128]:.1f} | {ms[256]:.1f} |" for name, ms in at_hand.items()),
    ]
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "rendering.md").write_text("\n".join(lines) + "\n")
    record = {"objects": [path.stem for path in paths], "ways": figures, "at_hand_ms": at_hand}
    (results / "rendering.json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    tyro.cli(main)
