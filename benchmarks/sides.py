"""Is left left? ``python benchmarks/sides.py --meshes FOLDER``, or of made-up objects without it.

Views from as far to the left as to the right are asked for, and each is compared with the true
views from both sides. A model that takes no notice of the side is right half of the time; so is a
perfect one about an object whose sides look alike. The table goes to the terminal.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

from zero123 import Zero123Pipeline
from zero123.data import Lighting, Mesh, load_mesh, procedural_mesh, render
from zero123.data.views import ViewSet
from zero123.geometry import Orbit

SEAT = Orbit(math.radians(70), math.radians(-60), 1.85)
"""Of the photo: that of the protocol gso30."""
TURNS = (30, 45, 60, 90)
"""Degrees to either side."""
UNSEEN = range(1_000_000, 1_000_040)
"""Made-up objects: the recipe trains on those below 30500."""


def objects(meshes: Path | None) -> Iterator[Mesh]:
    """Meshes of a folder; or made-up ones."""
    if meshes is None:
        yield from map(procedural_mesh, UNSEEN)
    else:
        yield from map(load_mesh, sorted(meshes.rglob("*.glb")))


def main(model: str = "mini", meshes: Path | None = None) -> None:
    """Ask for views from both sides of each object.

    Args:
        model: what ``Zero123Pipeline.from_pretrained`` opens.
        meshes: a folder of .glb files; without it, 40 made-up objects.
    """
    pipe = Zero123Pipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    sides = [turn * side for turn in TURNS for side in (-1, 1)]
    seats = [SEAT.moved(0.0, math.radians(side)) for side in sides]
    off = []
    for mesh in tqdm(list(objects(meshes)), unit="object"):
        photo, *truth = ViewSet.on_white(render(mesh, [SEAT, *seats], 128, Lighting()))
        views = pipe(
            photo, azimuth=sides, generator=torch.Generator().manual_seed(0), output_type="np"
        ).images[0, :, 0]
        off.append([[np.square(view - t / 255).mean() for t in truth] for view in views])
    errors = np.array(off)
    print("| turn | left is left | right is right | the two, told apart |\n|---|---|---|---|")
    for turn, left in zip(TURNS, range(0, len(sides), 2), strict=True):
        right = left + 1
        own, other = (
            errors[:, [left, right], [left, right]],
            errors[:, [left, right], [right, left]],
        )
        told = [*(own < other).sum(0), (own.sum(1) < other.sum(1)).sum()]
        print(f"| {turn}° | " + " | ".join(f"{n} of {len(errors)}" for n in told) + " |")


if __name__ == "__main__":
    tyro.cli(main)
