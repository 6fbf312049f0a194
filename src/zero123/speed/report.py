"""The ladder as people read it: a table, a picture, and JSON."""

import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from PIL import Image, ImageDraw, ImageFont

from zero123 import __version__
from zero123.images import save_picture, write_text
from zero123.speed.ladder import Rung
from zero123.speed.measure import Sameness

if TYPE_CHECKING:
    from zero123.speed.quality import Loss  # which needs the packages of zero123[eval]

_PACKAGES = ("torch", "diffusers", "transformers")
_HEADER = (
    "rung", "s a view", "× as fast", "CPU-s", "× in CPU-s", "CPU-s a step", "memory, MiB",
    "first call, s", "largest off", "mean off", "PSNR, dB",
)  # fmt: skip
_LOST = ("rung", "PSNR, dB", "lost to plain, dB", "from plain's views, dB", "CPU-s a view")
_BAR, _LINE = 520, 22  # pixels


def write_ladder(rungs: Sequence[Rung], title: str, device: torch.device, file: Path) -> str:
    """Write ``.md``, ``.json`` and ``.png``.

    Args:
        rungs: as measured, the original code's first.
        title: says of which model, with how many steps.
        device: where the work was done.
        file: without an ending; its folder is made if it is not there.

    Returns:
        What stands in the Markdown.
    """
    rows = [
        (
            rung.name,
            f"{rung.middle('seconds'):.3g}",
            f"{rung.times_as_fast():.2f}",
            f"{rung.middle('cpu_seconds'):.3g}",
            f"{rung.times_as_fast('cpu_seconds'):.2f}",
            f"{rung.middle('step_cpu_seconds'):.3g}",
            f"{rung.memory_mib:.0f}",
            f"{rung.first_seconds:.1f}",
            *_told(rung.sameness),
        )
        for rung in rungs
    ]
    how = (
        f"Medians over {len(rungs[0].costs)} pairs of calls, each rung in turn with the plain "
        "pipeline; one view a call. Memory is the weights and what the call needed besides."
    )
    if rungs[0].plan is None:
        how += " Beside the original code the plain pipeline walks its timesteps."
    told = [asdict(rung) | {"memory_mib": rung.memory_mib} for rung in rungs]
    text = _write(file, title, device, how, (_HEADER, *rows), {"rungs": told})
    save_picture(_drawn(rungs, title), _with_ending(file, ".png"))
    return text


def write_losses(losses: "Sequence[Loss]", title: str, device: torch.device, file: Path) -> str:
    """Write ``.md`` and ``.json``.

    Args:
        losses: as measured, the plain pipeline's first.
        title: says of which model, with how many steps, on what.
        device: where the work was done.
        file: without an ending; its folder is made if it is not there.

    Returns:
        What stands in the Markdown.
    """
    rows = [
        (
            loss.name,
            *(f"{e.mean:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in (loss.psnr, loss.lost)),
            f"{loss.moved:.1f}",
            f"{loss.cpu_seconds:.3g}",
        )
        for loss in losses
    ]
    how = (
        f"Means over {losses[0].psnr.objects} objects with 95 % intervals that draw objects; lost "
        "is taken object by object. Nothing is compiled here."
    )
    told = [asdict(loss) for loss in losses]
    return _write(file, title, device, how, (_LOST, *rows), {"losses": told})


def _told(sameness: Sameness | None) -> tuple[str, str, str]:
    if sameness is None:
        return "", "", ""
    return f"{sameness.largest:.1e}", f"{sameness.mean:.1e}", f"{sameness.psnr:.1f}"


def _write(
    file: Path,
    title: str,
    device: torch.device,
    how: str,
    rows: Sequence[Sequence[str]],
    measured: Mapping[str, object],
) -> str:
    """Write a table and its JSON, with all that a reader must know to repeat it."""
    told: dict[str, Any] = {
        "title": title,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["zero123", *sys.argv[1:]],
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
        "versions": {"python": platform.python_version(), "zero123": __version__}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
    header, *others = rows
    lines = [
        f"# {title}",
        "",
        f"{told['date']}, {', '.join(f'{k} {v}' for k, v in told['machine'].items() if v)}; "
        f"{', '.join(f'{k} {v}' for k, v in told['versions'].items())}.",
        f"`{shlex.join(told['command'])}`. {how}",
        "",
        *("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *others)),
    ]
    text = "\n".join(lines) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(text, _with_ending(file, ".md"))
    write_text(
        json.dumps(_plain({**told, **measured}), indent=1) + "\n", _with_ending(file, ".json")
    )
    return text


def _with_ending(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)  # a model's name may have dots


def _drawn(rungs: Sequence[Rung], title: str) -> Image.Image:
    """A bar a rung: how many times as fast as the plain pipeline, in seconds of the processor."""
    font = ImageFont.load_default(size=14)
    names = max(font.getlength(rung.name) for rung in rungs) + 20
    fastest = max(rung.times_as_fast("cpu_seconds") for rung in rungs)
    sheet = Image.new("RGB", (int(names) + _BAR + 70, _LINE * (len(rungs) + 2) + 10), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((10, 6), f"{title}: times as fast as plain".replace("×", "x"), "black", font)
    for row, rung in enumerate(rungs, 1):
        times, top = rung.times_as_fast("cpu_seconds"), 10 + row * _LINE
        draw.text((10, top), rung.name, "black", font)
        end = names + _BAR * times / fastest
        draw.rectangle((names, top + 2, end, top + _LINE - 4), "#4878a8")
        draw.text((end + 6, top), f"{times:.2f}", "black", font)
    draw.line(
        [(names + _BAR / fastest, _LINE), (names + _BAR / fastest, sheet.height - 10)], "#c33"
    )
    return sheet


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    if told.exists():
        for line in told.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(told: object) -> object:
    """JSON knows neither infinity, NaN nor paths."""
    if isinstance(told, dict):
        return {key: _plain(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [_plain(value) for value in told]
    if isinstance(told, Path):
        return str(told)
    return None if isinstance(told, float) and not math.isfinite(told) else told
