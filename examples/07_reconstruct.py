"""A photo becomes a textured object; a minute or two on two cores.

python examples/07_reconstruct.py
"""

from pathlib import Path

from zero123 import Zero123Pipeline
from zero123.images import frame, matte, plot_losses, read_image, save_picture, to_pil
from zero123.reconstruct import Progress, reconstruct, write_object

PHOTO = Path(__file__).with_name("coffee.png")
OUT = Path("out/07_reconstruct")

pipe = Zero123Pipeline.from_pretrained("mini")
pipe.set_progress_bar_config(disable=True)
photo = frame(matte(read_image(PHOTO)), size=512)  # the texture takes what there is


def told(progress: Progress) -> None:
    """Keep a picture of the object as it comes about."""
    if progress.preview is not None:
        save_picture(to_pil(progress.preview), OUT / "preview.png")


made = reconstruct(photo, pipe, report=told)
write_object(made.mesh, OUT / "cup.glb")  # or .obj, .ply
steps = max(map(len, made.history.values()))
save_picture(plot_losses(made.history, steps), OUT / "losses.png")
likeness, overlap = made.likeness(photo)
print(f"elevation {made.elevation.degrees:.0f}°, PSNR {likeness:.1f} dB, mask IoU {overlap:.2f}")
print(OUT / "preview.png")
print(OUT / "losses.png")
print(OUT / "cup.glb")
