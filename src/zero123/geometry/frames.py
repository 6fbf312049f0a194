"""The one border where other programs' frames and sign habits become ours.

Ours: cameras with Blender/OpenGL axes; azimuth positive counter-clockwise seen from above,
elevation positive up.
"""

from dataclasses import dataclass

import torch

from zero123.geometry.rigid import Rigid

_FLIP_YZ = Rigid(
    torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)),
    torch.zeros(3, dtype=torch.float64),
)
_Z_UP_FROM_Y_UP = Rigid(
    torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64),
    torch.zeros(3, dtype=torch.float64),
)


def opencv_from_opengl(camera_from_world: Rigid) -> Rigid:
    """Turn a camera that looks along −z with y up into one that looks along +z with y down."""
    return _FLIP_YZ @ camera_from_world


def opengl_from_opencv(camera_from_world: Rigid) -> Rigid:
    """Turn an OpenCV/COLMAP camera (y down, looks along +z) into a Blender/OpenGL one."""
    return _FLIP_YZ @ camera_from_world


def z_up_from_y_up(camera_from_world: Rigid) -> Rigid:
    """Re-express a camera of a y-up world (glTF, three.js) in our z-up world."""
    return camera_from_world @ _Z_UP_FROM_Y_UP.inverse


def y_up_from_z_up(camera_from_world: Rigid) -> Rigid:
    """Re-express a camera of our z-up world in a y-up world (glTF, three.js)."""
    return camera_from_world @ _Z_UP_FROM_Y_UP


@dataclass(frozen=True)
class PortSigns:
    """The signs with which a port of the method names the same move."""

    azimuth: int
    """+1: counter-clockwise seen from above is positive, as ours."""
    elevation: int
    """+1: up is positive, as ours."""

    def to_ours(self, azimuth: float, elevation: float) -> tuple[float, float]:
        """Translate a port's (azimuth, elevation) change, in any unit, into ours."""
        return self.azimuth * azimuth, self.elevation * elevation

    def from_ours(self, azimuth: float, elevation: float) -> tuple[float, float]:
        """Translate our (azimuth, elevation) change, in any unit, into the port's."""
        return self.to_ours(azimuth, elevation)  # a sign is its own inverse


PORT_SIGNS = {
    "zero123": PortSigns(azimuth=1, elevation=-1),  # the authors' demo: polar, downward
    "stable-dreamfusion": PortSigns(azimuth=-1, elevation=-1),
    "threestudio": PortSigns(azimuth=1, elevation=1),
    "comfyui": PortSigns(azimuth=1, elevation=1),
    "dreamgaussian": PortSigns(azimuth=1, elevation=-1),
}
"""By port: how its numbers for a move relate to ours."""
