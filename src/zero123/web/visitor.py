"""What one person at the page has: a photo, and what was made of it; nobody else sees it."""

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zero123.app.moves import Moves
from zero123.images import FramedPhoto, animate, to_pil
from zero123.pipeline import Zero123Pipeline
from zero123.reconstruct import (
    Elevation,
    Progress,
    Reconstruction,
    Settings,
    preset,
    reconstruct,
    write_object,
)
from zero123.web.placing import Cutout, Placement, cut_out, place, read_upload
from zero123.web.studio import Job, Step, Stopped, Studio, Tell, Work

T = TypeVar("T")
Pose = tuple[float, float, float]
"""Azimuth and elevation in degrees, change of distance in units of the object's longest side."""

SHARPEST = 512
"""Side of the photo that is shown, and that the object's texture is painted from, pixels."""
_AT_ONCE = 4
"""Views of an orbit in one call of the model."""
_MOST_ASKED = 64
"""Views that are kept for the download, the latest."""


@dataclass(frozen=True)
class Drawing:
    """How views are drawn from noise."""

    samples: int = 1
    """Pictures of each view."""
    seed: int = 0
    steps: int | None = None
    """Of the sampler; None for the model's own number."""
    guidance: float | None = None
    """None for the model's own."""
    image_elevation: float | None = None
    """Degrees above eye level from which the photo was taken, where somebody knows."""

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= 8:
            raise ValueError(f"samples must be in 1 to 8, got {self.samples}")
        if not 0 <= self.seed < 2**53:  # what a number of a web page can hold
            raise ValueError(f"seed must be in 0 to 2^53 - 1, got {self.seed}")
        if self.steps is not None and not 1 <= self.steps <= 200:
            raise ValueError(f"steps must be in 1 to 200, got {self.steps}")

    def options(self) -> dict[str, Any]:
        """Say it in the pipeline's words."""
        return {
            "num_images_per_pose": self.samples,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "generator": torch.Generator().manual_seed(self.seed),
            "image_elevation": self.image_elevation,
        }


_PREVIEW = Drawing(steps=1, guidance=1.0)


@dataclass(frozen=True)
class Shown:
    """A photo, as the page shows it and as the model sees it."""

    placement: Placement
    sharp: FramedPhoto
    photo: FramedPhoto
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """One wanted view."""

    pose: Pose
    drawing: Drawing
    pictures: Float[Tensor, "samples 3 S S"]

    def moves(self) -> Moves:
        """The view alone."""
        return moves_of([self.pose], self.drawing)


@dataclass(frozen=True)
class Film:
    """Once around the object."""

    poses: tuple[Pose, ...]
    drawing: Drawing
    pictures: Float[Tensor, "frames 3 S S"]
    file: Path
    """An endless animation."""


@dataclass(frozen=True)
class Object3D:
    """The object."""

    settings: Settings
    elevation: Elevation
    file: Path
    """With the texture inside."""


def moves_of(poses: Sequence[Pose], drawing: Drawing) -> Moves:
    """Check poses and say where they lead.

    Raises:
        ValueError: for numbers that are not finite, out of range or radians by mistake.
    """
    azimuths, elevations, distances = zip(*poses, strict=True)
    return Moves.spread(azimuths, elevations, distances, drawing.image_elevation or 0.0)


