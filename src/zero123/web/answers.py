"""What the parts of the page call; the named ones are its API too."""

import base64
import html
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from zero123.images import to_pil
from zero123.web.bundle import write_bundle
from zero123.web.placing import Cut, Placement
from zero123.web.studio import Step, Stopped
from zero123.web.visitor import Drawing, Pose, Shown, Visitor, Visitors

_THUMBNAIL = 160  # pixels
_MOST_SHOWN = 24


class Answers:
    """Everything that the page can be asked; each visitor gets their own answers."""

    def __init__(self, visitors: Visitors, model: str) -> None:
        self._visitors = visitors
        self._model = model

    def photo(
        self,
        request: gr.Request,
        file: Path | None,
        cut: Cut,
        fill: float,
        right: float,
        down: float,
    ) -> tuple[Image.Image, str]:
        """Take a photo and place its object as the model sees it.

        Args:
            request: who asks.
            file: a picture file of at most 20 MB and 25 million pixels.
            cut: how the object is cut out: auto, alpha, plain, rembg, or "as is".
            fill: longer side of the object, as a share of the square, 0.1 to 1.
            right: how far it is moved away from the middle, as a share of the square.
            down: likewise.

        Returns:
            The framed photo, and what there is to say about it, as HTML.
        """
        with _sentences():
            if file is None:
                raise ValueError("there is no photo yet: give one first")
            return _framed(self._who(request).take(file, Placement(cut, fill, right, down)))

    def place(
        self, request: gr.Request, cut: Cut, fill: float, right: float, down: float
    ) -> tuple[Image.Image, str]:
        """Place the object of the photo that was given anew; see photo.

        Returns:
            The framed photo, and what there is to say about it, as HTML.
        """
        with _sentences():
            return _framed(self._who(request).place(Placement(cut, fill, right, down)))

    def preview(
        self, request: gr.Request, azimuth: float, elevation: float, distance: float
    ) -> Image.Image:
        """See the object roughly from another side, in one step.

        Args:
            request: who asks.
            azimuth: turn of the camera to its right, degrees.
            elevation: climb of the camera, degrees.
            distance: change of distance, in units of the object's longest side.
        """
        with _sentences():
            return self._who(request).preview(_pose(azimuth, elevation, distance))

    def view(
        self,
        request: gr.Request,
        azimuth: float,
        elevation: float,
        distance: float,
        samples: float,
        seed: float,
        steps: float | None = None,
        guidance: float | None = None,
        image_elevation: float | None = None,
    ) -> Iterator[tuple[Any, Any, str]]:
        """See the object from another side.

        Args:
            request: who asks.
            azimuth: turn of the camera to its right, degrees.
            elevation: climb of the camera, degrees.
            distance: change of distance, in units of the object's longest side.
            samples: pictures of the view, 1 to 8.
            seed: the same seed gives the same pictures.
            steps: of the sampler; nothing for the model's own.
            guidance: nothing for the model's own.
            image_elevation: degrees above eye level from which the photo was taken, if known.

        Returns:
            The first sample; all pictures so far with captions, the latest first; how it went, as
            HTML.
        """
        with _sentences():
            who = self._who(request)
            drawing = _drawing(samples, seed, steps, guidance, image_elevation)
            try:
                for step in who.see(_pose(azimuth, elevation, distance), drawing):
                    yield gr.skip(), gr.skip(), _progress(step)
                yield to_pil(who.seen[-1].pictures[0]), _gallery(who), ""
            except Stopped:  # the page may not know, and show how far it was
                yield gr.skip(), gr.skip(), ""

    def orbit(
        self,
        request: gr.Request,
        frames: float,
        elevation: float,
        seed: float,
        steps: float | None = None,
        guidance: float | None = None,
        image_elevation: float | None = None,
    ) -> Iterator[tuple[Any, str]]:
        """Go once around the object.

        Args:
            request: who asks.
            frames: views around, 4 to 72.
            elevation: climb of the camera, degrees.
            seed: the same seed gives the same film.
            steps: of the sampler; nothing for the model's own.
            guidance: nothing for the model's own.
            image_elevation: degrees above eye level from which the photo was taken, if known.

        Returns:
            An endless animation, .webp; how it went, as HTML.
        """
        with _sentences():
            who = self._who(request)
            drawing = _drawing(1, seed, steps, guidance, image_elevation)
            try:
                for step in who.go_round(int(frames), elevation, drawing):
                    yield step.preview or gr.skip(), _progress(step)
                assert who.film is not None
                yield str(who.film.file), ""
            except Stopped:
                yield gr.skip(), ""

    def mesh(
        self, request: gr.Request, seed: float = 0, image_elevation: float | None = None
    ) -> Iterator[tuple[Any, str]]:
        """Make the object, to be had by object.

        Args:
            request: who asks.
            seed: the same seed gives the same object.
            image_elevation: degrees above eye level from which the photo was taken; nothing to
                have it estimated.

        Returns:
            What it looks like so far; how it went, as HTML.
        """
        with _sentences():
            who = self._who(request)
            try:
                for step in who.build(_drawing(1, seed, None, None, image_elevation)):
                    yield step.preview or gr.skip(), _progress(step)
            except Stopped:
                yield gr.skip(), ""
                return
            assert who.object is not None
            found = who.object.elevation
            said = f"The photo counts as taken from {found.degrees:.0f}° above eye level"
            if image_elevation is None:
                said += f", by estimate (confidence {found.confidence:.2f})"
            yield gr.skip(), _note(said)

    def object(self, request: gr.Request) -> str:
        """Hand over the object that was made.

        Returns:
            A .glb file.
        """
        with _sentences():
            made = self._who(request).object
            if made is None:
                raise ValueError("there is no object yet: make it first")
            return str(made.file)

    def shown_object(self, request: gr.Request) -> Any:
        """Hand over the object, if making it was not stopped."""
        return gr.skip() if self._who(request).object is None else self.object(request)

    def bundle(self, request: gr.Request) -> str:
        """Pack all that was made: photo, views with their cameras, film, object, settings.

        Returns:
            A .zip file.
        """
        with _sentences():
            return str(write_bundle(self._who(request), self._model))

    def stop(self, request: gr.Request) -> None:
        """End the work that goes on."""
        self._who(request).stop()

    def halt(self, request: gr.Request) -> str:
        """End the work that goes on, because another view is wanted."""
        self._who(request).stop()
        return ""

    def forget(self, request: gr.Request) -> None:
        """Forget the photo and what was made of it."""
        self._who(request).forget()

    def leave(self, request: gr.Request) -> None:
        """Forget who has closed the page."""
        self._visitors.leave(request.session_hash)

    def staged(self, request: gr.Request) -> dict[str, Any]:
        """Say what the sphere shows: the photo, and a camera back at its place."""
        with _sentences():
            return stage(_thumbnail(self._who(request).shown))

    def _who(self, request: gr.Request) -> Visitor:
        return self._visitors.of(request.session_hash)


