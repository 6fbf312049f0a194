"""Looking at what a model has learned so far: fixed questions with known answers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from zero123.evaluation.metrics import mean_ssim, psnr, ssim_map
from zero123.geometry import Orbit
from zero123.images import contact_sheet, to_u8
from zero123.pipeline import Zero123Pipeline
from zero123.training.features import FeatureViews

MOST_CANDIDATES = 16
"""Views among which a made one is looked for."""
_ASKED_OF_EACH = 4


@dataclass(frozen=True)
class Question:
    """One object: its photo, and views of it that are asked for among candidates."""

    photo: UInt8[np.ndarray, "H W 3"]
    seat: Orbit
    candidates: UInt8[np.ndarray, "candidates H W 3"]
    """True views; those that are asked for come first."""
    seats: tuple[Orbit, ...]
    """Of the candidates."""
    asked: int
    """So many are asked for."""


@dataclass(frozen=True)
class Figures:
    """How well questions were answered, means over all answers."""

    psnr: float
    """dB, on white."""
    ssim: float
    found: float
    """Camera obedience: share of answers to which, of all candidates, the asked one is nearest in
    mean squared error."""
    angle: float
    """Mean angle between the asked seat's direction and the nearest candidate's, degrees."""
    chance: float
    """What ``found`` would be without a camera."""

    def __str__(self) -> str:
        return (
            f"PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.3f}, camera obeyed {self.found:.0%} "
            f"(chance {self.chance:.0%}), off by {self.angle:.0f} degrees"
        )


def questions(data: FeatureViews, objects: int, held_views: int) -> list[Question]:
    """Choose fixed questions, spread over a data set.

    Args:
        data: objects and views.
        objects: how many to ask about.
        held_views: so many last views of each are the ones asked for, and the photo is none of
            them; 0: all views may be asked for, up to four.

    Returns:
        Fewer than asked for, where an object has no view that a camera may climb to from its photo.
    """
    chosen = np.linspace(0, len(data.views) - 1, min(objects, len(data.views))).astype(int)
    return [q for item in chosen.tolist() for q in _question(data, item, held_views)]


def _question(data: FeatureViews, item: int, held_views: int) -> Iterator[Question]:
    views = data.num_views
    seats = [data.views.orbit(item, view) for view in range(views)]
    # the view nearest to eye level, as people take photos
    photo = min(range(views - held_views), key=lambda v: abs(seats[v].elevation))
    first = range(views - held_views, views) if held_views else range(views)
    order = dict.fromkeys((*first, *range(views)))
    near = [
        view
        for view in order
        if view != photo and abs(seats[view].polar - seats[photo].polar) <= math.pi / 2
    ]
    asked = [view for view in near if view in first][: held_views or _ASKED_OF_EACH]
    kept = [*asked, *(view for view in near if view not in asked)][:MOST_CANDIDATES]
    if asked:
        yield Question(
            photo=np.array(data.views.images[item, photo]),
            seat=seats[photo],
            candidates=np.array(data.views.images[item, kept]),
            seats=tuple(seats[view] for view in kept),
            asked=len(asked),
        )


def look(
    pipe: Zero123Pipeline, asked: list[Question], seed: int = 0
) -> tuple[Figures, Image.Image]:
    """Ask a model all questions, with its own sampler.

    Args:
        pipe: the model.
        asked: at least one.
        seed: of all noise.

    Returns:
        The figures, and a sheet: photo, then truth and answer of each asked view, a row an object.
    """
    rows: list[tuple[float, float, float, float, float]] = []
    pictures: list[Image.Image] = []
    captions: list[str] = []
    shown = min(question.asked for question in asked)
    for question in asked:
        wanted = question.seats[: question.asked]
        made = _answers(pipe, question, seed)
        pictures.append(Image.fromarray(question.photo))
        captions.append("photo")
        for number, (view, seat) in enumerate(zip(made, wanted, strict=True)):
            truth = question.candidates[number]
            error = np.square(view.astype(float) - question.candidates).mean(axis=(1, 2, 3))
            nearest = int(error.argmin())
            apart = float(seat.position @ question.seats[nearest].position)
            apart /= seat.radius * question.seats[nearest].radius
            rows.append(
                (
                    psnr(view, truth),
                    mean_ssim(ssim_map(view, truth)),
                    float(nearest == number),
                    math.degrees(math.acos(max(-1.0, min(1.0, apart)))),
                    1 / len(question.seats),
                )
            )
            if number < shown:
                turn = math.degrees(seat.azimuth - question.seat.azimuth)
                climb = math.degrees(seat.elevation - question.seat.elevation)
                pictures += [Image.fromarray(truth), Image.fromarray(view)]
                captions += [f"truth {turn % 360:.0f}°, {climb:+.0f}°", "answer"]
    return Figures(*np.mean(rows, axis=0).tolist()), contact_sheet(
        pictures, captions, columns=1 + 2 * shown
    )


def _answers(
    pipe: Zero123Pipeline, question: Question, seed: int
) -> UInt8[np.ndarray, "asked H W 3"]:
    wanted = question.seats[: question.asked]
    made: Float[torch.Tensor, "1 poses 1 3 H W"] = pipe(
        question.photo,
        azimuth=[math.degrees(seat.azimuth - question.seat.azimuth) for seat in wanted],
        elevation=[math.degrees(seat.elevation - question.seat.elevation) for seat in wanted],
        distance=[seat.radius - question.seat.radius for seat in wanted],
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
        image_elevation=math.degrees(question.seat.elevation),
    ).images
    return to_u8(made[0, :, 0].cpu()).permute(0, 2, 3, 1).contiguous().numpy()