class Visitor:
    """One person's photo and what was made of it.

    Making is done by generators that tell each step; whoever stops iterating stops the work. A new
    photo, a new placement and new work stop the work before it.
    """

    def __init__(self, studio: Studio, folder: Path, mesh: Settings | None = None) -> None:
        self.folder = folder
        """All files are in it."""
        self._studio = studio
        self._mesh = mesh or preset("views", "quick")
        self._cutouts: dict[str, Cutout] = {}
        self._source: Any = None
        self._work: Work[Any] | None = None
        self._shown: Shown | None = None
        self.seen: list[Seen] = []
        self.film: Film | None = None
        self.object: Object3D | None = None

    @property
    def shown(self) -> Shown:
        """The photo.

        Raises:
            ValueError: if there is none yet.
        """
        if self._shown is None:
            raise ValueError("there is no photo yet: give one first")
        return self._shown

    def take(self, file: Path, placement: Placement) -> Shown:
        """Take a new photo; what was made of the one before is forgotten.

        Raises:
            ImageError: if it is no picture, too large, or shows no object; then there is none.
        """
        self.forget()
        with self._studio.borrowed():
            self._source = read_upload(file)
        return self.place(placement)

    def place(self, placement: Placement) -> Shown:
        """Place the photo's object anew.

        Raises:
            ImageError: if that leaves no object; then there is no photo to work with.
            ValueError: if there is no photo yet.
        """
        self._clear()
        if self._source is None:
            raise ValueError("there is no photo yet: give one first")
        with self._studio.borrowed() as pipe:
            if placement.cut not in self._cutouts:
                self._cutouts = {placement.cut: cut_out(self._source, placement.cut)}
            cutout = self._cutouts[placement.cut]
            photo, _ = place(cutout, placement, pipe.image_size)
            sharp, remarks = place(cutout, placement, max(SHARPEST, pipe.image_size))
        self._shown = Shown(placement, sharp, photo, remarks)
        return self._shown

    def preview(self, pose: Pose) -> Image.Image:
        """See the object roughly from another side, at once.

        Raises:
            ValueError: for a pose out of range, or without a photo.
        """
        moves, photo = moves_of([pose], _PREVIEW), self.shown.photo
        with self._studio.borrowed() as pipe:
            return to_pil(_made(pipe, photo, moves, _PREVIEW)[0, 0])

    def see(self, pose: Pose, drawing: Drawing) -> Generator[Step, None, Seen]:
        """See the object from another side.

        Raises:
            ValueError: for numbers out of range, or without a photo.
            Stopped: if it was stopped.
        """
        moves, photo = moves_of([pose], drawing), self.shown.photo

        def job(pipe: Zero123Pipeline, tell: Tell) -> Seen:
            return Seen(pose, drawing, _made(pipe, photo, moves, drawing, tell)[0])

        seen = yield from self._watched(job)
        self.seen = [*self.seen, seen][-_MOST_ASKED:]
        return seen

    def go_round(
        self, frames: int, elevation: float, drawing: Drawing
    ) -> Generator[Step, None, Film]:
        """Go once around the object; each step shows the latest view.

        Raises:
            ValueError: for numbers out of range, or without a photo.
            Stopped: if it was stopped.
        """
        if not 4 <= frames <= 72:
            raise ValueError(f"an orbit takes 4 to 72 frames, got {frames}")
        drawing = replace(drawing, samples=1)
        poses = tuple((360 * frame / frames, elevation, 0.0) for frame in range(frames))
        moves_of(poses, drawing)
        photo = self.shown.photo

        def job(pipe: Zero123Pipeline, tell: Tell) -> Film:
            made: list[Tensor] = []
            for first in range(0, frames, _AT_ONCE):
                some = poses[first : first + _AT_ONCE]

                def part(step: Step, done: int = first, count: int = len(some)) -> None:
                    fraction = (done + count * step.fraction) / frames
                    tell(Step(f"{done} of {frames} views", fraction))

                made += _made(pipe, photo, moves_of(some, drawing), drawing, part)[:, 0]
                tell(Step(f"{len(made)} of {frames} views", len(made) / frames, to_pil(made[-1])))
            file = animate([to_pil(each) for each in made], self.folder / "orbit.webp")
            return Film(poses, drawing, torch.stack(made), file)

        self.film = yield from self._watched(job)
        return self.film

    def build(self, drawing: Drawing) -> Generator[Step, None, Object3D]:
        """Make the object; steps show it now and then.

        Args:
            drawing: tells the seed and the photo's elevation; it is estimated where unknown.

        Raises:
            ValueError: without a photo; ReconstructionError if no object comes out.
            Stopped: if it was stopped.
        """
        settings = replace(self._mesh, seed=drawing.seed)
        if drawing.image_elevation is not None:
            given = Elevation.given(drawing.image_elevation)
            settings = replace(settings, elevation=given.degrees)
        photo = self.shown.sharp

        def job(pipe: Zero123Pipeline, tell: Tell) -> Object3D:
            made: Reconstruction = reconstruct(
                photo, pipe, settings, report=lambda progress: tell(_step_of(progress))
            )
            file = self.folder / "object.glb"
            write_object(made.mesh, file)
            return Object3D(settings, made.elevation, file)

        self.object = yield from self._watched(job)
        return self.object

    def stop(self) -> None:
        """End the work that goes on, if any."""
        if self._work is not None:
            self._work.stop()
            self._work = None

    def forget(self) -> None:
        """Have no photo any more, and nothing made of it."""
        self._clear()
        self._source, self._cutouts = None, {}

    def leave(self) -> None:
        """Stop, and remove all files."""
        self.forget()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        self.stop()
        self._shown, self.seen, self.film, self.object = None, [], None, None

    def _watched(self, job: Job[T]) -> Generator[Step, None, T]:
        self.stop()
        self._work = work = self._studio.begin(job)
        yield from work
        result = work.result()
        if self._work is not work:  # there may be another photo by now
            raise Stopped
        self._work = None
        return result


