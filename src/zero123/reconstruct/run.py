"""From a photo to an object: elevation, views, field, surface, texture."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from zero123.geometry import Camera, Orbit
from zero123.images import FramedPhoto, ImageError, write_text
from zero123.pipeline import Zero123Pipeline
from zero123.reconstruct.descent import Bench, Descent, descend, newest_state
from zero123.reconstruct.elevation import SCOUTS, Elevation, estimate_elevation
from zero123.reconstruct.field import VoxelField
from zero123.reconstruct.fit import ViewsLoss, fit_bench, started_field
from zero123.reconstruct.mesh import extract_surface
from zero123.reconstruct.progress import Progress, Report, Stage, silent
from zero123.reconstruct.score import Scorer
from zero123.reconstruct.settings import VIEWS_QUICK, Settings
from zero123.reconstruct.sjc import SjcLoss, sjc_bench, sjc_field
from zero123.reconstruct.texture import TexturedMesh, field_paint, paint_surface, views_paint
from zero123.reconstruct.views import (
    Move,
    Views,
    alpha_on_white,
    photo_seat,
    photo_view,
    seat_after,
    synthesise,
)
from zero123.reconstruct.volume import Rays, render_rays, render_view

CHECKPOINTS = "checkpoints"
CONFIGURATION = "config.json"
_HIGHEST = 85.0
"""Views from beyond this elevation are not asked for, degrees."""
_UNSURE = 0.7
"""A confidence below this is told."""
_PREVIEW = 128  # pixels

See = Callable[[Orbit, int], Float[Tensor, "3 _ _"]]
"""Pictures what has been made from a seat, in about that many pixels."""


@dataclass(frozen=True)
class Reconstruction:
    """An object, and how it came about."""

    mesh: TexturedMesh
    field: VoxelField
    see: See
    """Pictures the field."""
    views: Views
    """The photo first; then what the field was fitted to, or for SJC what it looks like."""
    elevation: Elevation
    history: Mapping[str, list[float]]
    """Weighted losses of all steps by name."""

    @property
    def seat(self) -> Orbit:
        """Where the photo was taken from."""
        return self.views.seats[0]

    def likeness(self, photo: FramedPhoto) -> tuple[float, float]:
        """PSNR on white (dB) and mask IoU of the object seen from where the photo was taken."""
        seen = self.see(self.seat, self.views.size)
        own = photo_view(photo, seen.shape[-1], self.seat, 1.0)
        error = float((seen - own.pictures[0]).square().mean())
        made, true = alpha_on_white(seen) > 0.5, own.alphas[0] > 0.5
        return -10 * math.log10(max(error, 1e-10)), float((made & true).sum() / (made | true).sum())


def reconstruct(
    photo: FramedPhoto,
    pipe: Zero123Pipeline,
    settings: Settings = VIEWS_QUICK,
    folder: Path | None = None,
    resume: bool = False,
    report: Report = silent,
) -> Reconstruction:
    """Make the object of a photo.

    Args:
        photo: framed as in training; of any size, the texture takes what there is.
        pipe: the model.
        settings: how.
        folder: keeps the configuration and checkpoints; without it a killed run is lost.
        resume: go on from the newest checkpoint there; on a CPU the result is the same to the
            byte as if the run had not been stopped.
        report: told how far it is, with pictures now and then; an exception that it raises ends
            the work.

    Raises:
        ImageError: if the photo shows no object.
        ReconstructionError: if no object comes out of it; it says why.
        ValueError: if the folder holds another run, or the model needs the elevation told.
        CheckpointError: if a checkpoint is damaged.
        OSError: if a checkpoint cannot be written; older ones are still there.
    """
    if float(photo.alpha.max()) <= 0.5:
        raise ImageError("there is no object: the photo is transparent everywhere")
    if settings.elevation is None and pipe.settings.pose_encoding == "stable-zero123":
        raise ValueError(
            "Stable-Zero123 needs the photo's elevation before it makes any view: give "
            "--elevation in degrees"
        )
    if folder is not None:
        _note_configuration(folder, photo, pipe, settings, resume)
    kept = newest_state(folder / CHECKPOINTS) if folder is not None and resume else None
    if kept is not None:
        found = Elevation(**kept["elevation"])
        views = _views_of(kept["views"])
    else:
        found, views = _seen_around(photo, pipe, settings, report)
    work = _begun(photo, pipe, settings, views)
    bench = work.bench
    bench.folder = None if folder is None else folder / CHECKPOINTS
    bench.context = {"elevation": asdict(found), "views": _state_of(views)}
    if kept is not None:
        bench.take(kept)
    descend(bench, work.plan, work.losses, report, lambda: _turning(work, bench))
    report(Progress("mesh", 0.0, work.see(views.seats[0], _PREVIEW)))
    made = _finished(work, photo, settings, views, found)
    report(Progress("mesh", 1.0, made.see(made.seat, _PREVIEW)))
    return made


def from_views(
    views: Views, settings: Settings = VIEWS_QUICK, report: Report = silent
) -> Reconstruction:
    """Make an object of views that are given, the first of them counting as the photo.

    Raises:
        ReconstructionError: if no object comes out of them.
    """
    elevation = Elevation.given(math.degrees(views.seats[0].elevation))
    work = _fitting(views, settings, torch.device("cpu"))
    descend(work.bench, work.plan, work.losses, report, lambda: _turning(work, work.bench))
    photo = FramedPhoto(views.pictures[0], views.alphas[:1])
    return _finished(work, photo, settings, views, elevation)


@dataclass(frozen=True)
class _Work:
    """A field about to be bent."""

    bench: Bench
    plan: Descent
    losses: Callable[[int, torch.Generator], Mapping[str, Tensor]]
    see: See


def _seen_around(
    photo: FramedPhoto, pipe: Zero123Pipeline, settings: Settings, report: Report
) -> tuple[Elevation, Views]:
    """Elevation, and the photo with all views that the method fits to."""
    made: dict[Move, Tensor] = {}
    if settings.elevation is not None:
        found = Elevation.given(settings.elevation)
    else:
        scouts = [move for move in SCOUTS if move != Move(0.0, 0.0)]
        told = _counted(report, "elevation", len(scouts))
        views = synthesise(pipe, photo, scouts, settings.seed, None, False, told)
        made = dict(zip(scouts, views, strict=True))
        small = photo_view(photo, views.shape[-1], photo_seat(0.0), 1.0).alphas
        alphas = torch.stack([alpha_on_white(view) for view in views])
        found = estimate_elevation(torch.cat([small, alphas]), [Move(0.0, 0.0), *scouts])
        said = (
            f"the photo's elevation is uncertain: {found.degrees:g}° (confidence "
            f"{found.confidence:.2f}); give --elevation if you know better"
            if found.confidence < _UNSURE
            else ""
        )
        report(Progress("elevation", 1.0, said=said))
    seat = photo_seat(found.degrees, settings.photo_radius)
    own = photo_view(photo, pipe.image_size, seat, settings.photo_trust)
    if settings.method == "sjc":
        return found, own
    moves = [
        move
        for move in settings.moves
        if move != Move(0.0, 0.0) and abs(found.degrees + move.elevation) <= _HIGHEST
    ]
    # the scouts that are wanted are there already, from the same noise
    new = [move for move in moves if settings.chained or move not in made]
    told = _counted(report, "views", len(new))
    known = (
        settings.elevation
    )  # as the scouts were made: an estimate is not told as if it were known
    views = synthesise(pipe, photo, new, settings.seed, known, settings.chained, told)
    made |= dict(zip(new, views, strict=True))
    pictures = torch.stack([made[move] for move in moves])
    alphas = torch.stack([alpha_on_white(picture) for picture in pictures])
    seats = tuple(seat_after(move, seat) for move in moves)
    return found, own + Views(pictures, alphas, seats, torch.ones(len(moves)))


def _begun(photo: FramedPhoto, pipe: Zero123Pipeline, settings: Settings, views: Views) -> _Work:
    if settings.method == "views":
        return _fitting(views, settings, pipe.device)
    seat = views.seats[0]
    scorer = Scorer.of(pipe, photo, seat)
    field = sjc_field(photo, seat, scorer.latent_shape[0], settings.sjc, settings.seed)
    field.to(pipe.device)
    plan = Descent(settings.sjc.steps, settings.seed, cooldown=settings.sjc.cooldown)
    loss = SjcLoss(field, photo, seat, scorer, settings.sjc)
    see: See = _colors_of(field)
    if settings.sjc.medium == "latent":
        ground = scorer.encode(torch.ones(3, pipe.image_size, pipe.image_size, device=pipe.device))

        @torch.no_grad()
        def decoded(seat: Orbit, size: int) -> Float[Tensor, "3 _ _"]:
            side = scorer.latent_shape[1]
            rays = Rays.of(Camera(seat.camera_from_world, side)).to(pipe.device)
            seen = render_rays(field, rays, None, settings.sjc.steps_per_voxel)
            latents = seen.on(rearrange(ground[0], "c h w -> (h w) c"))
            return scorer.picture(rearrange(latents, "(h w) c -> 1 c h w", h=side)).cpu()

        see = decoded
    return _Work(sjc_bench(field, settings.sjc), plan, loss, see)


def _fitting(views: Views, settings: Settings, device: torch.device) -> _Work:
    field = started_field(views, settings.fit).to(device)
    plan = Descent(settings.fit.steps, settings.seed, cooldown=0.1)
    loss = ViewsLoss(field, views, settings.fit)
    return _Work(fit_bench(field, settings.fit), plan, loss, _colors_of(field))


def _finished(
    work: _Work, photo: FramedPhoto, settings: Settings, views: Views, found: Elevation
) -> Reconstruction:
    """Take the surface, paint it, and picture it."""
    field = work.bench.field
    vertices, faces = extract_surface(field, settings.faces)
    if settings.method == "sjc":
        views = views + _seen(work.see, views, settings)
    sharp = photo_view(photo, photo.image.shape[-1], views.seats[0], 1.0)
    if field.medium == "rgb":
        paints = [field_paint(field), views_paint(field, sharp)]
    else:
        paints = [views_paint(field, views, full=True), views_paint(field, sharp)]
    mesh = paint_surface(vertices, faces, paints, settings.texture)
    return Reconstruction(mesh, field, work.see, views, found, work.bench.history)


def _seen(see: See, views: Views, settings: Settings) -> Views:
    """Pictures of a field from all around."""
    seat = views.seats[0]
    elevation = math.degrees(seat.elevation)
    seats = tuple(
        seat_after(move, seat)
        for move in settings.moves
        if abs(elevation + move.elevation) <= _HIGHEST
    )
    pictures = torch.stack([see(seat, views.size) for seat in seats])
    alphas = torch.stack([alpha_on_white(picture) for picture in pictures])
    return Views(pictures, alphas, seats, torch.ones(len(seats)))


def _colors_of(field: VoxelField) -> See:
    return lambda seat, size: render_view(field, seat, size)[:3]


def _turning(work: _Work, bench: Bench) -> Float[Tensor, "3 _ _"]:
    """The object as it is, turning while the work goes on."""
    turn = Move(360 * bench.step / work.plan.steps, 0.0)
    return work.see(seat_after(turn, photo_seat(15.0)), _PREVIEW)


def _counted(report: Report, stage: Stage, total: int) -> Callable[[int, Tensor], None]:
    return lambda count, latest: report(Progress(stage, count / total, latest))


def _state_of(views: Views) -> dict[str, Any]:
    seats = [(seat.polar, seat.azimuth, seat.radius) for seat in views.seats]
    return {**vars(views), "seats": seats}


def _views_of(state: Mapping[str, Any]) -> Views:
    return Views(**{**state, "seats": tuple(Orbit(*seat) for seat in state["seats"])})


def _note_configuration(
    folder: Path, photo: FramedPhoto, pipe: Zero123Pipeline, settings: Settings, resume: bool
) -> None:
    """Write down what is made; refuse to go on with something else.

    Raises:
        ValueError: if the folder holds another run, or this one without ``resume``.
    """
    digest = hashlib.sha256(photo.image.numpy().tobytes() + photo.alpha.numpy().tobytes())
    told = json.dumps(
        {"photo_sha256": digest.hexdigest(), "model": pipe.settings.name, **asdict(settings)},
        indent=1,
    )
    noted = folder / CONFIGURATION
    if resume:
        if not noted.exists():
            raise ValueError(f"there is nothing to go on with in {folder}")
        if noted.read_text(encoding="utf-8") != told:
            raise ValueError(
                f"{noted} tells of another photo, model or settings: go on with the same, or "
                "name another file"
            )
    elif noted.exists():
        raise ValueError(f"{folder} holds a run: --resume goes on with it, or name another file")
    write_text(told, noted)
