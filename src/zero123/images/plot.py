"""Losses drawn over the steps."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

_SIZE = (720, 420)  # pixels
_MARGIN = (64, 16, 150, 40)  # left, top, right, bottom
_INKS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf")
_POINTS = 200
"""A curve is the mean of its loss over so many spans."""


def plot_losses(history: Mapping[str, Sequence[float]], steps: int, every: int = 1) -> Image.Image:
    """Draw the sizes of losses, a curve each, on a logarithmic scale; those that are all zero not.

    Args:
        history: losses by name; one that began late ends with the last step too.
        steps: in all.
        every: steps from one loss to the next.
    """
    curves = {name: _spans(losses, steps, every) for name, losses in history.items() if any(losses)}
    sheet = Image.new("RGB", _SIZE, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    left, top, right, bottom = _MARGIN
    width, height = _SIZE[0] - left - right, _SIZE[1] - top - bottom
    sizes = [size for curve in curves.values() for _, size in curve]
    low = math.floor(math.log10(min(sizes, default=0.1)))
    high = max(low + 1, math.ceil(math.log10(max(sizes, default=1.0))))

    def place(step: float, size: float) -> tuple[float, float]:
        up = (math.log10(size) - low) / (high - low)
        return left + width * step / max(1, steps), top + height * (1 - up)

    for power in range(low, high + 1):
        _, y = place(0.0, 10.0**power)
        draw.line((left, y, left + width, y), "#dddddd")
        draw.text((left - 8, y), f"1e{power}", "black", font, anchor="rm")
    draw.line((left, top, left, top + height, left + width, top + height), "black")
    for share in (0, 0.5, 1):
        x = left + width * share
        draw.text((x, top + height + 6), f"{round(steps * share)}", "black", font, anchor="ma")
    draw.text((left + width / 2, _SIZE[1] - 4), "step", "black", font, anchor="md")
    for index, (name, curve) in enumerate(curves.items()):
        ink = _INKS[index % len(_INKS)]
        draw.line([place(*point) for point in curve], ink, 2)
        draw.text((left + width + 12, top + 18 * index), name, ink, font)
    return sheet


def _spans(losses: Sequence[float], steps: int, every: int) -> list[tuple[float, float]]:
    """Middle step and mean size of each span; signs, zeros and what is not finite are left out."""
    first = steps - len(losses) * every
    span = max(1, math.ceil(len(losses) / _POINTS))
    points = []
    for begin in range(0, len(losses), span):
        part = losses[begin : begin + span]
        sizes = [abs(loss) for loss in part if math.isfinite(loss)]
        size = sum(sizes) / max(1, len(sizes))
        if size > 0:
            points.append((first + every * (begin + len(part) / 2), size))
    return points