class Visitors:
    """Who is at the page, by the key that each browser tab makes up for itself."""

    def __init__(
        self, studio: Studio, folder: Path, mesh: Settings | None = None, most: int = 24
    ) -> None:
        self._studio, self._folder, self._mesh, self._most = studio, folder, mesh, most
        self._here: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = Lock()

    def of(self, key: str | None) -> Visitor:
        """Who asks; a newcomer takes the place of whoever has been silent for longest.

        Raises:
            ValueError: without a key.
        """
        if not key:
            raise ValueError("say who asks: send a session_hash of your own, as gradio_client does")
        with self._lock:
            if key not in self._here:
                folder = Path(tempfile.mkdtemp(prefix="visitor-", dir=self._folder))
                self._here[key] = Visitor(self._studio, folder, self._mesh)
            self._here.move_to_end(key)
            gone = [self._here.popitem(last=False)[1] for _ in range(len(self._here) - self._most)]
            here = self._here[key]
        for visitor in gone:
            visitor.leave()
        return here

    def leave(self, key: str | None) -> None:
        """Forget who has gone."""
        with self._lock:
            gone = self._here.pop(key or "", None)
        if gone is not None:
            gone.leave()

    def close(self) -> None:
        """Forget everybody, and stop what goes on."""
        for key in list(self._here):
            self.leave(key)


def _made(
    pipe: Zero123Pipeline,
    photo: FramedPhoto,
    moves: Moves,
    drawing: Drawing,
    tell: Tell = lambda step: None,
) -> Float[Tensor, "poses samples 3 S S"]:
    total = drawing.steps or pipe.settings.steps

    def after_step(_: Any, step: int, *__: Any) -> None:
        tell(Step(f"step {step + 1} of {total}", min(1.0, (step + 1) / total)))

    made: Tensor = pipe(
        photo.image,
        azimuth=moves.azimuth,
        elevation=moves.elevation,
        distance=moves.distance,
        output_type="pt",
        callback_on_step_end=after_step,
        **drawing.options(),
    ).images[0]
    return made


_STAGES = {
    "elevation": ("finding how high the photo was taken", 0.0, 0.15),
    "views": ("making views all around", 0.15, 0.45),
    "field": ("fitting a volume to them", 0.45, 0.9),
    "mesh": ("taking the surface and painting it", 0.9, 1.0),
}
"""What is said, and where the stage begins and ends in the whole."""


def _step_of(progress: Progress) -> Step:
    said, start, end = _STAGES[progress.stage]
    preview = None if progress.preview is None else to_pil(progress.preview)
    return Step(said, start + (end - start) * progress.fraction, preview)
