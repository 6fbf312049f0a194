"""Once around the object: an animation for a page and a video.

python examples/03_orbit.py
"""

from pathlib import Path

from zero123 import Zero123Pipeline
from zero123.images import animate, frame, matte, read_image

PHOTO = Path(__file__).with_name("coffee.png")
OUT = Path("out/03_orbit")
FRAMES = 16

pipe = Zero123Pipeline.from_pretrained("mini")
photo = frame(matte(read_image(PHOTO)), size=pipe.image_size)

# all views of a call share their noise, which keeps the object steadier
turns = [360 * step / FRAMES for step in range(FRAMES)]
views = pipe(photo.image, azimuth=turns, elevation=15).images[0]

frames = [samples[0] for samples in views]
print(animate(frames, OUT / "orbit.webp", fps=8.0))
print(animate(frames, OUT / "orbit.mp4", fps=8.0))
