"""How near made objects come to the true ones, beside what needs no model."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64, Int32, Int64, UInt8
from torch import Tensor

from zero123.data import load_mesh, render
from zero123.evaluation.protocol import Protocol
from zero123.evaluation.scenes import Scene, SceneError
from zero123.evaluation.shapes import Surface, compare
from zero123.evaluation.statistics import over_objects
from zero123.geometry import Orbit
from zero123.images import FramedPhoto, write_text
from zero123.pipeline import Zero123Pipeline
from zero123.reconstruct.errors import ReconstructionError
from zero123.reconstruct.run import Reconstruction, from_views, reconstruct
from zero123.reconstruct.settings import Settings
from zero123.reconstruct.views import PHOTO_AZIMUTH, Views, alpha_on_white, photo_seat, seat_after

_TARGETS = 3
"""Every third target view of the protocol is compared: they are pictures of a field, and slow."""
_SIZE = 128
"""Side at which views are compared, pixels."""

Maker = Callable[[Scene, Path], Reconstruction]
"""Makes the object of a scene; the path is that of its true mesh."""


@dataclass(frozen=True)
class ObjectScores:
    """How near one object came."""

    name: str
    maker: str
    chamfer: float
    """Both boxes centred, their longest sides made 1."""
    volume_iou: float
    """Likewise."""
    psnr: float
    """Of the field seen from target seats, dB, the mean over views."""
    seconds: float
    failed: str = ""
    """Why there is no object; the figures then are those of nothing: not numbers."""


def pipeline_maker(pipe: Zero123Pipeline, settings: Settings) -> Maker:
    """A model, told the elevation of the photo."""
    pipe.set_progress_bar_config(disable=True)

    def make(scene: Scene, mesh: Path) -> Reconstruction:
        told = replace(settings, elevation=math.degrees(scene.seat.elevation))
        return reconstruct(_photo(scene), pipe, told)

    return make


def guess_makers(protocol: Protocol, settings: Settings) -> dict[str, Maker]:
    """What needs no model: a hull of copies of the photo, and the true views as the upper end."""

    def copied(scene: Scene, mesh: Path) -> Reconstruction:
        photo, seats = _photo(scene), _seats(scene, settings)
        pictures = photo.image.expand(len(seats), -1, -1, -1)
        alphas = photo.alpha.expand(len(seats), -1, -1)
        return from_views(Views(pictures, alphas, seats, torch.ones(len(seats))), settings)

    def seen(scene: Scene, mesh: Path) -> Reconstruction:
        seats = _seats(scene, settings)
        there = [_turned(seat, scene.seat.azimuth - PHOTO_AZIMUTH) for seat in seats]
        rgba = render(load_mesh(mesh), there, len(scene.photo), protocol.lighting)
        # a true outline may be trusted to the last view
        exact = replace(settings, fit=replace(settings.fit, tolerance=0.0))
        return from_views(_views(rgba, seats), exact)

    return {"photo copied around": copied, "true views": seen}


def score_objects(
    protocol: Protocol,
    meshes: Path,
    makers: Mapping[str, Maker],
    out: Path,
    limit: int | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> list[ObjectScores]:
    """Have every object made by everybody, and compare surfaces and views with the true ones.

    Args:
        protocol: names objects, the photo's seat and the targets.
        meshes: folder of its meshes.
        makers: who makes, by name.
        out: folder of ``reconstruction.json``, written after each object.
        limit: only so many objects, the first.
        resume: keep the scores that are there already.
        say: told a line an object.

    Raises:
        ValueError: if there are scores already and ``resume`` is not wanted.
    """
    trial = protocol.trial(meshes, limit)
    files = {one.name: meshes / one.file for one in protocol.objects}
    noted = out / "reconstruction.json"
    scores: list[ObjectScores] = []
    if noted.exists():
        if not resume:
            raise ValueError(f"{noted} is there: --resume goes on with it, or name a new folder")
        scores = [ObjectScores(**row) for row in json.loads(noted.read_text(encoding="utf-8"))]
    done = {(row.name, row.maker) for row in scores}
    for name in trial.names:
        for maker, make in makers.items():
            if (name, maker) in done:
                continue
            row = _scored(trial.open(name), maker, make, files[name])
            scores.append(row)
            write_text(json.dumps([asdict(each) for each in scores], indent=1), noted)
            say(
                f"{name}, {maker}: Chamfer {row.chamfer:.4f}, IoU {row.volume_iou:.3f}, "
                f"PSNR {row.psnr:.2f} dB, {row.seconds:.0f} s {row.failed}"
            )
    return scores


def scores_table(scores: Sequence[ObjectScores]) -> str:
    """A Markdown table of means over objects with their 95 % intervals."""
    lines = [
        "| made by | objects | Chamfer | volume IoU | PSNR (dB) | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for maker in dict.fromkeys(row.maker for row in scores):
        rows = [row for row in scores if row.maker == maker and not row.failed]
        asked = sum(row.maker == maker for row in scores)
        cells = [
            _interval([getattr(row, name) for row in rows], digits) if rows else "none"
            for name, digits in (("chamfer", 4), ("volume_iou", 3), ("psnr", 2))
        ]
        seconds = f"{np.mean([row.seconds for row in rows]):.0f}" if rows else "none"
        told = f"| {maker} | {len(rows)} of {asked} | {' | '.join(cells)} | {seconds} |"
        lines.append(told)
    return "\n".join(lines)


def _interval(values: list[float], digits: int) -> str:
    mean = over_objects(np.array(values))
    return f"{mean.mean:.{digits}f} ({mean.low:.{digits}f} to {mean.high:.{digits}f})"


def _scored(scene: Scene, maker: str, make: Maker, mesh: Path) -> ObjectScores:
    started = time.perf_counter()
    try:
        made = make(scene, mesh)
    except (ReconstructionError, SceneError) as reason:
        seconds = time.perf_counter() - started
        nothing = float("nan")
        return ObjectScores(
            scene.name, maker, nothing, nothing, nothing, seconds, failed=str(reason)
        )
    seconds = time.perf_counter() - started
    turn = scene.seat.azimuth - PHOTO_AZIMUTH
    true = load_mesh(mesh)
    shape = compare(
        Surface(_spun(made.mesh.vertices.astype(np.float64), turn), _whole(made.mesh.faces)),
        Surface(true.vertices.astype(np.float64), _whole(true.faces)),
    )
    truths = _views(scene.truths[::_TARGETS], scene.seats[::_TARGETS]).resized(_SIZE)
    errors = [
        float((made.see(_turned(seat, -turn), _SIZE) - picture).square().mean())
        for seat, picture in zip(truths.seats, truths.pictures, strict=True)
    ]
    psnr = float(np.mean([-10 * math.log10(max(error, 1e-10)) for error in errors]))
    return ObjectScores(scene.name, maker, shape.chamfer, shape.volume_iou, psnr, seconds)


def _photo(scene: Scene) -> FramedPhoto:
    """The photo as it is: the distance it was taken from is that which its frame means."""
    image: Float[Tensor, "3 H W"] = rearrange(torch.from_numpy(scene.photo), "H W c -> c H W") / 255
    return FramedPhoto(image, alpha_on_white(image)[None])


def _seats(scene: Scene, settings: Settings) -> tuple[Orbit, ...]:
    """The photo's seat and those of all views, as `reconstruct` counts them."""
    photo = photo_seat(math.degrees(scene.seat.elevation))
    others = (move for move in settings.moves if move.azimuth or move.elevation)
    return (photo, *(seat_after(move, photo) for move in others))


def _views(rgba: UInt8[np.ndarray, "v H W 4"], seats: tuple[Orbit, ...]) -> Views:
    pixels = rearrange(torch.from_numpy(rgba), "v H W c -> v c H W") / 255
    alphas = pixels[:, 3]
    on_white = pixels[:, :3] * alphas[:, None] + 1 - alphas[:, None]
    return Views(on_white, alphas, seats, torch.ones(len(seats)))


def _turned(seat: Orbit, turn: float) -> Orbit:
    return seat.moved(0.0, turn)


def _spun(points: Float64[np.ndarray, "V 3"], turn: float) -> Float64[np.ndarray, "V 3"]:
    sin, cos = math.sin(turn), math.cos(turn)
    turned: Float64[np.ndarray, "V 3"] = points @ np.array(
        [[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]
    )
    return turned


def _whole(faces: Int32[np.ndarray, "F 3"]) -> Int64[np.ndarray, "F 3"]:
    return faces.astype(np.int64)
