"""One photo, four views: cut the object out, frame it, ask for other sides.

python examples/01_view.py
"""

from pathlib import Path

from zero123 import Zero123Pipeline
from zero123.images import contact_sheet, frame, matte, read_image, save_picture

PHOTO = Path(__file__).with_name("coffee.png")
OUT = Path("out/01_view")
MOVES = {"left": (-90, 0), "right": (90, 0), "above": (0, 60), "behind": (180, 0)}

pipe = Zero123Pipeline.from_pretrained("mini")  # or a folder, a file, a hub id
photo = frame(matte(read_image(PHOTO)), size=pipe.image_size)

# degrees: to the camera's right, and up; one photo, four poses, one sample of each
azimuth, elevation = zip(*MOVES.values(), strict=True)
views = pipe(photo.image, azimuth=azimuth, elevation=elevation).images[0]

for name, samples in zip(MOVES, views, strict=True):
    save_picture(samples[0], OUT / f"{name}.png")
sheet = contact_sheet([samples[0] for samples in views], list(MOVES), columns=4)
save_picture(sheet, OUT / "sheet.png")
print(OUT / "sheet.png")
