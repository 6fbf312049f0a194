"""The command line: a dataclass a command. Nothing heavy is imported before a command runs."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from zero123.app.bench import Bench
from zero123.app.evaluate import Evaluate
from zero123.app.opening import Opening
from zero123.app.page import App
from zero123.app.reconstruct import Reconstruct
from zero123.app.train import Train

if TYPE_CHECKING:
    from zero123.app.moves import Moves


@dataclass(frozen=True)
class Sampling:
    """How views are drawn from noise."""

    steps: int | None = None
    """Steps of the sampler; the model's own number if left out."""
    guidance: float | None = None
    """1 follows the photo as learned, 3 harder; left out: the model's own (published models: 3)."""
    eta: float | None = None
    """Noise that DDIM adds back, 0 to 1; the model's own number if left out."""
    preset: Literal["default", "original"] = "default"
    """original: the authors' sampler, to the number."""
    seed: int = 0
    """The same seed gives the same picture."""
    image_elevation: float | None = None
    """Degrees above eye level from which the photo was taken. mini does better where you say it,
    Stable-Zero123 needs it."""

    def options(self) -> dict[str, Any]:
        """Say it in the pipeline's words."""
        import torch

        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must be in 0 to 2^63 - 1, got {self.seed}")

        return {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "eta": self.eta,
            "preset": self.preset,
            "generator": torch.Generator().manual_seed(self.seed),
            "image_elevation": self.image_elevation,
        }


@dataclass(frozen=True)
class View:
    """See the object of a photo from other sides."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photos: any picture files, or folders of them."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """A picture file for one view; a folder for several."""
    azimuth: tuple[float, ...] = ()
    """Turns of the camera, degrees, counter-clockwise seen from above: it moves to its right. 60 if
    nothing is said."""
    elevation: tuple[float, ...] = ()
    """Climbs of the camera, degrees, up positive: as many as turns, or one for all."""
    distance: tuple[float, ...] = ()
    """Changes of distance in units of the object's longest side: likewise."""
    poses: Path | None = None
    """Instead of these three, a .csv or .json file with rows of azimuth, elevation, distance, and
    image if a row is for one photo alone."""
    cameras: Literal["nerfstudio", "colmap"] = "nerfstudio"
    """Whose camera files a folder gets: transforms.json, or a text model in sparse/0."""
    samples: int = 1
    """Pictures of each view."""
    transparent: bool = False
    """Cut the object out of the view."""
    opening: tyro.conf.OmitArgPrefixes[Opening] = field(default_factory=Opening)
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = field(default_factory=Sampling)

    def run(self) -> Path:
        """Make the views and write them."""
        from itertools import islice

        from zero123.app.moves import calls
        from zero123.app.views import check_place, is_file, places, write_view, write_views

        # whatever would fail at the end is told before the work
        if self.samples < 1:
            raise ValueError(f"--samples must be at least 1, got {self.samples}")
        self.sampling.options()
        paths, wanted = zip(*self._wanted(), strict=True)
        check_place(self.out, self.samples * sum(map(len, wanted)), self.transparent)
        pipe, photos = self.opening.open(paths, self.sampling.preset == "original")
        left = iter(places(self.out, paths))
        for moves, count in calls(wanted, self.samples):
            framed = list(islice(photos, count))
            made = pipe(
                [photo.image for photo in framed],
                azimuth=moves.azimuth,
                elevation=moves.elevation,
                distance=moves.distance,
                num_images_per_pose=self.samples,
                output_type="pt",
                **self.sampling.options(),
            ).images
            if is_file(self.out):
                write_view(self.out, made[0, 0, 0], self.transparent)
            else:  # places last: zip takes none of them once the photos are through
                for photo, views, place in zip(framed, made, left, strict=False):
                    write_views(place, views, photo.image, moves, self.transparent, self.cameras)
        return self.out

    def _wanted(self) -> "list[tuple[Path, Moves]]":
        """The photos, and the moves that are wanted of each."""
        from zero123.app.moves import Moves, moves_of_file
        from zero123.images import list_pictures

        said = (self.azimuth, self.elevation, self.distance)
        if self.poses is not None and any(said):
            raise ValueError(
                "--poses says where to go: leave --azimuth, --elevation and --distance out"
            )
        photos = list_pictures(self.images)
        if not photos:
            raise ValueError("no photo was given")
        elevation = self.sampling.image_elevation or 0.0
        if self.poses is not None:
            return moves_of_file(self.poses, photos, elevation)
        moves = Moves.spread(
            self.azimuth or (60.0,), self.elevation or (0.0,), self.distance or (0.0,), elevation
        )
        return [(photo, moves) for photo in photos]


