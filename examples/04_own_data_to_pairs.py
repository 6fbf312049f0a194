"""Meshes of your own become a checked data set, and the data set becomes training pairs.

python examples/04_own_data_to_pairs.py
"""

from pathlib import Path

import trimesh

from zero123.data import Pairs, RenderJob, find_items, open_data, run_job
from zero123.data.check import check
from zero123.images import contact_sheet, save_picture, to_pil

OUT = Path("out/04_own_data_to_pairs")


def write_tower(file: Path) -> None:
    """Write a mesh in place of yours: three coloured blocks; y is up in a .glb."""
    tower = []
    for level, colour in enumerate([(200, 60, 40), (240, 200, 60), (40, 90, 180)]):
        block = trimesh.creation.box((1.2 - 0.3 * level, 0.5, 0.8))
        block.apply_translation((0.1 * level, 0.5 * level, 0.0))
        block.visual.vertex_colors = (*colour, 255)
        tower.append(block)
    file.parent.mkdir(parents=True, exist_ok=True)
    trimesh.util.concatenate(tower).export(file)


def main() -> None:
    """Mesh, views, pairs."""
    write_tower(OUT / "meshes" / "tower.glb")

    # "fast" is the package's own rasteriser; "cycles" is Blender, as the original used it
    job = RenderJob(views=8, size=128, renderer="fast")
    report = run_job(find_items([str(OUT / "meshes")]), job, OUT / "views")
    print("rendered:", report.done, "faults:", check(str(OUT / "views")))

    # what a model learns from: a photo, the same object from elsewhere, and the move between them
    pictures, captions = [], []
    for epoch in range(4):
        for pair in Pairs(open_data(OUT / "views"), epoch=epoch, split="all"):
            pictures += [to_pil(pair.photo), to_pil(pair.target)]
            captions += ["photo", "moved by " + ", ".join(f"{each:.2f}" for each in pair.pose)]
    save_picture(contact_sheet(pictures, captions, columns=4), OUT / "pairs.png")
    print(OUT / "pairs.png")


if __name__ == "__main__":  # the processes that render read this file too
    main()
