"""What a reconstruction is: one frozen value, and those that are worth a name."""

from dataclasses import dataclass, field, replace
from typing import Literal

from zero123.reconstruct.fit import FitSettings
from zero123.reconstruct.sjc import SjcSettings
from zero123.reconstruct.views import PHOTO_RADIUS, Move, ring

Method = Literal["views", "sjc"]
"""views: views all around, then a field fitted to them; sjc: Score Jacobian Chaining."""
Preset = Literal["quick", "paper"]


@dataclass(frozen=True)
class Settings:
    """One reconstruction; with the photo and the model it repeats to the byte on a CPU."""

    method: Method = "views"
    elevation: float | None = None
    """From how high the photo was taken, degrees, up positive; None to estimate it."""
    moves: tuple[Move, ...] = (*ring(12), *ring(8, -30.0, 22.5), *ring(8, 30.0, 22.5))
    """Which views are made, away from the photo; those beyond the poles are left out."""
    chained: bool = False
    """Show the model the nearest view already made, instead of the photo."""
    photo_trust: float = 6.0
    """How much the photo counts, where a made view counts 1."""
    fit: FitSettings = field(default_factory=FitSettings)
    sjc: SjcSettings = field(default_factory=SjcSettings)
    faces: int = 12_000
    """Of the mesh, about, at most."""
    texture: int = 1024
    """Side of the texture, texels."""
    seed: int = 0

    @property
    def photo_radius(self) -> float:
        """Distance at which the photo counts as taken, scene units."""
        return self.sjc.photo_radius if self.method == "sjc" else PHOTO_RADIUS


VIEWS_QUICK = Settings()
SJC_PAPER = Settings(method="sjc")
"""The original to the letter. Source: ``run_zero123.py``, and the weights of its instructions."""
SJC_QUICK = replace(
    SJC_PAPER,
    sjc=SjcSettings(
        medium="rgb",
        size=48,
        resolution=64,
        half=0.65,
        density_scale=20.0,
        steps_per_voxel=1.0,
        start="silhouette",
        steps=400,
        optimiser="adam",
        rate=0.1,
        cooldown=0.2,
        guidance=(10.0, 4.0),
        noisiest=(969, 400),
        cleanest=100,
        mask=1e4,
        depth=50.0,
        depth_from=0.25,
        near=20.0,
        radii=(1.7, 2.0),
        lowest=-0.9,
        photo_radius=PHOTO_RADIUS,
    ),
)


def preset(method: Method, name: Preset) -> Settings:
    """Settings by name.

    Raises:
        ValueError: for the paper's preset of a method that the paper does not have.
    """
    if method == "views":
        if name == "paper":
            raise ValueError('the paper has no method "views": its preset goes with --method sjc')
        return VIEWS_QUICK
    return SJC_PAPER if name == "paper" else SJC_QUICK
