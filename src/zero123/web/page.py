"""The page itself: what is on it, and which part of it asks for what."""

import html
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

from zero123.images import TRAINING_FILL
from zero123.web.answers import Answers, stage

_CUTS = {
    "Automatic": "auto",
    "Transparency": "alpha",
    "Plain background": "plain",
    "Background remover": "rembg",
    "Use as is": "as is",
}
_LONG: dict[str, Any] = {
    "concurrency_id": "long",
    "concurrency_limit": 1,
    "show_progress": "minimal",
}
"""One after the other; what is waited for shows its place in the queue."""
_QUICK: dict[str, Any] = {"concurrency_id": "quick", "concurrency_limit": 4}
_ASIDE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Not part of the API."""

THEME = gr.themes.Default(
    primary_hue="blue",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)
"""Fonts of the machine itself: nothing is loaded from elsewhere."""


def text_beside(name: str) -> str:
    """A text file of this package."""
    return (files("zero123.web") / name).read_text(encoding="utf-8")


def _upload_path(payload: Any) -> Path | None:
    """Where an upload lies; the page's guard has seen that it is one."""
    return Path(payload.path) if payload and payload.path else None


@dataclass(frozen=True)
class _Photo:
    drop: Any
    framed: Any
    notes: Any
    placing: list[Any]


@dataclass(frozen=True)
class _Camera:
    sphere: Any
    pose: list[Any]


@dataclass(frozen=True)
class _View:
    picture: Any
    look: Any
    halt: Any
    status: Any
    samples: Any
    drawing: list[Any]


@dataclass(frozen=True)
class _Orbit:
    film: Any
    asked: list[Any]
    go: Any
    halt: Any
    status: Any


@dataclass(frozen=True)
class _Object:
    glimpse: Any
    model: Any
    make: Any
    halt: Any
    status: Any