@contextmanager
def _sentences() -> Iterator[None]:
    """Say what went wrong in one sentence on the page."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        raise _refusal(str(error) or "out of memory") from error
    except RuntimeError as error:  # torch says so when memory ends, on any device
        if "memory" not in str(error):
            raise
        raise _refusal("out of memory: ask for fewer samples at once") from error


def _refusal(sentence: str) -> gr.Error:
    return gr.Error(html.escape(sentence, quote=False), print_exception=False)


def _pose(azimuth: float | None, elevation: float | None, distance: float | None) -> Pose:
    """Take an empty field for no move."""
    return azimuth or 0.0, elevation or 0.0, distance or 0.0


def _drawing(
    samples: float,
    seed: float | None,
    steps: float | None,
    guidance: float | None,
    image_elevation: float | None,
) -> Drawing:
    return Drawing(
        _whole("samples", samples),
        _whole("seed", seed or 0),
        None if steps is None else _whole("steps", steps),
        guidance,
        image_elevation,
    )


def _whole(name: str, number: float) -> int:
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"{name} must be a whole number, got {number}")
    return int(number)


def _framed(shown: Shown) -> tuple[Image.Image, str]:
    return to_pil(shown.sharp.image), "".join(map(_note, shown.remarks))


def stage(photo: str = "") -> dict[str, Any]:
    """What the sphere shows: a picture, as a URL that holds it, and a camera at its place."""
    return {"azimuth": 0, "elevation": 0, "distance": 0, "photo": photo}


def _thumbnail(shown: Shown) -> str:
    picture = to_pil(shown.sharp.image).resize((_THUMBNAIL, _THUMBNAIL))
    held = io.BytesIO()
    picture.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def _gallery(who: Visitor) -> list[tuple[Image.Image, str]]:
    """All pictures of all views, the latest view first."""
    shots = []
    for seen in reversed(who.seen):
        drawing = seen.drawing
        drawn = f"seed {drawing.seed}"
        if drawing.steps is not None:
            drawn += f", {drawing.steps} steps"
        if drawing.guidance is not None:
            drawn += f", guidance {drawing.guidance:g}"
        (where,) = seen.moves().captions
        for number, picture in enumerate(seen.pictures):
            which = f", sample {number}" if drawing.samples > 1 else ""
            shots.append((to_pil(picture), f"{where}, {drawn}{which}"))
    return shots[:_MOST_SHOWN]


def _note(said: str) -> str:
    return f"<p class='note'>{html.escape(said)}</p>"


def _progress(step: Step) -> str:
    said = html.escape(step.said)
    return f"<p class='doing'>{said}</p><progress value='{step.fraction:.3f}'></progress>"