@dataclass(frozen=True)
class Orbit:
    """Go once around the object of a photo."""

    image: Annotated[Path, tyro.conf.Positional]
    """A photo: any picture file."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """.webp, .gif, .mp4, or a folder for single pictures."""
    frames: int = 24
    """Views around."""
    elevation: float = 0.0
    """Climb of the camera, degrees, up positive."""
    fps: float = 12.0
    """Pictures a second."""
    opening: tyro.conf.OmitArgPrefixes[Opening] = field(default_factory=Opening)
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = field(default_factory=Sampling)

    def run(self) -> Path:
        """Make the views and write the film."""
        from zero123.images import animate, check_film

        if not 2 <= self.frames <= 1000:
            raise ValueError(f"an orbit takes at least 2 frames, at most 1000, got {self.frames}")
        check_film(self.out, self.fps)
        options = self.sampling.options()
        pipe, (photo,) = self.opening.open([self.image], self.sampling.preset == "original")
        made = pipe(
            photo.image,
            azimuth=[360 * step / self.frames for step in range(self.frames)],
            elevation=self.elevation,
            **options,
        ).images
        return animate([samples[0] for samples in made[0]], self.out, self.fps)


@dataclass(frozen=True)
class Convert:
    """Rewrite a model in another layout, always as safetensors."""

    source: Annotated[str, tyro.conf.Positional]
    """Bundled name, folder, .ckpt or .safetensors file, or hub id."""
    dest: Annotated[Path, tyro.conf.Positional]
    """A new folder, or for --to original a new .safetensors file."""
    to: Literal["diffusers", "original"] = "diffusers"
    """diffusers: a folder of components; original: one file with the authors' names."""
    weights: Literal["ema", "raw"] = "ema"
    """Which denoiser weights to take from a file that holds both."""
    lora: Path | None = None
    """An adapter trained on this model, a .safetensors file: a merged model is written."""
    half: bool = False
    """Store half precision."""
    pose_encoding: Literal["zero123", "stable-zero123"] | None = None
    """Says what kind of model it is, where its files do not."""

    def run(self) -> Path:
        """Open, and write again."""
        import torch

        from zero123.weights import apply_lora, open_model, save_model, save_original

        parts = open_model(
            self.source,
            dtype=torch.float16 if self.half else torch.float32,
            weights=self.weights,
            pose_encoding=self.pose_encoding,
        )
        if self.lora is not None:
            apply_lora(parts, self.lora)
        if self.to == "original":
            save_original(parts, self.dest)
        else:
            save_model(parts, self.dest)
        return self.dest


