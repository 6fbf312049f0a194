"""Once around five made-up objects that were never trained on: ``python benchmarks/orbits.py``.

Each object has two rows, the model's views and under them the true ones; the first column is the
photo. The picture in the model card is this one, of the first five objects and no others.
"""

import math
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from zero123 import Zero123Pipeline
from zero123.data import Lighting, procedural_mesh, render
from zero123.data.views import ViewSet
from zero123.geometry import Orbit
from zero123.images import contact_sheet

SEAT = Orbit(math.radians(70), math.radians(-60), 1.85)
"""Of the photo: that of the protocol gso30."""
TURNS = tuple(range(45, 360, 45))
UNSEEN = range(1_000_000, 1_000_005)
"""Made-up objects: the recipe trains on those below 30500."""


def main(model: str = "mini", out: Path = Path("docs/pictures/orbits.png")) -> None:
    """Draw the sheet.

    Args:
        model: what ``Zero123Pipeline.from_pretrained`` opens.
        out: where to write it.
    """
    pipe = Zero123Pipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    seats = [SEAT.moved(0.0, math.radians(turn)) for turn in TURNS]
    pictures: list[Image.Image] = []
    for seed in UNSEEN:
        drawn = render(procedural_mesh(seed), [SEAT, *seats], 128, Lighting())
        photo, *truth = ViewSet.on_white(drawn)
        views = pipe(
            photo,
            azimuth=list(TURNS),
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images[0, :, 0]
        rows = [photo, *(255 * views).round().astype(np.uint8), photo, *truth]
        pictures += [Image.fromarray(view) for view in rows]
    captions = ["photo", *(f"{turn}°" for turn in TURNS), "photo", *("truth" for _ in TURNS)]
    contact_sheet(pictures, captions * len(UNSEEN), columns=len(TURNS) + 1).save(out)
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
