"""A picture of where cameras sit around an object."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float64
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zero123.geometry import FIELD_OF_VIEW, Camera, Orbit

_SIZE = 640  # pixels
_FINER = 3
"""Drawn so many times larger, then shrunk, for smooth lines."""
_DEPTH = 0.28
"""Of a camera's pyramid, scene units."""
_MOST_NAMED = 40
_RED, _BLUE, _GREY = (200, 30, 30), (20, 80, 170), (110, 110, 110)
_Ink = tuple[int, int, int]


def plot_seats(photo: Orbit, wanted: Sequence[Orbit]) -> Image.Image:
    """Draw the photo's camera in red and the wanted ones in blue, on the sphere around the object.

    Seen from a little above, left of the photo; the far side is paler. A thread leads from each
    camera to the height of the object's middle. Numbers are those of the views, from 0; of more
    than forty none is named.

    Args:
        photo: where it was taken from.
        wanted: where views are taken from.
    """
    reach = max(seat.radius for seat in (photo, *wanted)) + _DEPTH
    here = Orbit(math.radians(65), photo.azimuth - math.radians(35), 5 * reach)
    camera = Camera(here.camera_from_world, _SIZE * _FINER, 2 * math.asin(reach / here.radius))
    page = Image.new("RGB", (camera.size, camera.size), "white")
    draw = ImageDraw.Draw(page)

    def line(points: Float64[Tensor, "n 3"], ink: _Ink, width: int) -> None:
        pixels, depths = camera.project(points)
        for start, end, depth in zip(pixels[:-1], pixels[1:], depths[:-1].tolist(), strict=True):
            # from the ink in front to almost nothing behind
            shade = 0.75 * min(max((depth - here.radius) / reach * 0.5 + 0.5, 0.0), 1.0)
            pale = tuple(round(level + (255 - level) * shade) for level in ink)
            draw.line((*start.tolist(), *end.tolist()), pale, width)

    for circle in _circles(photo.radius):
        line(circle, _GREY, 1)
    for edge in _box_edges():
        line(edge, _GREY, 4)
    seats = [*((seat, str(n), _BLUE) for n, seat in enumerate(wanted)), (photo, "photo", _RED)]
    for seat, _, ink in seats:
        foot = seat.position * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
        line(torch.stack([seat.position, foot]), ink, 2)
        for edge in _pyramid(seat):
            line(edge, ink, 6)
    page = page.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=15)
    for seat, name, ink in seats if len(wanted) <= _MOST_NAMED else seats[-1:]:
        pixels = camera.project(torch.cat(list(_pyramid(seat))))[0] / _FINER
        x, y = float(pixels[:, 0].mean()), float(pixels[:, 1].min())
        draw.text((x, y - 10), name, ink, font, anchor="mm", stroke_width=2, stroke_fill="white")
    return page


def _circles(radius: float) -> Iterator[Float64[Tensor, "n 3"]]:
    """Parallels and meridians of a sphere, every 30 degrees."""
    around = torch.linspace(0, 2 * math.pi, 121, dtype=torch.float64)
    x, y = radius * around.cos(), radius * around.sin()
    for latitude in map(math.radians, (-60, -30, 0, 30, 60)):
        height = torch.full_like(around, radius * math.sin(latitude))
        yield torch.stack([x * math.cos(latitude), y * math.cos(latitude), height], dim=1)
    for azimuth in map(math.radians, range(0, 180, 30)):
        yield torch.stack([x * math.cos(azimuth), x * math.sin(azimuth), y], dim=1)


def _box_edges() -> Iterator[Float64[Tensor, "2 3"]]:
    """The twelve edges of the box of side 1 that the object fits in."""
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3)
    for index, start in enumerate(corners):
        for end in corners[index + 1 :]:
            if int((start != end).sum()) == 1:
                yield torch.stack([start, end])


def _pyramid(seat: Orbit) -> Iterator[Float64[Tensor, "_ 3"]]:
    """What a camera sees of the space before it, and a roof on its upper side."""
    side = _DEPTH * math.tan(FIELD_OF_VIEW / 2)
    local = torch.tensor(
        [[0, 0, 0], [-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [0, 1.6, -1]],
        dtype=torch.float64,
    ) * torch.tensor([side, side, _DEPTH], dtype=torch.float64)
    points = seat.camera_from_world.inverse.apply(local)
    for corner in points[1:5]:
        yield torch.stack([points[0], corner])
    yield points[[1, 2, 3, 4, 1]]
    yield points[[4, 5, 3]]
