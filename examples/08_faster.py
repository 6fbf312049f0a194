"""The same picture in less time; and back to the plain way, to the bit.

python examples/08_faster.py
"""

import time
from pathlib import Path

import torch

from zero123 import Zero123Pipeline
from zero123.images import frame, matte, read_image, save_picture, to_pil
from zero123.speed import accelerate, restore

PHOTO = Path(__file__).with_name("coffee.png")
OUT = Path("out/08_faster")

pipe = Zero123Pipeline.from_pretrained("mini")
pipe.set_progress_bar_config(disable=True)
photo = frame(matte(read_image(PHOTO)), size=pipe.image_size)


def view() -> torch.Tensor:
    """Make the same view again, and say how long it took."""
    begun = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    made = pipe(photo.image, azimuth=60, generator=generator, output_type="pt").images[0, 0, 0]
    print(f"{time.perf_counter() - begun:.2f} s")
    return made


plain = view()
accelerate(pipe, "exact")  # "fast" compiles for minutes first, "turbo" changes the picture a little
faster = view()
restore(pipe)
again = view()
print(f"off by {(faster - plain).abs().max():.1e}, then by {(again - plain).abs().max():g}")
save_picture(to_pil(faster), OUT / "view.png")
print(OUT / "view.png")
