"""The light that the original's training pictures were taken in."""

import math
from dataclasses import dataclass

import numpy as np

from zero123.data.lighting import Lamp, Lighting

LAMP_PLACE = (4.076245, 1.005454, 5.903862)
"""Where the lamp of Blender's start-up scene stands: the original's script leaves it on."""
LAMP_WATTS = 1000.0
LAMP_RADIUS = 0.1
"""Radius of the lamp, scene units: how soft its shadows are."""
WORLD_GREY = 0.05087609
"""Linear grey of Blender's start-up world, which shines from all around."""
PANEL_SIDE = 100.0
"""Side of the square panel over the object, scene units."""
PANEL_WATTS = (300.0, 600.0)
PANEL_HEIGHTS = (0.5, 1.5)
# Fitted to Cycles' pictures of four procedural objects and four training meshes, whose film lifts
# the dark and holds back the bright: mean difference inside the outline 10 of 255.
_LAMP = 0.524
_WORLD = 0.063


@dataclass(frozen=True)
class Studio:
    """A fixed lamp, a grey world, and a panel above the object that shines straight down.

    Source: ``objaverse-rendering/scripts/blender_script.py`` of the authors' code.
    """

    panel_watts: float = 450.0
    """Power of the panel."""
    panel_place: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Middle of the panel, scene units."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.panel_watts, *self.panel_place))):
            raise ValueError(f"the panel must be somewhere and shine by some watts, got {self}")
        if self.panel_watts < 0:
            raise ValueError(f"panel_watts must not be negative, got {self.panel_watts:g}")

    def lighting(self) -> Lighting:
        """What our own renderers use for the same light: far lamps.

        The panel reaches upward surfaces alike wherever it hangs, it is that wide.
        """
        x, y, z = LAMP_PLACE
        lamp = Lamp(math.atan2(math.hypot(x, y), z), math.atan2(y, x), (_LAMP,) * 3)
        sky = _WORLD + self.panel_watts / (math.pi * PANEL_SIDE**2)  # radiance of a panel
        return Lighting(sky=(sky,) * 3, ground=(_WORLD,) * 3, lamps=(lamp,))


def sample_studio(rng: np.random.Generator) -> Studio:
    """Draw the light of one object; all its views share it, as in the original."""
    x, y = (float(v) for v in rng.uniform(-1, 1, size=2))
    z = float(rng.uniform(*PANEL_HEIGHTS))
    return Studio(panel_watts=float(rng.uniform(*PANEL_WATTS)), panel_place=(x, y, z))
