"""The whole way from a photo to an object, in seconds."""

from dataclasses import replace
from pathlib import Path

from zero123.images import FramedPhoto, frame, matte, read_image
from zero123.pipeline import Zero123Pipeline
from zero123.reconstruct import preset
from zero123.reconstruct.fit import FitSettings
from zero123.reconstruct.views import Move, ring

COFFEE = Path(__file__).parents[2] / "examples" / "coffee.png"
VIEWS = replace(
    preset("views", "quick"),
    elevation=20.0,
    moves=(*ring(6), Move(0.0, 30.0), Move(180.0, 30.0)),
    fit=FitSettings(size=48, resolution=32, steps=20, blocks=128, tolerance=0.3),
    faces=1000,
    texture=128,
)
_SJC = preset("sjc", "quick")
SJC = replace(
    _SJC,
    elevation=20.0,
    moves=ring(3),
    sjc=replace(_SJC.sjc, size=16, resolution=20, steps=6),
    faces=1000,
    texture=128,
)
LATENT = replace(
    SJC, sjc=replace(preset("sjc", "paper").sjc, resolution=20, steps=4, steps_per_voxel=1.0)
)


def pipeline():
    pipe = Zero123Pipeline.from_pretrained("mini")
    pipe.set_progress_bar_config(disable=True)
    pipe.settings = replace(pipe.settings, steps=2)
    return pipe


def coffee(size=128) -> FramedPhoto:
    return frame(matte(read_image(COFFEE)), size)
