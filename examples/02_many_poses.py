"""A folder of photos and a table of poses, written with cameras that COLMAP's readers take.

python examples/02_many_poses.py
"""

import shutil
from pathlib import Path

from PIL import Image, ImageOps

from zero123.app.cli import main

OUT = Path("out/02_many_poses")
PHOTOS = OUT / "photos"
POSES = """\
azimuth,elevation,distance,image
-45,0,0,
45,0,0,
0,30,0,
180,20,0.2,coffee.png
"""
"""Degrees; distance in units of the object's longest side. The last row is for one photo alone."""

PHOTOS.mkdir(parents=True, exist_ok=True)
shutil.copy(Path(__file__).with_name("coffee.png"), PHOTOS)
with Image.open(PHOTOS / "coffee.png") as photo:
    ImageOps.mirror(photo).save(PHOTOS / "mirrored.png")
(OUT / "poses.csv").write_text(POSES)

# on the command line: zero123 view photos --poses poses.csv --cameras colmap -o views
poses, views = str(OUT / "poses.csv"), str(OUT / "views")
main(["view", str(PHOTOS), "--poses", poses, "--cameras", "colmap", "--out", views])

for name in ("coffee", "mirrored"):
    print(OUT / "views" / name / "sheet.png")
    print(OUT / "views" / name / "cameras.png")  # a picture of where the cameras are
    print(OUT / "views" / name / "sparse" / "0" / "images.txt")
