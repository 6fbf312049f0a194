"""The command that makes an object of a photo."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zero123.app.opening import Opening

if TYPE_CHECKING:
    from zero123.images import FramedPhoto
    from zero123.reconstruct import Progress, Reconstruction, Report, Settings

_SHARPEST = 512
"""Side of the photo that the texture is painted from, pixels, however small the model's."""
_FRAMES = 36
_FILM = 192
"""Side of the film's pictures, pixels."""


@dataclass(frozen=True)
class Reconstruct:
    """Make a textured object of a photo.

    Beside it comes a folder of the same name with "_files": a film once around, the views with
    their cameras, the configuration and the losses; while it works, a preview and checkpoints.
    """

    image: Annotated[Path, tyro.conf.Positional]
    """A photo: any picture file."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """.glb with the texture inside, .obj with its .mtl and .png, or .ply with vertex colours."""
    method: Literal["views", "sjc"] = "views"
    """views: make views all around and fit a field to them; sjc: Score Jacobian Chaining."""
    elevation: Literal["auto"] | float = "auto"
    """Degrees above eye level from which the photo was taken; auto asks the model."""
    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores; paper: with --method sjc, the original's 10,000 steps."""
    chained: bool = False
    """Show the model the nearest view already made, instead of the photo each time."""
    seed: int = 0
    """The same seed gives the same object."""
    resume: bool = False
    """Go on with a run that was stopped, from its newest checkpoint."""
    opening: tyro.conf.OmitArgPrefixes[Opening] = field(default_factory=Opening)

    def run(self) -> Path:
        """Make the object and all that lies beside it."""
        from zero123.app.views import check_place
        from zero123.reconstruct import reconstruct, write_object
        from zero123.reconstruct.files import check_object
        from zero123.reconstruct.run import CHECKPOINTS

        # whatever would fail at the end is told before the work
        settings = self._settings()
        check_object(self.out)
        beside = self.out.with_name(f"{self.out.stem}_files")
        check_place(beside, 2, False)
        pipe, (photo,) = self.opening.open([self.image], False, _SHARPEST)
        pipe.set_progress_bar_config(disable=True)
        with _told(beside / "preview.png") as report:
            made = reconstruct(photo, pipe, settings, beside, self.resume, report)
        write_object(made.mesh, self.out)
        _write_beside(made, photo, beside)
        shutil.rmtree(beside / CHECKPOINTS)
        return self.out

    def _settings(self) -> "Settings":
        from zero123.reconstruct import Elevation, preset

        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must be in 0 to 2^63 - 1, got {self.seed}")
        elevation = None
        if self.elevation != "auto":
            elevation = Elevation.given(self.elevation).degrees
        settings = preset(self.method, self.preset)
        return replace(settings, elevation=elevation, chained=self.chained, seed=self.seed)


@contextmanager
def _told(preview: Path) -> Iterator["Report"]:
    """Lend a report that draws a bar on the terminal, says sentences and keeps a preview file."""
    from tqdm import tqdm

    from zero123.images import save_picture, to_pil

    with tqdm(total=100, unit="%", disable=not sys.stderr.isatty()) as bar:
        stage = ""

        def report(progress: "Progress") -> None:
            nonlocal stage
            if progress.stage != stage:
                stage = progress.stage
                bar.reset()
                bar.set_description(stage)
            bar.update(round(100 * progress.fraction) - bar.n)
            if progress.said:
                print(f"zero123: {progress.said}", file=sys.stderr)
            if progress.preview is not None:
                save_picture(to_pil(progress.preview), preview)

        yield report


def _write_beside(made: "Reconstruction", photo: "FramedPhoto", folder: Path) -> None:
    """Write film, views with cameras, losses; print how the field looks from the photo's side."""
    import json
    import math

    from zero123.geometry import Camera, nerfstudio_transforms
    from zero123.images import (
        animate,
        contact_sheet,
        plot_losses,
        save_picture,
        to_pil,
        write_text,
    )
    from zero123.reconstruct.views import Move, seat_after

    views = folder / "views"
    files = [f"view_{index:03d}.png" for index in range(len(made.views))]
    pictures = [to_pil(picture) for picture in made.views.pictures]
    for file, picture in zip(files, pictures, strict=True):
        save_picture(picture, views / file)
    cameras = [Camera(seat.camera_from_world, made.views.size) for seat in made.views.seats]
    write_text(
        json.dumps(nerfstudio_transforms(cameras, files), indent=1), views / "transforms.json"
    )
    captions = [
        f"azimuth {math.degrees(seat.azimuth):.0f}°, elevation {math.degrees(seat.elevation):.0f}°"
        for seat in made.views.seats
    ]
    save_picture(contact_sheet(pictures, ["photo", *captions[1:]], 7), views / "sheet.png")

    steps = max(len(losses) for losses in made.history.values())
    write_text(json.dumps(made.history), folder / "losses.json")
    save_picture(plot_losses(made.history, steps), folder / "losses.png")
    turns = [Move(360 * frame / _FRAMES, 0.0) for frame in range(_FRAMES)]
    film = [to_pil(made.see(seat_after(turn, made.seat), _FILM)) for turn in turns]
    animate(film, folder / "orbit.mp4")
    told = f"{made.elevation.degrees:g}°, confidence {made.elevation.confidence:.2f}"
    likeness, overlap = made.likeness(photo)
    print(
        f"elevation {told}; from the photo's side: PSNR {likeness:.1f} dB, mask IoU {overlap:.3f}"
    )