@dataclass(frozen=True)
class Render:
    """Make a data set: render meshes from cameras all around, light and seats as in the original.

    Run it again and it goes on where it stopped. What became of each object stands in report.csv.
    Exit code 0: finished, though objects may be skipped; 1: nothing could be rendered; 2: stopped.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Mesh files, folders, archives, procedural:N, objaverse:FILTERS or objaverse-xl:FILTERS."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the data set."""
    views: int = 12
    """Pictures of each object."""
    size: int = 512
    """Side of the pictures, pixels."""
    renderer: Literal["cycles", "embree", "fast"] = "cycles"
    """Blender's ray tracer; ours, on Embree, ten times as fast; or ours that only rasterises."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine; or of the Ray cluster at RAY_ADDRESS, else of one started here."""
    format: Literal["views", "shards"] = "views"
    """A folder an object, as published; or WebDataset shards with hashes."""
    seed: int = 0
    """The same seed gives an object the same cameras and light."""
    limit: int | None = None
    """Render the first objects only."""
    workers: int | None = None
    """Objects at once; all cores if left out."""
    keep_grey: bool = False
    """Render objects without any colour too, unpainted .stl files for one."""
    seconds: float = 600.0
    """Longest time for an object."""
    gigabytes: float = 4.0
    """Most memory for a worker."""
    megabytes: float = 512.0
    """Largest mesh file."""

    def run(self) -> Path:
        """Render, and say how it went; exit 1 if nothing could be rendered."""
        from zero123.app.data import render
        from zero123.data.bench import RenderJob

        job = RenderJob(
            views=self.views,
            size=self.size,
            renderer=self.renderer,
            seed=self.seed,
            keep_grey=self.keep_grey,
            seconds=self.seconds,
            gigabytes=self.gigabytes,
            megabytes=self.megabytes,
        )
        report = render(
            self.sources, self.limit, job, self.out, self.format, self.engine, self.workers
        )
        if not report.done:
            sys.exit(1)
        return self.out


@dataclass(frozen=True)
class Check:
    """Look at every hash, camera and picture of a data set; exit 1 if something is bad."""

    source: Annotated[str, tyro.conf.Positional]
    """Folder of views or shards, archive of views, or the URL of either."""

    def run(self) -> None:
        """List what is bad."""
        from zero123.data.check import check

        faults = check(self.source)
        for fault in faults:
            print(fault)
        if faults:
            sys.exit(1)
        print("nothing bad found")


@dataclass(frozen=True)
class Show:
    """Lay some objects of a data set out on one picture."""

    source: Annotated[str, tyro.conf.Positional]
    """Folder of views or shards, archive of views, or the URL of either."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Picture file."""
    objects: int = 8
    """How many, spread over the data set."""
    views: int = 6
    """How many of each."""

    def run(self) -> Path:
        """Write the picture."""
        from zero123.data.check import show
        from zero123.images import save_picture

        save_picture(show(self.source, self.objects, self.views), self.out)
        return self.out


@dataclass(frozen=True)
class Data:
    """Check a data set, or show it."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Show, tyro.conf.subcommand("show")]
    ]

    def run(self) -> Path | None:
        """Do which was asked."""
        return self.command.run()


@dataclass(frozen=True)
class Models:
    """List the models that can be named."""

    def run(self) -> None:
        """Print a table."""
        from zero123.app.inventory import models_table

        print(models_table())


@dataclass(frozen=True)
class Doctor:
    """Say what works on this machine, and what to do about what does not."""

    def run(self) -> None:
        """Check and print; exit 1 if the main job does not work."""
        from zero123.app.inventory import examine

        if not examine():
            sys.exit(1)


def _warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Say a warning about a photo as a sentence, without the line of code that gave it."""
    if issubclass(category, UserWarning):
        print(f"zero123: {message}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; bad input is one sentence and exit code 2."""
    commands: dict[str, Callable[..., Any]] = {
        "view": View,
        "orbit": Orbit,
        "reconstruct": Reconstruct,
        "convert": Convert,
        "render": Render,
        "data": Data,
        "train": Train,
        "evaluate": Evaluate,
        "bench": Bench,
        "app": App,
        "models": Models,
        "doctor": Doctor,
    }
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            commands, prog="zero123", description=__doc__, args=arguments
        )
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            written = command.run()
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError, MemoryError) as error:
        print(f"zero123: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:  # torch says so when memory ends, on any device
        if "memory" not in str(error):
            raise
        print("zero123: out of memory: ask for fewer views or samples at once", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("zero123: stopped", file=sys.stderr)
        sys.exit(130)
    if written is not None:
        print(written)
