"""Numbers only: rigid poses, the camera and its rays, orbit positions, the four pose numbers."""

from zero123.geometry.camera import FIELD_OF_VIEW, Camera
from zero123.geometry.frames import (
    PORT_SIGNS,
    PortSigns,
    opencv_from_opengl,
    opengl_from_opencv,
    y_up_from_z_up,
    z_up_from_y_up,
)
from zero123.geometry.orbit import UNTOLD, Orbit, PoseEncoding, move_token, pose_token
from zero123.geometry.rigid import Rigid
from zero123.geometry.transforms import colmap_model, nerfstudio_transforms

__all__ = [
    "FIELD_OF_VIEW",
    "PORT_SIGNS",
    "UNTOLD",
    "Camera",
    "Orbit",
    "PortSigns",
    "PoseEncoding",
    "Rigid",
    "colmap_model",
    "move_token",
    "nerfstudio_transforms",
    "opencv_from_opengl",
    "opengl_from_opencv",
    "pose_token",
    "y_up_from_z_up",
    "z_up_from_y_up",
]