def build_page(answers: Answers, model: str) -> Any:
    """Lay the page out, and connect its parts with the answers.

    Args:
        answers: to whatever is asked.
        model: its name.
    """
    with gr.Blocks(
        title="zero123", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as page:
        gr.HTML(
            "<h1>zero123</h1><p>One photo of an object in, the object from any other side out. "
            f"<span>Model: {html.escape(model)}</span></p>",
            elem_id="head",
        )
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                photo = _photo_part()
            with gr.Column(min_width=280):
                camera = _camera_part()
            with gr.Column(min_width=280):
                view = _view_part()
        shots = gr.Gallery(
            label="Views so far",
            columns=8,
            object_fit="contain",
            format="png",
            interactive=False,
            elem_id="shots",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                orbit = _orbit_part()
            with gr.Column(scale=2, min_width=280):
                made = _object_part()
        pack = gr.Button("Download everything", elem_id="pack", variant="primary")
        # in the page, but out of sight: it is what the browser downloads
        packed = gr.DownloadButton("zero123.zip", elem_id="packed")

        results = [view.picture, shots, orbit.film, made.glimpse, made.model]
        _connect_photo(answers, photo, camera, results)
        viewing = _connect_camera(answers, camera, view, shots)
        _connect_long(answers, view, orbit, made, viewing)
        pack.click(answers.bundle, None, packed, api_name="bundle", **_QUICK).success(
            None, js="() => { document.querySelector('#packed').click(); }", **_ASIDE
        )
        page.unload(answers.leave)
    return page


def _heading(name: str, said: str) -> None:
    gr.HTML(f"<h2>{name}</h2><p>{said}</p>", elem_classes="part", apply_default_css=False)


def _photo_part() -> _Photo:
    _heading("1 · Photo", "Of one object, best on a plain or no background.")
    drop = gr.Image(
        label="Drop, paste or choose a photo",
        type="filepath",
        sources=["upload", "clipboard"],
        height=260,
        elem_id="drop",
    )
    # Gradio would open the file itself; our own reader does, within its bounds
    drop.preprocess = _upload_path
    framed = gr.Image(
        label="As the model sees it",
        interactive=False,
        format="png",
        buttons=[],
        height=260,
        elem_id="framed",
    )
    notes = gr.HTML(elem_id="notes")
    with gr.Accordion("Place it by hand", open=False, elem_id="placing"):
        cuts = [
            (said, cut)
            for said, cut in _CUTS.items()
            if cut != "rembg" or (find_spec("rembg") and find_spec("onnxruntime"))
        ]
        placing = [
            gr.Radio(cuts, value="auto", label="Cut the object out by"),
            gr.Slider(0.1, 1.0, TRAINING_FILL, step=0.01, label="Size"),
            gr.Slider(-0.4, 0.4, 0.0, step=0.01, label="To the right"),
            gr.Slider(-0.4, 0.4, 0.0, step=0.01, label="Down"),
        ]
    return _Photo(drop, framed, notes, placing)


def _camera_part() -> _Camera:
    _heading("2 · Camera", "Drag it, use the arrow keys, or choose a side.")
    sphere = gr.HTML(
        stage(),
        html_template=text_beside("sphere.html"),
        css_template=text_beside("sphere.css"),
        js_on_load=text_beside("sphere.js"),
        apply_default_css=False,
        elem_id="sphere",
    )
    with gr.Row(elem_id="pose"):
        pose = [
            gr.Number(0, label="Azimuth °", minimum=-180, maximum=180, min_width=80),
            gr.Number(0, label="Elevation °", minimum=-90, maximum=90, min_width=80),
            gr.Number(0, label="Distance", minimum=-0.7, maximum=0.7, step=0.05, min_width=80),
        ]
    return _Camera(sphere, pose)


def _view_part() -> _View:
    _heading("3 · View", "Rough while you drag, in full when you let go.")
    picture = gr.Image(
        label="From there",
        interactive=False,
        format="png",
        buttons=["download"],
        elem_id="seen",
    )
    status = gr.HTML(elem_id="seen-status", elem_classes="status")
    with gr.Row():
        look = gr.Button("See from here", variant="primary", min_width=100, elem_id="look")
        halt = gr.Button("Cancel", min_width=100, elem_id="halt-view")
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        samples = gr.Slider(1, 8, 1, step=1, label="Samples")
        with gr.Row():
            drawing = [
                gr.Number(0, label="Seed", precision=0, min_width=100),
                gr.Number(None, label="Steps", placeholder="model's own", min_width=100),
                gr.Number(None, label="Guidance", placeholder="model's own", min_width=100),
                gr.Number(None, label="Photo's elevation °", placeholder="unknown", min_width=100),
            ]
    return _View(picture, look, halt, status, samples, drawing)


def _orbit_part() -> _Orbit:
    _heading("4 · Around", "A film once around the object.")
    film = gr.Image(
        label="Once around",
        type="filepath",
        interactive=False,
        format="webp",
        buttons=["download"],
        height=360,
        elem_id="film",
    )
    status = gr.HTML(elem_id="film-status", elem_classes="status")
    asked = [
        gr.Slider(4, 72, 24, step=1, label="Frames"),
        gr.Slider(-60, 60, 0, step=5, label="Elevation °"),
    ]
    with gr.Row():
        go = gr.Button("Go around", variant="primary", min_width=100, elem_id="go")
        halt = gr.Button("Cancel", min_width=100, elem_id="halt-film")
    return _Orbit(film, asked, go, halt, status)


def _object_part() -> _Object:
    _heading("5 · Object", "A textured .glb; minutes on two cores.")
    with gr.Row():
        glimpse = gr.Image(
            label="While it is made",
            interactive=False,
            format="png",
            buttons=[],
            height=360,
            min_width=140,
            elem_id="glimpse",
        )
        model = gr.Model3D(
            label="Object (.glb)", interactive=False, height=360, min_width=200, elem_id="model"
        )
    status = gr.HTML(elem_id="mesh-status", elem_classes="status")
    with gr.Row():
        make = gr.Button("Make the object", variant="primary", min_width=100, elem_id="make")
        halt = gr.Button("Cancel", min_width=100, elem_id="halt-mesh")
    return _Object(glimpse, model, make, halt, status)


def _connect_photo(answers: Answers, photo: _Photo, camera: _Camera, results: list[Any]) -> None:
    """A photo, or a new place for its object: all that was made before goes."""
    shown = [photo.framed, photo.notes]
    emptied = [*shown, camera.sphere, *results]
    taken = photo.drop.upload(
        answers.photo, [photo.drop, *photo.placing], shown, api_name="photo", **_QUICK
    )
    cut, *sliders = photo.placing
    placed = gr.on(
        [cut.input, *(slider.release for slider in sliders)],
        answers.place,
        photo.placing,
        shown,
        api_name="place",
        trigger_mode="always_last",
        **_QUICK,
    )
    for fresh in (taken, placed):
        fresh.success(answers.staged, None, camera.sphere, **_ASIDE)
        fresh.success(lambda: [None] * len(results), None, results, **_ASIDE)
        fresh.failure(lambda: _nothing(results), None, emptied, **_ASIDE)
    photo.drop.clear(answers.forget, api_name="forget")
    photo.drop.clear(lambda: _nothing(results), None, emptied, **_ASIDE)


def _nothing(results: list[Any]) -> list[Any]:
    return [None, "", stage(), *[None] * len(results)]


def _connect_camera(answers: Answers, camera: _Camera, view: _View, shots: Any) -> list[Any]:
    """Dragging previews, letting go views; the fields are in step with the sphere.

    Returns:
        The events that make views.
    """
    onto_fields = "(at) => [at.azimuth, at.elevation, at.distance]"
    onto_sphere = (
        "(at, turn, climb, away) => "
        "({...at, azimuth: turn ?? 0, elevation: climb ?? 0, distance: away ?? 0})"
    )
    told = {"js": onto_fields, **_ASIDE}
    camera.sphere.drag(None, camera.sphere, camera.pose, **told).then(
        answers.preview,
        camera.pose,
        view.picture,
        api_name="preview",
        trigger_mode="always_last",
        show_progress="hidden",
        **_QUICK,
    )
    for field in camera.pose:
        field.input(None, [camera.sphere, *camera.pose], camera.sphere, js=onto_sphere, **_ASIDE)
    asked = [*camera.pose, view.samples, *view.drawing]
    answered = [view.picture, shots, view.status]
    long = {"show_progress_on": view.picture, **_LONG}
    let_go = camera.sphere.release(None, camera.sphere, camera.pose, **told)
    viewing = [
        let_go.then(
            answers.view,
            asked,
            answered,
            api_name="view_when_let_go",
            api_visibility="private",
            **long,
        ),
        gr.on(
            [view.look.click, *(field.submit for field in camera.pose)],
            answers.view,
            asked,
            answered,
            api_name="view",
            trigger_mode="multiple",  # new work ends the old; once would lose a click after Cancel
            **long,
        ),
    ]
    camera.sphere.grab(answers.halt, None, view.status, cancels=viewing, queue=False, **_ASIDE)
    return viewing


def _connect_long(
    answers: Answers, view: _View, orbit: _Orbit, made: _Object, viewing: list[Any]
) -> None:
    """The orbit, the object, and what ends any work."""
    going = orbit.go.click(
        answers.orbit,
        [*orbit.asked, *view.drawing],
        [orbit.film, orbit.status],
        api_name="orbit",
        show_progress_on=orbit.film,
        **_LONG,
    )
    seed, *_, image_elevation = view.drawing
    making = made.make.click(
        answers.mesh,
        [seed, image_elevation],
        [made.glimpse, made.status],
        api_name="mesh",
        show_progress_on=made.glimpse,
        **_LONG,
    )
    # not from the generator: the viewer of Gradio 6 stays empty if it was told of steps before
    shown = {"show_progress": "hidden", **_QUICK}
    making.success(answers.shown_object, None, made.model, api_visibility="private", **shown)
    gr.Button(visible=False).click(answers.object, None, made.model, api_name="object", **shown)
    ended = gr.on(
        [view.halt.click, orbit.halt.click, made.halt.click],
        answers.stop,
        cancels=[*viewing, going, making],
        queue=False,
        api_name="stop",
        show_progress="hidden",
        trigger_mode="multiple",  # a click while another is answered counts too
    )
    statuses = [view.status, orbit.status, made.status]
    clearing = {**_ASIDE, "trigger_mode": "multiple"}
    # only now: a report of the work may have been on its way beside the first answer
    ended.then(lambda: [""] * len(statuses), None, statuses, **clearing)
    for work in viewing:
        work.failure(lambda: "", None, view.status, **clearing)
    going.failure(lambda: "", None, orbit.status, **clearing)
    making.failure(lambda: "", None, made.status, **clearing)
